//! A bound on how long something may take, for what nearly always ends long before it.
//!
//! A timer that is set for each try and taken back with its answer costs two turns at the runtime's clock. These are kept,
//! set, from request to request: one that would ring too early for the next is left as it is, and costs a look when it does.

use std::cell::RefCell;
use std::future::poll_fn;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use tokio::time::{Instant, Sleep, sleep_until};

/// As many are kept by a thread; further ones are made anew.
const KEPT: usize = 256;

thread_local! {
    static KEEP: RefCell<Vec<Pin<Box<Sleep>>>> = const { RefCell::new(Vec::new()) };
}

/// Rings once.
struct Alarm {
    until: Instant,
    sleep: Option<Pin<Box<Sleep>>>,
}

/// What a future gives; nothing if that takes longer than `until`. The future can be asked again then.
pub(super) async fn within<F: Future>(until: std::time::Instant, future: Pin<&mut F>) -> Option<F::Output> {
    let mut future = future;
    let mut alarm = Alarm { until: until.into(), sleep: None };
    poll_fn(|context| match future.as_mut().poll(context) {
        Poll::Ready(output) => Poll::Ready(Some(output)),
        Poll::Pending => alarm.poll(context).map(|()| None),
    })
    .await
}

// === impl Alarm ===

impl Alarm {
    fn poll(&mut self, context: &mut Context<'_>) -> Poll<()> {
        let until = self.until;
        let kept = || KEEP.with_borrow_mut(Vec::pop).unwrap_or_else(|| Box::pin(sleep_until(until)));
        let sleep = self.sleep.get_or_insert_with(kept);
        if sleep.deadline() > until || sleep.is_elapsed() {
            sleep.as_mut().reset(until);
        }
        loop {
            ready!(sleep.as_mut().poll(context));
            if Instant::now() >= until {
                return Poll::Ready(());
            }
            sleep.as_mut().reset(until);
        }
    }
}

impl Drop for Alarm {
    fn drop(&mut self) {
        let Some(sleep) = self.sleep.take() else { return };
        // A thread that is ending keeps nothing.
        let _ = KEEP.try_with(|keep| {
            if let Ok(mut keep) = keep.try_borrow_mut()
                && keep.len() < KEPT
            {
                keep.push(sleep);
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use std::pin::pin;
    use std::time::Duration;

    use super::*;

    const SHORT: Duration = Duration::from_millis(30);
    const LONG: Duration = Duration::from_secs(60);

    fn after(time: Duration) -> std::time::Instant {
        std::time::Instant::now() + time
    }

    #[tokio::test]
    async fn what_takes_too_long_is_left_and_can_be_asked_again() {
        let started = Instant::now();
        let mut slow = pin!(tokio::time::sleep(4 * SHORT));
        assert!(within(after(SHORT), slow.as_mut()).await.is_none());
        assert!(started.elapsed() >= SHORT && started.elapsed() < 4 * SHORT);
        assert!(within(after(LONG), slow).await.is_some());
    }

    #[tokio::test]
    async fn a_kept_alarm_rings_for_the_next_when_it_should() {
        let short = |time| async move { within(after(LONG), pin!(tokio::time::sleep(time))).await };
        // Kept, it is set a minute ahead: the next is not to wait for that.
        assert!(short(SHORT / 10).await.is_some());
        let started = Instant::now();
        assert!(within(after(SHORT), pin!(std::future::pending::<()>())).await.is_none());
        assert!(started.elapsed() >= SHORT);
        // Kept, it has rung, or rings too early for this one.
        assert!(within(after(SHORT / 2), pin!(tokio::time::sleep(SHORT / 10))).await.is_some());
        let started = Instant::now();
        assert!(within(after(2 * SHORT), pin!(std::future::pending::<()>())).await.is_none());
        assert!(started.elapsed() >= 2 * SHORT);
    }
}
