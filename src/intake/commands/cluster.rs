//! What clients of a cluster ask. The words are Redis's: they make such clients fall back to a single server.

use crate::intake::client::{Client, ServerFacts};
use crate::resp::reply::Reply;

pub(super) fn disabled(_: &[&[u8]], _: &mut Client, _: &ServerFacts<'_>) -> Reply {
    Reply::error("ERR This instance has cluster support disabled")
}
