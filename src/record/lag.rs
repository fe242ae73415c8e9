//! How many records of a topic a consumer group has not read yet, as LLEN tells it. Who asks gets what was found last; a
//! thread of delivery's looks anew every few seconds, for the topics that were asked for lately. Nobody waits for Kafka.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::config::Accept;
use super::route::RouteTable;
use super::topic::TopicName;

/// The most topics that are looked at; others count as read.
const MOST: usize = 256;
/// A topic that nobody asked for in so long is not looked at any more.
const LATELY: Duration = Duration::from_secs(60);
/// What was found longer ago is not known any more: shippers that watch a number for congestion must not stop for ever
/// because it no longer moves.
const FRESH: Duration = Duration::from_secs(60);

/// What is known of one group.
#[derive(Debug, Default)]
pub struct Lags(Mutex<HashMap<TopicName, Known>>);

#[derive(Clone, Copy, Debug)]
struct Known {
    asked: Instant,
    found: Option<(u64, Instant)>,
}

/// One topic's number, for `/debug/log`.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct LagReport {
    /// The topic.
    pub topic: String,
    /// Records that the group has not read yet; nothing while it is not known.
    pub unread: Option<u64>,
    /// How many seconds ago Kafka said so.
    pub seconds_ago: Option<u64>,
}

/// What LLEN asks.
#[derive(Clone, Copy, Debug)]
pub struct Lengths<'a> {
    /// Which topic a key's records go to.
    pub routes: &'a RouteTable,
    /// What is known of the topics.
    pub lags: &'a Lags,
    /// Now.
    pub now: Instant,
}

// === impl Lags ===

impl Lags {
    /// The records of the topic that the group has not read yet; 0 while that is not known. The topic is looked at from now
    /// on.
    pub fn ask(&self, topic: TopicName, now: Instant) -> u64 {
        let mut topics = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = topics.get_mut(&topic) {
            known.asked = now;
            return known.unread(now).unwrap_or(0);
        }
        if topics.len() >= MOST {
            topics.retain(|_, known| now.duration_since(known.asked) < LATELY);
        }
        if topics.len() < MOST {
            topics.insert(topic, Known { asked: now, found: None });
        }
        0
    }

    /// The topics that were asked for lately, in order; others are forgotten.
    pub fn wanted(&self, now: Instant) -> Vec<TopicName> {
        let mut topics = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        topics.retain(|_, known| now.duration_since(known.asked) < LATELY);
        let mut wanted: Vec<_> = topics.keys().cloned().collect();
        wanted.sort();
        wanted
    }

    /// Kafka said so.
    pub fn tell(&self, topic: &TopicName, unread: u64, now: Instant) {
        if let Some(known) = self.0.lock().unwrap_or_else(PoisonError::into_inner).get_mut(topic) {
            known.found = Some((unread, now));
        }
    }

    /// What is known, by topic.
    pub fn report(&self, now: Instant) -> Vec<LagReport> {
        let topics = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let report = |(topic, known): (&TopicName, &Known)| LagReport {
            topic: topic.to_string(),
            unread: known.unread(now),
            seconds_ago: known.found.map(|(_, at)| now.duration_since(at).as_secs()),
        };
        let mut reports: Vec<_> = topics.iter().map(report).collect();
        drop(topics);
        reports.sort_by(|one, other| one.topic.cmp(&other.topic));
        reports
    }
}

// === impl Known ===

impl Known {
    fn unread(&self, now: Instant) -> Option<u64> {
        self.found.filter(|(_, at)| now.duration_since(*at) < FRESH).map(|(unread, _)| unread)
    }
}

// === impl Lengths ===

impl Lengths<'_> {
    /// The unread records of the topic that lists of this key go to; 0 for a key without such a route, and where each
    /// record names its topic itself.
    pub fn of(&self, key: &[u8], database: u32, user: &str) -> u64 {
        let route = self.routes.find(key, Accept::List).ok().filter(|route| !route.reads_record());
        let topic = route.and_then(|route| route.topic(key, database, user, b"").ok());
        topic.map_or(0, |topic| self.lags.ask(topic, self.now))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn topic(name: &str) -> TopicName {
        TopicName::new(name).unwrap()
    }

    #[test]
    fn what_kafka_said_last_is_answered_until_it_is_old() {
        let (lags, now) = (Lags::default(), Instant::now());
        assert_eq!(lags.ask(topic("a"), now), 0);
        assert_eq!(lags.wanted(now), [topic("a")]);
        lags.tell(&topic("a"), 7, now);
        assert_eq!(lags.ask(topic("a"), now + Duration::from_secs(59)), 7);
        assert_eq!(lags.ask(topic("a"), now + Duration::from_secs(60)), 0);
        assert_eq!(lags.report(now + Duration::from_secs(60))[0].unread, None);
    }

    #[test]
    fn topics_that_nobody_asks_for_are_forgotten_and_their_number_is_bounded() {
        let (lags, now) = (Lags::default(), Instant::now());
        for number in 0..MOST + 5 {
            lags.ask(topic(&format!("t{number}")), now);
        }
        assert_eq!(lags.wanted(now).len(), MOST);
        let later = now + LATELY;
        lags.ask(topic("new"), later);
        assert_eq!(lags.wanted(later), [topic("new")]);
        lags.tell(&topic("t1"), 1, later);
        assert_eq!(lags.report(later).len(), 1, "what is not wanted any more is not kept");
    }
}
