//! How the operating system schedules threads that feed a producer.

use thread_priority::{
    Error, NormalThreadSchedulePolicy, ThreadPriority, ThreadPriorityValue, ThreadSchedulePolicy, thread_native_id,
};

/// Batch scheduling for the calling thread, inherited by those that it starts, a producer's among them: the thread that
/// sends to the broker no longer takes the processor at a batch's first record, which would split the batch. The thread
/// stays as nice to other programs as it was.
pub fn yield_to_nobody() {
    let policy = ThreadSchedulePolicy::Normal(NormalThreadSchedulePolicy::Batch);
    let set = as_nice_as_now(policy)
        .and_then(|priority| thread_priority::set_thread_priority_and_policy(thread_native_id(), priority, policy));
    if let Err(error) = set {
        tracing::debug!(?error, "batch scheduling is not to be had; batches may be smaller");
    }
}

/// The priority of the library's scale that leaves the thread's niceness alone: it sets both at once.
fn as_nice_as_now(policy: ThreadSchedulePolicy) -> Result<ThreadPriority, Error> {
    let niceness = rustix::process::getpriority_process(None).map_err(|error| Error::OS(error.raw_os_error()))?;
    (0..=u8::MAX)
        .map_while(|value| ThreadPriorityValue::try_from(value).ok().map(ThreadPriority::Crossplatform))
        .find(|priority| priority.to_posix(policy).is_ok_and(|given| given == niceness))
        .ok_or(Error::Priority("no priority of the library's stands for this niceness"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thread_that_yields_to_nobody_is_as_nice_as_before() {
        // Threads have a niceness of their own, and anybody may be nicer.
        let thread = std::thread::spawn(|| {
            for niceness in [rustix::process::getpriority_process(None).unwrap(), 7, 19] {
                rustix::process::setpriority_process(None, niceness).unwrap();
                yield_to_nobody();
                assert_eq!(rustix::process::getpriority_process(None).unwrap(), niceness);
                let policy = thread_priority::thread_schedule_policy().unwrap();
                assert_eq!(policy, ThreadSchedulePolicy::Normal(NormalThreadSchedulePolicy::Batch));
            }
        });
        thread.join().unwrap();
    }
}
