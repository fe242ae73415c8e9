//! Sockets: listening, accepting, and the streams that workers read.

pub mod listener;
pub mod stream;
