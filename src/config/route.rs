//! `[[log.route]]`.

use std::time::Duration;

use globset::Glob;
use toml::Value;

use super::section::Section;
use super::template::{check_pointer, check_topic, count_wildcards};
use super::{enrich, join};
use crate::base::units::ByteSize;
use crate::record::config::{
    Accept, Acknowledge, CreateTopic, OnRefusal, PartitionBy, RateLimit, RatePer, RouteConfig, Validate,
};
use crate::record::topic::TopicName;

const DEFAULT_MAX_RECORD: usize = 256 << 10;
/// Beyond it a record's interval, in whole nanoseconds, is no longer exact to a percent.
const MAX_RATE: u64 = 10_000_000;
const ACCEPT: [(&str, Accept); 6] = [
    ("list", Accept::List),
    ("stream", Accept::Stream),
    ("publish", Accept::Publish),
    ("set", Accept::Set),
    ("hash", Accept::Hash),
    ("sorted-set", Accept::SortedSet),
];
/// How many of them a route accepts that names none: commands that keep a value elsewhere must be asked for.
const ACCEPT_DEFAULT: usize = 3;
const ACCEPT_WORDS: &str = "use \"list\", \"stream\", \"publish\", \"set\", \"hash\", \"sorted-set\"";

/// What the rest of `[log]` sets bounds to a route with.
#[derive(Clone, Copy)]
pub(super) struct Bounds {
    /// `log.max_record_size`, in bytes.
    pub(super) record_size: usize,
    /// What `log.kafka.linger` lets every record wait.
    pub(super) linger: Duration,
    /// `log.kafka.max_created_topics`.
    pub(super) created_topics: usize,
    /// There is a `[log.spool]`.
    pub(super) has_spool: bool,
}

/// Reads all routes of `[log]`; at least one must stand there.
pub(super) fn read_all(log: &mut Section<'_>, bounds: Bounds) -> Vec<RouteConfig> {
    let mut routes: Vec<RouteConfig> = Vec::new();
    for mut section in log.tables("route") {
        let route = read(&mut section, bounds);
        join::check(&mut section, &route);
        let earlier = routes.iter().position(|other| other.key == "*" || other.key == route.key);
        if let (Some(index), false) = (earlier, route.key.is_empty()) {
            let fault = format!("can never match: the first match wins, and log.route[{index}] takes every such key");
            section.problem("key", format!("{fault}; remove one, or put the narrower one first"));
        }
        section.finish();
        routes.push(route);
    }
    if routes.is_empty() {
        log.problem(
            "route",
            "missing: without a route every record is refused; add [[log.route]] with a key, as \"app-*\"",
        );
    }
    routes
}

fn read(section: &mut Section<'_>, bounds: Bounds) -> RouteConfig {
    let key = read_key(section);
    let accept = read_accept(section);
    let (topic, allow) = read_topic(section, &key);
    RouteConfig {
        accept,
        allow,
        create_topic: read_create_topic(section, bounds.created_topics),
        acknowledge: read_acknowledge(section, bounds.has_spool),
        partition_by: read_partition_by(section),
        hold: read_hold(section, bounds.linger),
        on_refusal: section.choice("on_refusal", ("error", OnRefusal::Error), [("close", OnRefusal::Close)], &[]),
        max_record_size: read_record_size(section, bounds.record_size),
        validate: section.choice("validate", ("none", Validate::None), [("json", Validate::Json)], &[]),
        rate_limit: read_rate_limit(section),
        dead_letter_topic: read_dead_letter_topic(section, &topic),
        enrich: enrich::read(section),
        join_lines: join::read(section),
        topic,
        key,
    }
}

fn read_key(section: &mut Section<'_>) -> String {
    let given = section.has("key");
    let key = section.text("key").unwrap_or_default();
    if !given {
        section.problem("key", "missing: give a glob over the Redis key, as \"app-*\"");
    } else if let Err(error) = Glob::new(key) {
        section.problem("key", format!("{key:?} is no glob: {}", error.kind()));
    }
    section.show("key", key);
    key.to_owned()
}

fn read_accept(section: &mut Section<'_>) -> Vec<Accept> {
    let Some(items) = section.texts("accept") else {
        let default = ACCEPT.iter().take(ACCEPT_DEFAULT);
        section.show("accept", default.clone().map(|(word, _)| Value::from(*word)).collect::<Vec<_>>());
        return default.map(|(_, accept)| *accept).collect();
    };
    if items.is_empty() {
        section.problem("accept", format!("is empty, so that the route takes nothing: {ACCEPT_WORDS}"));
    }
    let mut accept = Vec::new();
    for item in &items {
        match ACCEPT.iter().find(|(word, _)| *word == item.text) {
            Some((_, kind)) if accept.contains(kind) => {
                section.item_problem(item, format!("{:?} stands here twice: remove one", item.text))
            }
            Some((_, kind)) => accept.push(*kind),
            None => {
                section.item_problem(item, format!("{:?} is unknown: {ACCEPT_WORDS}", item.text));
            }
        }
    }
    section.show("accept", super::log::texts(&items));
    accept
}

