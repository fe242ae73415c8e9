//! Topics, through rdkafka's admin client. These are set-up acts: what a test checks, it reads with
//! [`consume`](super::consume), which shares no code with Tidegate.

use super::wait::wait_until;
use rdkafka::admin::{
    AdminClient, AdminOptions, AlterConfig, NewPartitions, NewTopic, ResourceSpecifier, TopicReplication,
};
use rdkafka::client::DefaultClientContext;
use rdkafka::config::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use std::future::Future;
use std::time::Duration;

/// How long the broker may take for one of these.
const PATIENCE: Duration = Duration::from_secs(20);

/// Creates a topic and waits until all its partitions have a leader.
pub fn create_topic(bootstrap: &str, name: &str, partitions: i32, replication: i32, configs: &[(&str, &str)]) {
    let mut topic = NewTopic::new(name, partitions, TopicReplication::Fixed(replication));
    for (key, value) in configs {
        topic = topic.set(key, value);
    }
    with_admin(bootstrap, async |admin, options| {
        for result in admin.create_topics([&topic], options).await.expect("an answer") {
            result.unwrap_or_else(|(topic, code)| panic!("cannot create {topic}: {code}"));
        }
    });
    let wanted = usize::try_from(partitions).expect("a number of partitions");
    wait_until(PATIENCE, &format!("a leader of each partition of {name}"), || leaders(bootstrap, name) == wanted);
}

/// Sets a topic's configuration to these entries; all others return to their defaults.
pub fn alter_topic(bootstrap: &str, name: &str, configs: &[(&str, &str)]) {
    let mut change = AlterConfig::new(ResourceSpecifier::Topic(name));
    for (key, value) in configs {
        change = change.set(key, value);
    }
    with_admin(bootstrap, async |admin, options| {
        for result in admin.alter_configs([&change], options).await.expect("an answer") {
            result.unwrap_or_else(|(_, code)| panic!("cannot alter {name}: {code}"));
        }
    });
}

/// Gives a topic this many partitions in all, and waits until each has a leader.
pub fn add_partitions(bootstrap: &str, name: &str, in_all: usize) {
    with_admin(bootstrap, async |admin, options| {
        for result in admin.create_partitions([&NewPartitions::new(name, in_all)], options).await.expect("an answer") {
            result.unwrap_or_else(|(topic, code)| panic!("cannot add partitions to {topic}: {code}"));
        }
    });
    wait_until(PATIENCE, &format!("a leader of each partition of {name}"), || leaders(bootstrap, name) == in_all);
}

/// Deletes a topic.
pub fn delete_topic(bootstrap: &str, name: &str) {
    with_admin(bootstrap, async |admin, options| {
        for result in admin.delete_topics(&[name], options).await.expect("an answer") {
            result.unwrap_or_else(|(topic, code)| panic!("cannot delete {topic}: {code}"));
        }
    });
}

/// The names of all topics but Kafka's own.
pub fn topics(bootstrap: &str) -> Vec<String> {
    let metadata = client(bootstrap).fetch_metadata(None, PATIENCE).expect("metadata");
    metadata.topics().iter().map(|topic| topic.name().to_owned()).filter(|name| !name.starts_with("__")).collect()
}

/// The number of partitions of a topic; 0 if there is none. Does not create it.
pub fn partitions(bootstrap: &str, name: &str) -> usize {
    client(bootstrap)
        .fetch_metadata(None, PATIENCE)
        .expect("metadata")
        .topics()
        .iter()
        .find(|topic| topic.name() == name)
        .map_or(0, |topic| topic.partitions().len())
}

fn leaders(bootstrap: &str, name: &str) -> usize {
    // All topics: asking for one by name might create it.
    let Ok(metadata) = client(bootstrap).fetch_metadata(None, PATIENCE) else {
        return 0;
    };
    metadata
        .topics()
        .iter()
        .filter(|topic| topic.name() == name)
        .flat_map(|topic| topic.partitions())
        .filter(|partition| partition.leader() >= 0)
        .count()
}

fn client(bootstrap: &str) -> BaseConsumer {
    ClientConfig::new().set("bootstrap.servers", bootstrap).create().expect("a client")
}

/// On a thread of its own, so that a test that is asynchronous itself can call it.
fn with_admin(bootstrap: &str, act: impl AsyncFnOnce(&AdminClient<DefaultClientContext>, &AdminOptions) + Send) {
    std::thread::scope(|scope| {
        scope
            .spawn(|| {
                let admin: AdminClient<DefaultClientContext> =
                    ClientConfig::new().set("bootstrap.servers", bootstrap).create().expect("an admin client");
                let options = AdminOptions::new().request_timeout(Some(PATIENCE)).operation_timeout(Some(PATIENCE));
                tokio::runtime::Builder::new_current_thread()
                    .enable_all()
                    .build()
                    .expect("a runtime")
                    .block_on(act(&admin, &options));
            })
            .join()
            .unwrap_or_else(|panic| std::panic::resume_unwind(panic));
    });
}
