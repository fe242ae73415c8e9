//! Incremental decoding of commands.
