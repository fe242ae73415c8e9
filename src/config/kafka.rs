//! `[log.kafka]`. librdkafka itself is asked whether it knows a property and takes its value.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use rdkafka::client::ClientContext;
use rdkafka::config::{ClientConfig, RDKafkaLogLevel};
use rdkafka::error::KafkaError;
use rdkafka::producer::{BaseProducer, DeliveryResult, ProducerContext};
use rdkafka::types::RDKafkaConfRes;
use toml::Value;

use super::section::Section;
use crate::delivery::config::{Compression, KafkaConfig, Linger};

const ASKS_ALL: &str = "a reply means that all in-sync replicas have the record, in order and once";
const BOUNDED: &str = "what waits for Kafka is bounded by log.memory_limit";
const BATCHES: &str = "batches grow with what is in flight";
const HOLDS: &str = "how long a record is tried is bounded by the routes' hold_ms";
const REPORTS: &str = "replies depend on delivery reports as Tidegate asks for them";
const PARTITIONS: &str = "records are partitioned as the routes' partition_by says";

/// Properties that Tidegate sets itself, with the reason or the key that stands for them.
const OURS: [(&str, &str); 30] = [
    ("bootstrap.servers", "set log.kafka.brokers instead"),
    ("metadata.broker.list", "set log.kafka.brokers instead"),
    ("compression.codec", "set log.kafka.compression instead"),
    ("compression.type", "set log.kafka.compression instead"),
    ("linger.ms", "set log.kafka.linger instead"),
    ("queue.buffering.max.ms", "set log.kafka.linger instead"),
    ("message.max.bytes", "set log.max_record_size instead"),
    ("enable.idempotence", ASKS_ALL),
    ("enable.gapless.guarantee", ASKS_ALL),
    ("acks", ASKS_ALL),
    ("request.required.acks", ASKS_ALL),
    ("max.in.flight", ASKS_ALL),
    ("max.in.flight.requests.per.connection", ASKS_ALL),
    ("retries", ASKS_ALL),
    ("message.send.max.retries", ASKS_ALL),
    ("transactional.id", ASKS_ALL),
    ("queuing.strategy", ASKS_ALL),
    ("queue.buffering.max.messages", BOUNDED),
    ("queue.buffering.max.kbytes", BOUNDED),
    ("batch.num.messages", BATCHES),
    ("batch.size", BATCHES),
    ("queue.buffering.backpressure.threshold", BATCHES),
    ("message.timeout.ms", HOLDS),
    ("delivery.timeout.ms", HOLDS),
    ("delivery.report.only.error", REPORTS),
    ("dr_cb", REPORTS),
    ("dr_msg_cb", REPORTS),
    ("enabled_events", REPORTS),
    ("partitioner", PARTITIONS),
    ("sticky.partitioning.linger.ms", PARTITIONS),
];

/// Properties whose value is a secret.
const SECRETS: [&str; 6] = [
    "sasl.password",
    "ssl.key.password",
    "ssl.key.pem",
    "ssl.keystore.password",
    "sasl.oauthbearer.client.secret",
    "sasl.oauthbearer.config",
];

/// Reads the section; beside it the linger that a reply waits at least, for the routes to compare.
pub(super) fn read(mut section: Section<'_>) -> (KafkaConfig, Duration) {
    let brokers = read_brokers(&mut section);
    let linger = read_linger(&mut section);
    let compression = section.choice(
        "compression",
        ("lz4", Compression::Lz4),
        [
            ("none", Compression::None),
            ("zstd", Compression::Zstd),
            ("snappy", Compression::Snappy),
            ("gzip", Compression::Gzip),
        ],
        &[],
    );
    let max_created_topics = section.number("max_created_topics", 0..=100_000, 1_000);
    let properties = read_properties(&mut section);
    section.finish();
    let max_created_topics = usize::try_from(max_created_topics).unwrap_or(usize::MAX);
    let wait = match linger {
        Linger::Adaptive => Duration::ZERO,
        Linger::Fixed(wait) => wait,
    };
    (KafkaConfig { brokers, linger, compression, properties, max_created_topics }, wait)
}

/// What stands in for a section that is missing, so that reading can go on to further problems.
pub(super) fn absent() -> (KafkaConfig, Duration) {
    let config = KafkaConfig {
        brokers: Vec::new(),
        linger: Linger::Adaptive,
        compression: Compression::Lz4,
        properties: BTreeMap::new(),
        max_created_topics: 1,
    };
    (config, Duration::ZERO)
}

fn read_brokers(section: &mut Section<'_>) -> Vec<String> {
    let given = section.has("brokers");
    let items = section.texts("brokers").unwrap_or_default();
    if !given {
        section.problem("brokers", "missing: name at least one broker, as [\"kafka-1:9092\"]");
    } else if items.is_empty() && section.is_list("brokers") {
        section.problem("brokers", "is empty: name at least one broker, as [\"kafka-1:9092\"]");
    }
    for item in &items {
        let port = item.text.rsplit_once(':').filter(|(host, _)| !host.is_empty()).map(|(_, port)| port.parse::<u16>());
        let blank = item.text.chars().any(|char| char.is_whitespace() || char == ',');
        if blank || !matches!(port, Some(Ok(1..))) {
            section.item_problem(item, format!("{:?} is no broker: write HOST:PORT, as \"kafka-1:9092\"", item.text));
        }
    }
    section.show("brokers", super::log::texts(&items));
    items.iter().map(|item| item.text.to_owned()).collect()
}

