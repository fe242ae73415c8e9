//! RESP, the protocol of Redis: bytes in, commands out; replies in, bytes out. No I/O, no clock.
//!
//! What a client may send is an array of bulk strings or an inline command, in RESP2 and RESP3 alike (RESP3 differs in
//! what the server answers), so [`decode`] finds those in one pass over the bytes. Replies are encoded by the
//! `redis-protocol` crate from [`reply::Reply`].

pub mod decode;
pub mod encode;
mod inline;

pub mod reply;
