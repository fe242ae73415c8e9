//! The route table: which topic a key's records go to, and under which rules. Compiled once, looked up once for each key
//! that a connection uses in a row.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::sync::Arc;

use globset::{GlobBuilder, GlobSet, GlobSetBuilder};
use serde::de::IgnoredAny;

use super::config::{Accept, PartitionBy, RouteConfig, Validate};
use super::join::JoinRule;
use super::partition::{PartitionChoice, murmur2};
use super::template::{ResolveError, Source, TemplateError, TopicTemplate, scalar};
use super::topic::TopicName;

/// A compiled route.
#[derive(Debug)]
pub struct Route {
    /// Its place in the configuration, from 0.
    pub index: usize,
    /// What was configured.
    pub config: RouteConfig,
    template: TopicTemplate,
    join: Option<JoinRule>,
}

/// All routes, in the order of the configuration.
#[derive(Debug)]
pub struct RouteTable {
    routes: Vec<Arc<Route>>,
    globs: GlobSet,
}

/// Why a route cannot be compiled.
#[derive(Debug, thiserror::Error)]
pub enum RouteError {
    /// The key's pattern is no glob.
    #[error("'{0}' is no glob: {1}")]
    Glob(String, #[source] globset::Error),
    /// A line's beginning is no regular expression.
    #[error("join_lines.start: {0}")]
    Join(#[from] regex::Error),
    /// The topic's template is none.
    #[error("'{0}' is no topic template: {1}")]
    Template(String, #[source] TemplateError),
}

/// Why a key has no route.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NoRoute {
    /// No pattern matches the key.
    Key,
    /// A pattern matches, but its route accepts other commands.
    Command,
}

/// Why a route does not take a record.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RecordError {
    /// Over the route's bound, in bytes.
    #[error("the record has {size} bytes, the route allows {limit} (max_record_size)")]
    TooLarge {
        /// The record's size.
        size: usize,
        /// The route's bound.
        limit: usize,
    },
    /// Not one JSON text.
    #[error("the record is not valid JSON, which the route asks for (validate = \"json\")")]
    NotJson,
}

// === impl RouteTable ===

impl RouteTable {
    /// Compiles the routes.
    ///
    /// # Errors
    /// A pattern or a template is none.
    pub fn compile(configs: Vec<RouteConfig>) -> Result<Self, RouteError> {
        let mut globs = GlobSetBuilder::new();
        let mut routes = Vec::with_capacity(configs.len());
        for (index, config) in configs.into_iter().enumerate() {
            let glob = GlobBuilder::new(&config.key).backslash_escape(true).build();
            globs.add(glob.map_err(|error| RouteError::Glob(config.key.clone(), error))?);
            let template = TopicTemplate::parse(&config.topic, &config.key)
                .map_err(|error| RouteError::Template(config.topic.clone(), error))?;
            let join = config.join_lines.as_ref().map(JoinRule::compile).transpose()?;
            routes.push(Arc::new(Route { index, config, template, join }));
        }
        let globs = globs.build().map_err(|error| RouteError::Glob("the patterns together".into(), error))?;
        Ok(Self { routes, globs })
    }

    /// The first route whose pattern matches `key` and which accepts such a command.
    ///
    /// # Errors
    /// There is none.
    pub fn find(&self, key: &[u8], kind: Accept) -> Result<&Arc<Route>, NoRoute> {
        // A key is any bytes; as a path it is matched as such, `*` crossing slashes.
        let matches = self.globs.matches(OsStr::from_bytes(key));
        let mut routes = matches.iter().filter_map(|&index| self.routes.get(index));
        match routes.clone().next() {
            None => Err(NoRoute::Key),
            Some(_) => routes.find(|route| route.config.accept.contains(&kind)).ok_or(NoRoute::Command),
        }
    }

    /// The routes in order.
    pub fn routes(&self) -> &[Arc<Route>] {
        &self.routes
    }
}

// === impl Route ===

impl Route {
    /// True where each record may name another topic.
    pub fn reads_record(&self) -> bool {
        self.template.reads_record()
    }

    /// How its lines make records; `None`: each is its own.
    #[inline]
    pub fn join_rule(&self) -> Option<&JoinRule> {
        self.join.as_ref()
    }

    /// True where records say which pod sent them.
    #[inline]
    pub fn wants_pod(&self) -> bool {
        self.config.enrich.is_some_and(|enrich| enrich.pod)
    }

    /// Whether a record of the route may be of this topic.
    pub fn may_name(&self, topic: &TopicName) -> bool {
        self.template.may_name(topic.as_str())
    }

    /// The topic for a record of `key`.
    ///
    /// # Errors
    /// The template yields none that Kafka or the route allows.
    pub fn topic(&self, key: &[u8], db: u32, user: &str, record: &[u8]) -> Result<TopicName, ResolveError> {
        let source = Source { key, glob: &self.config.key, db, user, record, allow: &self.config.allow };
        self.template.resolve(&source)
    }

