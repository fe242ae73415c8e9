//! What the spool imports.

#[allow(dead_code, reason = "the source as it is; the target uses a part of it")]
#[path = "../../../src/record/partition.rs"]
pub mod partition;
#[allow(dead_code, reason = "the source as it is; the target uses a part of it")]
#[path = "../../../src/record/topic.rs"]
pub mod topic;
