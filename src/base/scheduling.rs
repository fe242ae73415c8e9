//! How the operating system schedules threads that feed a producer.

use thread_priority::{NormalThreadSchedulePolicy, ThreadPriority, ThreadSchedulePolicy, thread_native_id};

/// Batch scheduling for the calling thread, inherited by those that it starts, a producer's among them: the thread that
/// sends to the broker no longer takes the processor at a batch's first record, which would split the batch.
pub fn yield_to_nobody() {
    let policy = ThreadSchedulePolicy::Normal(NormalThreadSchedulePolicy::Batch);
    let set = thread_priority::set_thread_priority_and_policy(thread_native_id(), ThreadPriority::Min, policy);
    if let Err(error) = set {
        tracing::debug!(?error, "batch scheduling is not to be had; batches may be smaller");
    }
}
