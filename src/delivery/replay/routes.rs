//! What replay asks of the routes. A record in the spool may be older than the configuration: its route may have changed
//! since, or be gone. The configuration of now decides, and a reload swaps it.

use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;

use crate::record::config::CreateTopic;
use crate::record::route::{Route, RouteTable};
use crate::record::topic::TopicName;

/// The routes that hold now, shared with whoever reloads them. Clones are the same.
#[derive(Clone, Debug)]
pub struct ReplayRoutes(Arc<ArcSwap<Vec<Arc<Route>>>>);

/// The routes as they were at one time.
#[derive(Clone, Debug)]
pub(super) struct Routes(Arc<Vec<Arc<Route>>>);

/// Where the records of a route go that their topic does not take.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct LettersTo {
    pub(super) topic: TopicName,
    /// How the topic is created, if it is missing.
    pub(super) create: Option<CreateTopic>,
    /// How long a topic that is closed to us is waited for.
    pub(super) patience: Duration,
}

// === impl ReplayRoutes ===

impl ReplayRoutes {
    /// Begins with these.
    pub fn new(routes: &RouteTable) -> Self {
        Self(Arc::new(ArcSwap::from_pointee(routes.routes().to_vec())))
    }

    /// From now on these hold.
    pub fn set(&self, routes: &RouteTable) {
        self.0.store(Arc::new(routes.routes().to_vec()));
    }

    pub(super) fn now(&self) -> Routes {
        Routes(self.0.load_full())
    }
}

// === impl Routes ===

impl Routes {
    /// True where no reload came between the two.
    pub(super) fn is_same(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }

    /// Where a record of the route with this key pattern goes as a dead letter. Nothing: the route is gone, or has no topic
    /// for them.
    pub(super) fn letters_of(&self, pattern: &str) -> Option<LettersTo> {
        let route =
            self.0.iter().find(|route| route.config.key == pattern && route.config.dead_letter_topic.is_some())?;
        Some(LettersTo {
            topic: route.config.dead_letter_topic.clone()?,
            create: route.config.create_topic.map(|create| CreateTopic { partitions: 1, ..create }),
            patience: route.config.hold / 2,
        })
    }

    /// True for a topic that takes dead letters.
    pub(super) fn takes_letters(&self, topic: &TopicName) -> bool {
        self.0.iter().any(|route| route.config.dead_letter_topic.as_ref() == Some(topic))
    }

    /// How a topic is created, if it is missing: as the first route says that creates topics and may have named this one.
    /// Which route a record in the spool came by is not known from its topic alone.
    pub(super) fn create(&self, topic: &TopicName) -> Option<CreateTopic> {
        let named = self.0.iter().filter(|route| route.may_name(topic)).find_map(|route| route.config.create_topic);
        named.or_else(|| {
            let letters = |route: &&Arc<Route>| route.config.dead_letter_topic.as_ref() == Some(topic);
            let create = self.0.iter().filter(letters).find_map(|route| route.config.create_topic);
            create.map(|create| CreateTopic { partitions: 1, ..create })
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::config::{Accept, Acknowledge, OnRefusal, PartitionBy, RouteConfig, Validate};

    fn route(key: &str, topic: &str, create: Option<i32>, letters: Option<&str>) -> RouteConfig {
        RouteConfig {
            key: key.into(),
            accept: vec![Accept::List],
            topic: topic.into(),
            allow: vec![],
            create_topic: create.map(|partitions| CreateTopic { partitions, replication: 1 }),
            acknowledge: Acknowledge::Spool,
            partition_by: PartitionBy::None,
            hold: Duration::from_secs(4),
            on_refusal: OnRefusal::Error,
            max_record_size: 1000,
            validate: Validate::None,
            rate_limit: None,
            dead_letter_topic: letters.map(|topic| TopicName::new(topic).unwrap()),
            enrich: None,
            join_lines: None,
        }
    }

    fn name(topic: &str) -> TopicName {
        TopicName::new(topic).unwrap()
    }

    #[test]
    fn the_configuration_of_now_decides() {
        let one = RouteTable::compile(vec![
            route("a-*", "logs.{key}", Some(3), Some("dead")),
            route("b", "fixed", None, None),
        ]);
        let shared = ReplayRoutes::new(&one.unwrap());
        let before = shared.now();
        let letters = before.letters_of("a-*").unwrap();
        assert_eq!((letters.topic.as_str(), letters.patience), ("dead", Duration::from_secs(2)));
        assert_eq!(letters.create.map(|create| create.partitions), Some(1));
        assert_eq!((before.letters_of("b"), before.letters_of("gone")), (None, None));
        let partitions = |routes: &Routes, topic: &str| routes.create(&name(topic)).map(|create| create.partitions);
        assert_eq!(partitions(&before, "logs.a-1"), Some(3));
        assert_eq!((partitions(&before, "dead"), partitions(&before, "fixed")), (Some(1), None));
        assert!(before.takes_letters(&name("dead")) && !before.takes_letters(&name("fixed")));
        shared.set(&RouteTable::compile(vec![route("b", "fixed", Some(2), None)]).unwrap());
        let after = shared.now();
        assert!(!after.is_same(&before) && after.is_same(&shared.now()));
        assert_eq!((after.letters_of("a-*"), partitions(&after, "logs.a-1")), (None, None));
        assert_eq!(partitions(&after, "fixed"), Some(2));
    }
}