fn read_linger(section: &mut Section<'_>) -> Linger {
    if section.is_number("linger") {
        let linger = section.number("linger", 0..=60_000, 0);
        return Linger::Fixed(Duration::from_millis(linger));
    }
    match section.text("linger") {
        None | Some("adaptive") => section.show("linger", "adaptive"),
        Some(text) => {
            section.problem("linger", format!("{text:?} is unknown: use \"adaptive\" or a number of milliseconds"))
        }
    }
    Linger::Adaptive
}

fn read_properties(section: &mut Section<'_>) -> BTreeMap<String, String> {
    let mut properties = BTreeMap::new();
    let mut sound = true;
    if let Some(mut table) = section.inline("properties") {
        let mut shown = toml::Table::new();
        for (name, value) in table.entries() {
            match check_property(name, &value, false) {
                Ok(()) => {
                    shown.insert(name.to_owned(), Value::from(value.as_str()));
                    properties.insert(name.to_owned(), value);
                }
                Err(problem) => {
                    sound = false;
                    table.problem(name, problem);
                }
            }
        }
        section.show("properties", shown);
    }
    if let Some(mut table) = section.inline("properties_files") {
        let mut shown = toml::Table::new();
        for (name, path) in table.entries() {
            shown.insert(name.to_owned(), Value::from(path.as_str()));
            let checked =
                table.secret(name, &path).and_then(|value| check_property(name, &value, true).map(|()| value));
            let outcome = match checked {
                Ok(value) => {
                    properties.insert(name.to_owned(), value).map(|_| "stands in properties too: remove one".to_owned())
                }
                Err(problem) => Some(problem),
            };
            if let Some(problem) = outcome {
                sound = false;
                table.problem(name, problem);
            }
        }
        section.show("properties_files", shown);
    }
    if sound
        && !properties.is_empty()
        && let Err(problem) = check_together(&properties)
    {
        section.problem(if section.has("properties") { "properties" } else { "properties_files" }, problem);
    }
    properties
}

/// Whether a property may stand here and librdkafka takes its value.
fn check_property(name: &str, value: &str, from_file: bool) -> Result<(), String> {
    if let Some((_, reason)) = OURS.iter().find(|(ours, _)| *ours == name) {
        return Err(format!("Tidegate sets it itself ({reason}): remove it"));
    }
    if name.starts_with("group.") {
        return Err("is a property of consumers, and Tidegate only writes: remove it".to_owned());
    }
    if !from_file && SECRETS.contains(&name) {
        return Err(format!(
            "no secret stands in this file: write it into a file of its own and name that in properties_files = {{ {name:?} = \"/PATH\" }}"
        ));
    }
    let mut config = ClientConfig::new();
    config.set(name, value);
    match config.create_native_config() {
        Ok(_) => Ok(()),
        Err(KafkaError::ClientConfig(RDKafkaConfRes::RD_KAFKA_CONF_UNKNOWN, ..)) => {
            Err("librdkafka knows no such property: see its CONFIGURATION.md".to_owned())
        }
        // librdkafka's text repeats the value, which may be a secret here.
        Err(_) if from_file => {
            Err("librdkafka refuses the file's content as its value: see its CONFIGURATION.md".to_owned())
        }
        Err(KafkaError::ClientConfig(_, text, ..)) => Err(format!("{text}: see librdkafka's CONFIGURATION.md")),
        Err(error) => Err(error.to_string()),
    }
}

/// Whether the properties fit together and are a producer's; files that they name (certificates) are read here. Without
/// brokers, so that nothing is connected to.
fn check_together(properties: &BTreeMap<String, String>) -> Result<(), String> {
    let mut config = ClientConfig::new();
    for (name, value) in properties {
        config.set(name, value);
    }
    let warnings = Warnings::default();
    let producer: Result<BaseProducer<Warnings>, _> = config.create_with_context(warnings.clone());
    let producer = producer.map_err(|error| match error {
        KafkaError::ClientCreation(text) => format!("{text}: see librdkafka's CONFIGURATION.md"),
        error => error.to_string(),
    })?;
    // What it had to say while it was made is in its queue, and each poll takes one of it.
    for _ in 0..=properties.len() {
        producer.poll(Duration::ZERO);
    }
    let warnings = warnings.ignored.lock().map(|ignored| ignored.clone()).unwrap_or_default();
    match warnings.first() {
        Some(warning) => Err(format!("{warning}: remove it")),
        None => Ok(()),
    }
}

/// Hears librdkafka say that it ignores a property. Clones hear together.
#[derive(Clone, Default)]
struct Warnings {
    ignored: Arc<Mutex<Vec<String>>>,
}

// === impl Warnings ===

impl ClientContext for Warnings {
    fn log(&self, _level: RDKafkaLogLevel, _facility: &str, text: &str) {
        if text.contains("will be ignored")
            && let Ok(mut ignored) = self.ignored.lock()
        {
            // In front stands "[thrd:app]: ".
            ignored.push(text.rsplit_once("]: ").map_or(text, |(_, text)| text).to_owned());
        }
    }
}

impl ProducerContext for Warnings {
    type DeliveryOpaque = ();

    fn delivery(&self, _result: &DeliveryResult<'_>, _opaque: ()) {}
}
