//! Partitions and order.

use crate::bed::{Consumed, Kafka, Reply, WorkDir, consume, process::Process, resp, unique};
use crate::support::load::{Load, LoadOptions};
use crate::support::{SOON, Setup, connect, consumed};
use std::collections::{BTreeSet, HashMap};
use std::process::Command;

const PARTITIONS: usize = 4;

fn options(keys: Vec<String>) -> LoadOptions {
    LoadOptions { connections: 6, depth: 20, size: 100, keys, may_close: false }
}

/// Load for at least so many records, and what came of it.
fn load(setup: &Setup, keys: &[String], at_least: u64) -> Vec<Vec<Consumed>> {
    let tidegate = setup.start();
    let load = Load::start(tidegate.redis_addr(), &options(keys.to_vec()));
    crate::bed::wait_until(SOON, "acknowledgements", || load.acknowledged() >= at_least);
    let outcome = load.finish();
    assert_eq!(outcome.refused, 0, "{:?}", outcome.errors());
    let topics: Vec<Vec<Consumed>> = keys.iter().map(|key| consume(&Kafka::shared().bootstrap(), key)).collect();
    outcome.verify(&topics);
    assert_eq!(topics.iter().map(Vec::len).sum::<usize>() as u64, outcome.acknowledged);
    topics
}

fn used(records: &[Consumed]) -> BTreeSet<i32> {
    records.iter().map(|record| record.partition).collect()
}

#[test]
fn records_that_may_go_anywhere_use_every_partition_and_keep_each_connections_order_in_it() {
    let keys = [unique("sticky-a"), unique("sticky-b")];
    // Made before, as partitions of a topic just made have no leader for a moment.
    keys.iter().for_each(|key| Kafka::shared().create_topic(key, PARTITIONS as i32, 1, &[]));
    let setup = Setup::shared().topic(&keys[0], PARTITIONS, "").topic(&keys[1], PARTITIONS, "");
    for topic in load(&setup, &keys, 20_000) {
        assert_eq!(used(&topic).len(), PARTITIONS);
    }
}

#[test]
fn a_connections_records_stay_in_one_partition_and_in_order() {
    let key = unique("connection");
    let setup = Setup::shared().topic(&key, PARTITIONS, "partition_by = \"connection\"");
    let topic = load(&setup, std::slice::from_ref(&key), 10_000).remove(0);
    let mut homes: HashMap<Vec<u8>, BTreeSet<i32>> = HashMap::new();
    for record in &topic {
        let connection = record.value.split(|byte| *byte == b' ').next().unwrap().to_vec();
        homes.entry(connection).or_default().insert(record.partition);
    }
    assert_eq!(homes.len(), 6);
    assert!(homes.values().all(|partitions| partitions.len() == 1), "{homes:?}");
}

/// Where a producer that uses Kafka's own default hash puts records with these keys, by key.
fn kafkas_own_placement(topic: &str, keys: &[String]) -> HashMap<Vec<u8>, i32> {
    let directory = WorkDir::new("kcat");
    let lines: String = keys.iter().map(|key| format!("{key}\tx\n")).collect();
    let input = directory.write("input", lines);
    let mut command = Command::new("kcat");
    command.args(["-P", "-t", topic, "-b", &Kafka::shared().bootstrap(), "-K", "\t"]);
    command.args(["-X", "acks=all", "-X", "topic.partitioner=murmur2_random"]);
    let mut kcat = Process::start_with_input(&command, directory.path(), "kcat", &input);
    let status = kcat.wait(SOON);
    assert!(status.success(), "kcat: {status}: {}", kcat.stderr());
    let placed = consumed(topic, keys.len());
    placed.into_iter().map(|record| (record.key.unwrap(), record.partition)).collect()
}

#[test]
fn a_record_is_placed_by_its_redis_key_where_kafkas_own_producer_would_put_it() {
    let prefix = unique("keyed");
    let topic = unique("by-key");
    let reference = unique("reference");
    Kafka::shared().create_topic(&topic, 7, 1, &[]);
    Kafka::shared().create_topic(&reference, 7, 1, &[]);
    let route = format!("key = \"{prefix}-*\"\ntopic = \"{topic}\"\npartition_by = \"key\"");
    let tidegate = Setup::shared().route(&route).start();
    let keys: Vec<String> = (0..60).map(|i| format!("{prefix}-{}é", "k".repeat(i))).collect();
    let bytes: Vec<u8> = keys.iter().flat_map(|key| resp::encode(["LPUSH", key, "x"])).collect();
    assert!(connect(&tidegate).pipeline(&bytes, 60).iter().all(|reply| *reply == Reply::Integer(1)));
    let expected = kafkas_own_placement(&reference, &keys);
    for record in consumed(&topic, 60) {
        let key = record.key.expect("the Redis key travels with the record");
        assert_eq!(record.partition, expected[&key], "{}", String::from_utf8_lossy(&key));
    }
}

#[test]
fn a_record_is_placed_by_its_json_field_where_kafkas_own_producer_would_put_it() {
    let topic = unique("by-json");
    let reference = unique("reference");
    Kafka::shared().create_topic(&reference, PARTITIONS as i32, 1, &[]);
    let tidegate = Setup::shared().topic(&topic, PARTITIONS, "partition_by = \"json:/user/id\"").start();
    let mut client = connect(&tidegate);
    let users: Vec<String> = (0..40).map(|i| format!("user-{i}")).collect();
    for user in &users {
        let record = format!(r#"{{"user":{{"id":"{user}"}}}}"#);
        assert_eq!(client.command(["LPUSH", &topic, &record, &record]), Reply::Integer(2));
    }
    // Numbers count as their text; what has no such field goes anywhere and is not lost.
    assert_eq!(client.command(["LPUSH", &topic, r#"{"user":{"id":7}}"#, "no json"]), Reply::Integer(2));
    let mut keys = users.clone();
    keys.push("7".to_owned());
    let expected = kafkas_own_placement(&reference, &keys);
    let records = consumed(&topic, 2 * users.len() + 2);
    let mut keyless = 0;
    for record in records {
        match record.key {
            Some(key) => assert_eq!(record.partition, expected[&key], "{}", String::from_utf8_lossy(&key)),
            None => keyless += 1,
        }
    }
    assert_eq!(keyless, 1);
}
