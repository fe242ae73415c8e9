//! What Kafka has is not what it was when records went to the spool: their partition, their topic, or the times that it
//! takes.

use super::{DRAIN, verify_in, wait_drained};
use crate::bed::{Kafka, KafkaOptions, Reply, admin, unique, wait_until};
use crate::support::load::{Load, LoadOptions};
use crate::support::{SOON, Setup, connect, consume_exactly, values};
use std::time::{Duration, Instant};

/// A Kafka behind a proxy that creates no topic by itself.
fn behind_proxy() -> Kafka {
    KafkaOptions::new().proxied().config("auto.create.topics.enable", "false").start()
}

#[test]
fn records_of_partitions_that_are_gone_go_to_those_that_are_there() {
    let kafka = behind_proxy();
    let key = unique("shrunk");
    kafka.create_topic(&key, 3, 1, &[]);
    let route = format!("key = {key:?}\ntopic = {key:?}\npartition_by = \"connection\"");
    let tidegate = Setup::new(&kafka.proxied_bootstrap()).spool("").route(&route).start();
    // The topic is known; this record goes with it.
    assert_eq!(connect(&tidegate).command(["RPUSH", &key, "before"]), Reply::Integer(1));
    wait_drained(&tidegate);
    kafka.proxy(1).down();
    let options = LoadOptions { connections: 9, depth: 8, size: 300, keys: vec![key.clone()], may_close: false };
    let load = Load::start(tidegate.redis_addr(), &options);
    wait_until(SOON, "load without Kafka", || load.acknowledged() > 2_000);
    let outcome = load.finish();
    println!("{} {:?}", outcome.summary(), outcome.errors());
    kafka.delete_topic(&key);
    wait_until(SOON, "the topic to be gone", || admin::partitions(&kafka.bootstrap(), &key) == 0);
    kafka.create_topic(&key, 1, 1, &[]);
    kafka.proxy(1).heal();
    let start = Instant::now();
    wait_until(2 * DRAIN, "an empty spool", || tidegate.metric("tidegate_spool_records_left") == 0.0);
    println!("drained within {:?}", start.elapsed());
    verify_in(&outcome, &kafka.bootstrap(), std::slice::from_ref(&key));
    assert!(tidegate.metric("tidegate_log_records_moved_total") > 100.0);
    let said = tidegate.log().matches("no such partition any more").count();
    assert!((1..=2).contains(&said), "once for each lane: {}", tidegate.log());
}

#[test]
fn a_topic_that_only_an_earlier_process_was_asked_for_is_created_as_its_route_says() {
    let kafka = behind_proxy();
    let key = unique("created");
    kafka.proxy(1).down();
    let mut tidegate =
        Setup::new(&kafka.proxied_bootstrap()).spool("").topic(&key, 3, "partition_by = \"key\"").start_unready();
    let mut client = connect(&tidegate);
    for number in 0..20 {
        assert_eq!(client.command(["RPUSH", &key, &number.to_string()]), Reply::Integer(1));
    }
    tidegate.kill9();
    kafka.proxy(1).heal();
    tidegate.restart();
    wait_until(SOON, "the topic", || admin::partitions(&kafka.bootstrap(), &key) == 3);
    wait_drained(&tidegate);
    let numbers: Vec<Vec<u8>> = (0..20).map(|number: u32| number.to_string().into_bytes()).collect();
    assert_eq!(values(&consume_exactly(&kafka.bootstrap(), &key, 20)), numbers);
}

#[test]
fn a_record_that_became_too_old_for_its_topic_goes_with_the_time_of_its_sending_and_says_its_own() {
    let kafka = behind_proxy();
    let key = unique("old");
    kafka.create_topic(&key, 1, 1, &[("message.timestamp.before.max.ms", "4000")]);
    let route = format!("key = {key:?}\ntopic = {key:?}");
    let tidegate = Setup::new(&kafka.proxied_bootstrap()).spool("").route(&route).start();
    let mut client = connect(&tidegate);
    assert_eq!(client.command(["RPUSH", &key, "0"]), Reply::Integer(1));
    wait_drained(&tidegate);
    kafka.proxy(1).down();
    for number in 1..6 {
        assert_eq!(client.command(["RPUSH", &key, &number.to_string()]), Reply::Integer(1));
    }
    let old = Instant::now();
    wait_until(SOON, "records that are too old", || old.elapsed() > Duration::from_secs(5));
    // The last one is not.
    assert_eq!(client.command(["RPUSH", &key, "6"]), Reply::Integer(1));
    kafka.proxy(1).heal();
    wait_drained(&tidegate);
    let records = consume_exactly(&kafka.bootstrap(), &key, 7);
    let numbers: Vec<Vec<u8>> = (0..7).map(|number: u32| number.to_string().into_bytes()).collect();
    assert_eq!(values(&records), numbers);
    let own = |place: usize| records[place].headers.iter().find(|(name, _)| name == "tidegate-time");
    assert!(own(0).is_none(), "{:?}", records[0]);
    for (place, record) in records.iter().enumerate().take(6).skip(1) {
        let (_, own) = own(place).unwrap_or_else(|| panic!("no time of its own: {record:?}"));
        let own: jiff::Timestamp = std::str::from_utf8(own).expect("text").parse().expect("a time");
        assert!(record.timestamp - own.as_millisecond() > 4000, "{record:?}");
    }
    assert!(tidegate.metric("tidegate_log_records_restamped_total") >= 5.0);
}
