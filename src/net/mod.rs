//! Sockets: listening, accepting, TLS, and the streams that workers read.

pub mod listener;
pub mod stream;
pub mod tls;
