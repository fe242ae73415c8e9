//! Sockets: listening, accepting, TLS, the streams that workers read, and HTTP.

pub mod fetch;
pub mod gather;
pub mod grpc_health;
pub mod http;
pub mod listener;
pub mod stream;
pub mod tls;
