//! The clock by which librdkafka's threads wait.

use std::ffi::{c_int, c_long, c_void};
use std::time::{Duration, SystemTime};

/// A C `struct timespec`.
#[repr(C)]
struct Time {
    seconds: i64,
    nanos: c_long,
}

unsafe extern "C" {
    fn pthread_cond_clockwait(condition: *mut c_void, mutex: *mut c_void, clock: c_int, until: *const Time) -> c_int;
}

/// Takes the place of libc's `cnd_timedwait`, which only librdkafka calls here, and waits by the monotonic clock. libc's
/// goes by the wall clock: once that was set back by an hour, librdkafka's threads would sleep for an hour, with what is
/// in flight neither sent nor reported (its issue 2145).
#[unsafe(no_mangle)]
extern "C" fn cnd_timedwait(condition: *mut c_void, mutex: *mut c_void, deadline: *const Time) -> c_int {
    const CLOCK_MONOTONIC: c_int = 1;
    const ETIMEDOUT: c_int = 110;
    // SAFETY: by the contract of `cnd_timedwait` the deadline can be read. It was a moment ago made from the wall clock.
    let deadline = unsafe { &*deadline };
    let seconds = u64::try_from(deadline.seconds).unwrap_or(0);
    let deadline = Duration::new(seconds, u32::try_from(deadline.nanos).unwrap_or(0));
    let wall = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    let now = Duration::new(u64::try_from(now.tv_sec).unwrap_or(0), u32::try_from(now.tv_nsec).unwrap_or(0));
    let until = now.saturating_add(deadline.saturating_sub(wall));
    let until = Time {
        seconds: i64::try_from(until.as_secs()).unwrap_or(i64::MAX),
        nanos: c_long::from(until.subsec_nanos().cast_signed()),
    };
    // SAFETY: the caller owns a `cnd_t` and holds a `mtx_t`, which in glibc and musl are a `pthread_cond_t` and a
    // `pthread_mutex_t`; libc's own `cnd_timedwait` hands them to `pthread_cond_timedwait` as they are.
    match unsafe { pthread_cond_clockwait(condition, mutex, CLOCK_MONOTONIC, &raw const until) } {
        0 => thrd::SUCCESS,
        ETIMEDOUT => thrd::TIMED_OUT,
        _ => thrd::ERROR,
    }
}

/// What `cnd_timedwait` answers, as glibc's <threads.h> has it.
mod thrd {
    pub(super) const SUCCESS: i32 = 0;
    pub(super) const ERROR: i32 = 2;
    pub(super) const TIMED_OUT: i32 = 4;
}
