//! Which Apps are to be looked at, and when: in the order in which they become due, and no App twice at the same time.
//!
//! A look may take as long as whoever is asked in it takes to answer. So looks are not made in rounds: one that takes long keeps its
//! own App waiting, and no other. (The scheduler of kube's runtime holds what may not run yet in no order: of more Apps that are due
//! than are looked at at once, one could wait for ever.)

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use super::controller::Next;
use super::store::Key;
use crate::base::backoff::Backoff;

/// Changes that come close together are one look.
const GATHER: Duration = Duration::from_millis(20);
/// Between two looks at a release that is under way.
const PERIOD: Duration = Duration::from_secs(1);
/// After a look that failed: doubled from one to the other.
const PAUSE: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(30));

/// Apps that are to be looked at.
#[derive(Debug, Default)]
pub(super) struct Queue {
    /// When each that waits is due.
    waiting: BTreeMap<Key, Instant>,
    /// The same, the first that is due first.
    order: BTreeSet<(Instant, Key)>,
    /// Those that are looked at now, and whether something of them has changed since that began.
    busy: BTreeMap<Key, bool>,
    /// Of those whose last look failed.
    failures: BTreeMap<Key, Backoff>,
}

// === impl Queue ===

impl Queue {
    /// Something of an App has changed.
    pub(super) fn changed(&mut self, key: Key, now: Instant) {
        match self.busy.get_mut(&key) {
            Some(again) => *again = true,
            None => self.wait(key, now + GATHER),
        }
    }

    /// The App that is to be looked at next, if one is due; its look has begun with this.
    pub(super) fn begin(&mut self, now: Instant) -> Option<Key> {
        let (at, key) = self.order.pop_first()?;
        if at > now {
            self.order.insert((at, key));
            return None;
        }
        self.waiting.remove(&key);
        self.busy.insert(key.clone(), false);
        Some(key)
    }

    /// A look has ended, with this; `random` is from 0 to 1.
    pub(super) fn end(&mut self, key: Key, next: Next, now: Instant, random: f64) {
        let changed = self.busy.remove(&key).unwrap_or_default();
        let pause = match next {
            Next::Rest => None,
            Next::Again => Some(PERIOD),
            Next::Failed => {
                let backoff = self.failures.entry(key.clone()).or_insert_with(|| Backoff::new(PAUSE.0, PAUSE.1));
                Some(backoff.next(random))
            }
        };
        if next != Next::Failed {
            self.failures.remove(&key);
        }
        if changed {
            self.wait(key, now + GATHER);
        } else if let Some(pause) = pause {
            self.wait(key, now + pause);
        }
    }

    /// When the first is due.
    pub(super) fn due(&self) -> Option<Instant> {
        self.order.first().map(|(at, _)| *at)
    }

    /// For how long the first that is due has been so.
    pub(super) fn late(&self, now: Instant) -> Duration {
        self.due().map(|due| now.saturating_duration_since(due)).unwrap_or_default()
    }

    /// One that waits already is due by whichever is earlier.
    fn wait(&mut self, key: Key, at: Instant) {
        let before = self.waiting.get(&key).copied();
        if before.is_some_and(|before| before <= at) {
            return;
        }
        if let Some(before) = before {
            self.order.remove(&(before, key.clone()));
        }
        self.waiting.insert(key.clone(), at);
        self.order.insert((at, key));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(app: &str) -> Key {
        ("shop".to_owned(), app.to_owned())
    }

    #[test]
    fn changes_that_come_close_together_are_one_look() {
        let (mut queue, now) = (Queue::default(), Instant::now());
        queue.changed(key("a"), now);
        queue.changed(key("a"), now + GATHER / 2);
        assert_eq!(queue.begin(now), None);
        assert_eq!(queue.due(), Some(now + GATHER), "a change that comes later does not put it off");
        assert_eq!(queue.begin(now + GATHER), Some(key("a")));
        queue.end(key("a"), Next::Rest, now + GATHER, 0.0);
        assert_eq!((queue.begin(now + 99 * PAUSE.1), queue.due()), (None, None));
    }

    #[test]
    fn an_app_that_is_looked_at_is_not_looked_at_twice_and_one_that_has_changed_meanwhile_is_looked_at_again() {
        let (mut queue, now) = (Queue::default(), Instant::now());
        queue.changed(key("slow"), now);
        assert_eq!(queue.begin(now + GATHER), Some(key("slow")));
        queue.changed(key("slow"), now + GATHER);
        queue.changed(key("other"), now + GATHER);
        let later = now + 5 * PERIOD;
        assert_eq!(queue.begin(later), Some(key("other")), "one that takes long keeps no other waiting");
        assert_eq!(queue.begin(later), None);
        queue.end(key("slow"), Next::Rest, later, 0.0);
        assert_eq!(queue.begin(later + GATHER), Some(key("slow")));
    }

    #[test]
    fn the_first_that_is_due_comes_first_and_for_how_long_it_has_waited_is_told() {
        let (mut queue, now) = (Queue::default(), Instant::now());
        queue.changed(key("b"), now);
        queue.changed(key("a"), now + Duration::from_millis(1));
        queue.changed(key("c"), now + PERIOD);
        let later = now + 2 * GATHER;
        assert_eq!((queue.late(now), queue.late(later)), (Duration::ZERO, GATHER));
        assert_eq!(
            [queue.begin(later), queue.begin(later), queue.begin(later)],
            [Some(key("b")), Some(key("a")), None]
        );
    }

    #[test]
    fn one_under_way_is_looked_at_each_second_and_one_that_failed_less_and_less_often_until_something_changes() {
        let (mut queue, mut now) = (Queue::default(), Instant::now());
        /// How long it waited for its look, which ends like this at once.
        fn wait(queue: &mut Queue, now: &mut Instant, next: Next) -> Duration {
            let since = std::mem::replace(now, queue.due().unwrap());
            let key = queue.begin(*now).unwrap();
            queue.end(key, next, *now, 1.0);
            *now - since
        }
        queue.changed(key("a"), now);
        assert_eq!(wait(&mut queue, &mut now, Next::Again), GATHER);
        assert_eq!(wait(&mut queue, &mut now, Next::Failed), PERIOD);
        let waits: Vec<_> = (0..6).map(|_| wait(&mut queue, &mut now, Next::Failed).as_secs()).collect();
        assert_eq!(waits, [1, 2, 4, 8, 16, 30]);
        queue.changed(key("a"), now);
        assert_eq!(wait(&mut queue, &mut now, Next::Again), GATHER, "a change is a reason to try again at once");
        assert_eq!(wait(&mut queue, &mut now, Next::Failed), PERIOD);
        assert_eq!(wait(&mut queue, &mut now, Next::Again), PAUSE.0, "a look that went well forgets the failures");
    }
}