/// The topic's template and the values that its `{json:…}` may take.
fn read_topic(section: &mut Section<'_>, key: &str) -> (String, Vec<String>) {
    let topic = section.text("topic").unwrap_or("logs.{key}");
    section.show("topic", topic);
    let allow = section.texts("allow").unwrap_or_default();
    match check_topic(topic) {
        Err(problem) => section.problem("topic", problem),
        Ok(needs) => {
            let wildcards = count_wildcards(key);
            if needs.wildcards > wildcards {
                let fault = format!("names {{{}}}, but the key {key:?} has {wildcards} wildcard(s)", needs.wildcards);
                section.problem("topic", format!("{fault}: add a * to the key, or use {{key}}"));
            }
            if needs.json && allow.is_empty() {
                let remedy = "list the values that may become topics as allow = [\"…\"]";
                section.problem("topic", format!("takes values out of records, which clients choose freely: {remedy}"));
            }
            if !needs.json && section.has("allow") {
                section.problem("allow", "has no effect, because the topic names no {json:/POINTER}: remove it");
            }
        }
    }
    if section.has("allow") {
        section.show("allow", super::log::texts(&allow));
    }
    (topic.to_owned(), allow.iter().map(|item| item.text.to_owned()).collect())
}

fn read_create_topic(section: &mut Section<'_>, created_topics: usize) -> Option<CreateTopic> {
    let mut table = section.inline("create_topic")?;
    let partitions = table.required_number("partitions", 1..=100_000);
    let replication = table.required_number("replication", 1..=1_000);
    table.finish();
    if created_topics == 0 {
        section.problem(
            "create_topic",
            "has no effect, because log.kafka.max_created_topics is 0: raise that, or remove this",
        );
    }
    let mut shown = toml::Table::new();
    shown.insert("partitions".to_owned(), Value::from(partitions));
    shown.insert("replication".to_owned(), Value::from(replication));
    section.show("create_topic", shown);
    Some(CreateTopic { partitions, replication })
}

fn read_acknowledge(section: &mut Section<'_>, has_spool: bool) -> Acknowledge {
    let words = [("spool", Acknowledge::Spool), ("enqueue", Acknowledge::Enqueue)];
    let acknowledge = section.choice("acknowledge", ("kafka", Acknowledge::Kafka), words, &[]);
    if acknowledge == Acknowledge::Spool && !has_spool {
        let remedy = "add [log.spool] with a directory, or use \"kafka\"";
        section.problem("acknowledge", format!("\"spool\" needs a spool, and there is none: {remedy}"));
    }
    acknowledge
}

fn read_rate_limit(section: &mut Section<'_>) -> Option<RateLimit> {
    let mut table = section.inline("rate_limit")?;
    let mut number = |key| table.required_number(key, 1..=MAX_RATE).max(1).unsigned_abs().into();
    let (records_per_second, burst) = (number("records_per_second"), number("burst"));
    let (word, per) = match table.text("per") {
        None | Some("route") => ("route", RatePer::Route),
        Some("client") => ("client", RatePer::Client),
        Some(text) => {
            table.problem("per", format!("{text:?} is unknown: use \"route\", \"client\""));
            ("route", RatePer::Route)
        }
    };
    table.finish();
    let mut shown = toml::Table::new();
    shown.insert("records_per_second".to_owned(), Value::from(i64::try_from(records_per_second).unwrap_or(i64::MAX)));
    shown.insert("burst".to_owned(), Value::from(i64::try_from(burst).unwrap_or(i64::MAX)));
    shown.insert("per".to_owned(), Value::from(word));
    section.show("rate_limit", shown);
    Some(RateLimit { records_per_second, burst, per })
}

fn read_partition_by(section: &mut Section<'_>) -> PartitionBy {
    let text = section.text("partition_by").unwrap_or("none");
    section.show("partition_by", text);
    match (text, text.strip_prefix("json:")) {
        ("none", _) => PartitionBy::None,
        ("connection", _) => PartitionBy::Connection,
        ("key", _) => PartitionBy::Key,
        (_, Some(pointer)) => {
            if let Err(problem) = check_pointer(pointer) {
                section.problem("partition_by", problem);
            }
            PartitionBy::Json(pointer.to_owned())
        }
        _ => {
            section.problem(
                "partition_by",
                format!("{text:?} is unknown: use \"none\", \"connection\", \"key\" or \"json:/POINTER\""),
            );
            PartitionBy::None
        }
    }
}

fn read_dead_letter_topic(section: &mut Section<'_>, own: &str) -> Option<TopicName> {
    let text = section.text("dead_letter_topic")?;
    section.show("dead_letter_topic", text);
    match TopicName::new(text) {
        Ok(_) if text == own => {
            section.problem("dead_letter_topic", "is the route's own topic: name another one");
            None
        }
        Ok(topic) => Some(topic),
        Err(error) => {
            section.problem("dead_letter_topic", format!("{error}: write one topic's name, as \"dead-letters\""));
            None
        }
    }
}

fn read_hold(section: &mut Section<'_>, linger: Duration) -> Duration {
    let hold = Duration::from_millis(section.number("hold_ms", 1..=600_000, 2_000));
    if hold <= linger {
        let fault = format!(
            "{} is not above log.kafka.linger ({}), so that every record would be refused",
            hold.as_millis(),
            linger.as_millis()
        );
        section.problem("hold_ms", format!("{fault}: raise it, or lower the linger"));
    }
    hold
}

fn read_record_size(section: &mut Section<'_>, most: usize) -> usize {
    let wide = |size: usize| ByteSize(u64::try_from(size).unwrap_or(u64::MAX));
    let default = wide(DEFAULT_MAX_RECORD.min(most));
    let size = section.size("max_record_size", ByteSize(1)..=ByteSize(u64::MAX), default);
    if size > most {
        let fault = format!("{} is above log.max_record_size ({})", wide(size), wide(most));
        section.problem("max_record_size", format!("{fault}: lower it, or raise that"));
    }
    size
}
