//! The log plane beside redis-server.
fn main() {}