    /// Whether the route takes the record.
    ///
    /// # Errors
    /// It is too large or not what the route asks for.
    #[inline]
    pub fn check(&self, record: &[u8]) -> Result<(), RecordError> {
        let limit = self.config.max_record_size;
        if record.len() > limit {
            return Err(RecordError::TooLarge { size: record.len(), limit });
        }
        match self.config.validate {
            Validate::None => Ok(()),
            Validate::Json => match serde_json::from_slice::<IgnoredAny>(record) {
                Ok(_) => Ok(()),
                Err(_) => Err(RecordError::NotJson),
            },
        }
    }

    /// Runs `put` with the partition's choice for a record; `connection` tells connections apart. A record without the
    /// field that the route partitions by goes wherever the batch goes.
    #[inline]
    pub fn with_choice<R>(
        &self,
        key: &[u8],
        connection: u32,
        record: &[u8],
        put: impl FnOnce(PartitionChoice<'_>) -> R,
    ) -> R {
        match &self.config.partition_by {
            PartitionBy::None => put(PartitionChoice::Sticky),
            PartitionBy::Connection => put(PartitionChoice::Hash(connection)),
            PartitionBy::Key => put(PartitionChoice::Key(key)),
            PartitionBy::Json(pointer) => {
                let json: Option<serde_json::Value> = serde_json::from_slice(record).ok();
                match json.as_ref().and_then(|json| json.pointer(pointer)).and_then(scalar) {
                    Some(value) => put(PartitionChoice::Key(value.as_bytes())),
                    None => put(PartitionChoice::Sticky),
                }
            }
        }
    }
}

/// The number that tells a connection's records from others', from its address.
pub fn connection_hash(address: &str) -> u32 {
    murmur2(address.as_bytes())
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::super::config::{Acknowledge, OnRefusal};
    use super::*;

    fn config(key: &str, topic: &str) -> RouteConfig {
        RouteConfig {
            key: key.into(),
            accept: vec![Accept::List],
            topic: topic.into(),
            allow: vec![],
            create_topic: None,
            acknowledge: Acknowledge::Kafka,
            partition_by: PartitionBy::None,
            hold: Duration::from_secs(2),
            on_refusal: OnRefusal::Error,
            max_record_size: 10,
            validate: Validate::None,
            rate_limit: None,
            dead_letter_topic: None,
            enrich: None,
            join_lines: None,
        }
    }

    fn found(table: &RouteTable, key: &[u8], kind: Accept) -> Result<usize, NoRoute> {
        table.find(key, kind).map(|route| route.index)
    }

    #[test]
    fn the_first_route_that_matches_wins() {
        let stream = RouteConfig { accept: vec![Accept::Stream], ..config("app-*", "s") };
        let table = RouteTable::compile(vec![config("app-a*", "a"), config("app-*", "b"), stream]).unwrap();
        assert_eq!(found(&table, b"app-a/x\xff", Accept::List), Ok(0));
        assert_eq!(found(&table, b"app-b", Accept::List), Ok(1));
        assert_eq!(found(&table, b"app-a", Accept::Stream), Ok(2));
        assert_eq!(found(&table, b"other", Accept::List), Err(NoRoute::Key));
        assert_eq!(found(&table, b"app-a", Accept::Publish), Err(NoRoute::Command));
    }

    #[test]
    fn what_the_route_does_not_take_is_said() {
        let json = RouteConfig { validate: Validate::Json, ..config("*", "t") };
        let table = RouteTable::compile(vec![json]).unwrap();
        let route = table.find(b"k", Accept::List).unwrap();
        assert_eq!(route.check(b"{\"a\":1}"), Ok(()));
        assert_eq!(route.check(b"{\"a\":"), Err(RecordError::NotJson));
        assert_eq!(route.check(b"{} {}"), Err(RecordError::NotJson));
        assert_eq!(route.check(&[b'1'; 11]), Err(RecordError::TooLarge { size: 11, limit: 10 }));
    }

    #[test]
    fn records_are_partitioned_as_configured() {
        let of = |partition_by, record: &[u8]| {
            let table = RouteTable::compile(vec![RouteConfig { partition_by, ..config("*", "t") }]).unwrap();
            table.routes()[0].with_choice(b"key", 7, record, |choice| format!("{choice:?}"))
        };
        assert_eq!(of(PartitionBy::None, b""), "Sticky");
        assert_eq!(of(PartitionBy::Connection, b""), "Hash(7)");
        assert_eq!(of(PartitionBy::Key, b""), format!("{:?}", PartitionChoice::Key(b"key")));
        let json = || PartitionBy::Json("/user/id".into());
        assert_eq!(of(json(), br#"{"user":{"id":42}}"#), format!("{:?}", PartitionChoice::Key(b"42")));
        assert_eq!(of(json(), b"no json"), "Sticky");
    }
}
