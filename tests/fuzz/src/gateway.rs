//! What decides where a request ends, its source as it is.

#[allow(dead_code, reason = "the target uses a part of it")]
#[path = "../../../src/gateway/framing/mod.rs"]
pub mod framing;
#[allow(dead_code, reason = "the target uses a part of it")]
#[path = "../../../src/gateway/reason.rs"]
pub mod reason;
