//! One of three brokers goes away.

use super::MemoryWatch;
use crate::bed::{Kafka, RespClient, consume, unique, wait_until};
use crate::support::load::{Load, LoadOptions};
use crate::support::{SOON, Setup, connect};
use std::time::{Duration, Instant};

#[test]
fn one_of_three_brokers_killed_under_load_is_hardly_noticed() {
    let kafka = Kafka::start_cluster(3);
    let keys = [unique("three-a"), unique("three-b")];
    keys.iter().for_each(|key| kafka.create_topic(key, 6, 3, &[("min.insync.replicas", "2")]));
    let mut setup = Setup::new(&kafka.bootstrap()).log("memory_limit = \"32MiB\"\nmax_frame_size = \"4MiB\"");
    for key in &keys {
        setup = setup.route(&format!("key = \"{key}\"\ntopic = \"{key}\"\nhold_ms = 8000"));
    }
    let tidegate = setup.start();
    let memory = MemoryWatch::start(&tidegate);
    let options = LoadOptions { connections: 8, depth: 32, size: 512, keys: keys.to_vec(), may_close: false };
    let load = Load::start(tidegate.redis_addr(), &options);
    wait_until(SOON, "load", || load.acknowledged() > 5_000);
    kafka.kill9(2);
    let before = load.acknowledged();
    wait_until(SOON, "load on two brokers", || load.acknowledged() > before + 20_000);
    kafka.restart(2);
    let before = load.acknowledged();
    wait_until(SOON, "load on three brokers again", || load.acknowledged() > before + 10_000);
    let outcome = load.finish();
    println!("{} {:?}", outcome.summary(), outcome.errors());
    memory.assert_within(32 << 20);
    assert!(outcome.refused * 1000 <= outcome.acknowledged, "{} refused", outcome.refused);
    let topics: Vec<_> = keys.iter().map(|key| consume(&kafka.bootstrap(), key)).collect();
    outcome.verify(&topics);
}

/// The leader of the only partition of a topic, numbered as the bed numbers nodes.
fn leader(kafka: &Kafka, topic: &str) -> usize {
    use rdkafka::consumer::{BaseConsumer, Consumer as _};
    let client: BaseConsumer =
        rdkafka::ClientConfig::new().set("bootstrap.servers", kafka.bootstrap()).create().expect("a client");
    let metadata = client.fetch_metadata(None, SOON).expect("metadata");
    let topic = metadata.topics().iter().find(|found| found.name() == topic).expect("the topic");
    usize::try_from(topic.partitions()[0].leader()).expect("a leader")
}

/// A topic with one replica, on this node.
pub(crate) fn topic_led_by(kafka: &Kafka, node: usize) -> String {
    for _ in 0..30 {
        let name = unique("led");
        kafka.create_topic(&name, 1, 1, &[("min.insync.replicas", "1")]);
        if leader(kafka, &name) == node {
            return name;
        }
    }
    panic!("no topic came to node {node}");
}

#[test]
fn a_topic_whose_broker_is_frozen_does_not_hold_other_connections_topics() {
    let kafka = Kafka::start_cluster(3);
    let [sick, well] = [2, 3].map(|node| topic_led_by(&kafka, node));
    let tidegate = Setup::new(&kafka.bootstrap())
        .log("threads = 1")
        .route("key = \"led-*\"\ntopic = \"{key}\"\nhold_ms = 3000")
        .start();
    let mut clients: Vec<RespClient> = (0..2).map(|_| connect(&tidegate)).collect();
    for (client, topic) in clients.iter_mut().zip([&sick, &well]) {
        assert_eq!(client.command(["LPUSH", topic, "before"]).integer(), 1);
    }
    kafka.freeze(2);
    let [one, other] = &mut clients[..] else { panic!("two clients") };
    one.send(["LPUSH", &sick, "held"]);
    let start = Instant::now();
    let mut slowest = Duration::ZERO;
    let mut pushed = 0;
    while start.elapsed() < Duration::from_secs(2) {
        let begun = Instant::now();
        assert_eq!(other.command(["LPUSH", &well, "passes"]).integer(), 1);
        slowest = slowest.max(begun.elapsed());
        pushed += 1;
    }
    println!("{pushed} pushes beside a frozen broker, the slowest took {slowest:?}");
    assert!(slowest < Duration::from_secs(1), "{slowest:?}");
    let held = one.read();
    assert!(held.error().contains("did not confirm in time"), "{held:?}");
    kafka.thaw(2);
    wait_until(SOON, "the sick topic", || one.command(["LPUSH", &sick, "after"]) == crate::bed::Reply::Integer(1));
    assert_eq!(consume(&kafka.bootstrap(), &well).len(), pushed + 1);
}
