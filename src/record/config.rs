//! What a route is configured to do. Patterns and templates stand here as text; `record::route` compiles them.

use std::time::Duration;

use super::topic::TopicName;

/// A `[[log.route]]` section.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RouteConfig {
    /// Glob over the Redis key or channel (`*`, `?`, `[…]`, `{a,b}`).
    pub key: String,
    /// Which kinds of command may use the route.
    pub accept: Vec<Accept>,
    /// Topic template: text with `{key}`, `{1}` (what the first `*` matched), `{db}`, `{user}`, `{json:/pointer}`.
    pub topic: String,
    /// Values that `{json:…}` may take; empty where the template takes none.
    pub allow: Vec<String>,
    /// Create a missing topic with these counts; absent: Tidegate creates none (the broker may).
    pub create_topic: Option<CreateTopic>,
    /// What a success reply means.
    pub acknowledge: Acknowledge,
    /// How a record's partition is chosen.
    pub partition_by: PartitionBy,
    /// How long a reply may be held before the refusal.
    pub hold: Duration,
    /// What a refusal looks like to the client.
    pub on_refusal: OnRefusal,
    /// The largest record, in bytes.
    pub max_record_size: usize,
    /// What a record must be.
    pub validate: Validate,
    /// How many records are taken; absent: as many as come.
    pub rate_limit: Option<RateLimit>,
    /// Where records go that their topic does not take; absent: they are refused.
    pub dead_letter_topic: Option<TopicName>,
    /// What is added to records; absent: nothing, and not a byte is changed.
    pub enrich: Option<EnrichConfig>,
    /// How lines make one record; absent: each is its own.
    pub join_lines: Option<JoinConfig>,
}

/// How many records a route takes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RateLimit {
    /// In the long run, at least 1.
    pub records_per_second: u64,
    /// At once, after a pause; the largest command that is ever taken. At least 1.
    pub burst: u64,
    /// From all together, or from each.
    pub per: RatePer,
}

/// Whose records a rate limit counts together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RatePer {
    /// All of the route's.
    Route,
    /// Those of one client address.
    Client,
}

/// Kinds of command that a route accepts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Accept {
    /// LPUSH, RPUSH, LPUSHX, RPUSHX.
    List,
    /// XADD.
    Stream,
    /// PUBLISH, SPUBLISH.
    Publish,
    /// SET.
    Set,
    /// HSET, HMSET.
    Hash,
    /// ZADD.
    SortedSet,
}

/// How lines that are pushed one by one make one record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JoinConfig {
    /// A regular expression: what a record's first line matches, and no other does.
    pub start: String,
    /// The most lines of a record.
    pub max_lines: usize,
    /// How long a record waits for its next line.
    pub max_wait: Duration,
}

/// What is added to a route's records, and how.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct EnrichConfig {
    /// How it is written.
    pub form: EnrichAs,
    /// An id that is the same however often the record arrives.
    pub id: bool,
    /// When it came.
    pub received: bool,
    /// The Redis key or channel.
    pub key: bool,
    /// The client's address, and what it calls itself.
    pub client: bool,
    /// As whom it logged in.
    pub user: bool,
    /// The node.
    pub node: bool,
    /// Namespace, name, owner and labels of the pod that sent it.
    pub pod: bool,
}

/// How something is added to a record.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum EnrichAs {
    /// As Kafka headers.
    #[default]
    Headers,
    /// As top-level fields of a JSON object.
    Fields,
    /// As GELF's additional fields, with what GELF needs beside.
    Gelf,
}

/// Counts for a topic that Tidegate creates.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CreateTopic {
    /// Number of partitions, at least 1.
    pub partitions: i32,
    /// Replication factor, at least 1.
    pub replication: i32,
}

/// What a success reply means.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Acknowledge {
    /// All in-sync replicas have the record.
    #[default]
    Kafka,
    /// The record is on this machine's disk, on its way to Kafka.
    Spool,
    /// The record is in this process's memory. Plain Redis's promise, for those who ask for it by name.
    Enqueue,
}

/// How a record's partition is chosen.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum PartitionBy {
    /// Sticky: batches of records go to one partition, then to the next.
    #[default]
    None,
    /// A connection's records share a partition.
    Connection,
    /// Records of one Redis key share a partition; the key is the record's key in Kafka.
    Key,
    /// Records with the same value at this JSON pointer share a partition; the value is the record's key in Kafka.
    Json(String),
}

/// What a refusal looks like to the client: some clients lose silently on an error, others on a closed connection.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OnRefusal {
    /// An error reply.
    #[default]
    Error,
    /// The connection is closed.
    Close,
}

/// What a record must be.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Validate {
    /// Anything.
    #[default]
    None,
    /// One JSON text.
    Json,
}
