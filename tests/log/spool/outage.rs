//! Kafka goes away under load, and comes back.

use super::{counted_twice, verify_in, wait_drained};
use crate::bed::{Kafka, RespClient, unique, wait_until};
use crate::outage::MemoryWatch;
use crate::support::load::{Load, LoadOptions};
use crate::support::{SOON, Setup, connect};
use std::time::{Duration, Instant};

const LIMIT: u64 = 32 << 20;

fn options(keys: &[String]) -> LoadOptions {
    LoadOptions { connections: 8, depth: 16, size: 400, keys: keys.to_vec(), may_close: false }
}

fn setup(kafka: &Kafka, keys: &[String]) -> Setup {
    let setup = Setup::new(&kafka.bootstrap()).log("memory_limit = \"32MiB\"\nmax_frame_size = \"4MiB\"").spool("");
    keys.iter().fold(setup, |setup, key| setup.topic(key, 3, ""))
}

/// Load before, during and after what `disturb` does and `mend` mends; the clients see nothing of it.
fn an_outage(disturb: impl FnOnce(&Kafka), mend: impl FnOnce(&Kafka)) {
    let kafka = Kafka::start();
    let keys = [unique("out-a"), unique("out-b")];
    let tidegate = setup(&kafka, &keys).start();
    let memory = MemoryWatch::start(&tidegate);
    let load = Load::start(tidegate.redis_addr(), &options(&keys));
    wait_until(SOON, "load", || load.acknowledged() > 5_000);
    disturb(&kafka);
    let (start, before) = (Instant::now(), load.acknowledged());
    wait_until(SOON, "load without Kafka", || {
        load.acknowledged() > before + 20_000 && start.elapsed() > Duration::from_secs(3)
    });
    assert!(tidegate.metric("tidegate_log_records_spooled_total") > 0.0);
    mend(&kafka);
    let before = load.acknowledged();
    wait_until(SOON, "load with Kafka again", || load.acknowledged() > before + 20_000);
    wait_until(super::DRAIN, "direct delivery again", || {
        let spooled = tidegate.metric("tidegate_log_records_spooled_total");
        let acknowledged = load.acknowledged();
        wait_until(SOON, "more load", || load.acknowledged() > acknowledged + 500);
        tidegate.metric("tidegate_log_records_spooled_total") == spooled
    });
    let outcome = load.finish();
    println!("{} {:?}", outcome.summary(), outcome.errors());
    wait_drained(&tidegate);
    memory.assert_within(LIMIT);
    assert_eq!(outcome.refused, 0);
    assert!(outcome.slow * 100 < outcome.acknowledged, "{} replies took over a second", outcome.slow);
    assert!(outcome.longest < Duration::from_secs(5), "{:?}: clients would have given up", outcome.longest);
    let again = verify_in(&outcome, &kafka.bootstrap(), &keys);
    println!("{again} came twice, {} counted", counted_twice(&tidegate, ""));
    assert!(
        again <= counted_twice(&tidegate, ""),
        "{again} records came twice, {} counted",
        counted_twice(&tidegate, "")
    );
}

#[test]
fn a_lone_broker_that_is_killed_is_not_noticed_by_clients() {
    an_outage(|kafka| kafka.kill9(1), |kafka| kafka.restart(1));
}

#[test]
fn a_lone_broker_that_is_frozen_is_not_noticed_by_clients() {
    an_outage(|kafka| kafka.freeze(1), |kafka| kafka.thaw(1));
}

#[test]
fn with_kafka_away_at_the_start_it_is_ready_and_acknowledges() {
    let kafka = Kafka::start();
    kafka.stop();
    let key = unique("late");
    let tidegate = Setup::new(&kafka.bootstrap()).spool("").topic(&key, 2, "").start();
    let load = Load::start(tidegate.redis_addr(), &options(std::slice::from_ref(&key)));
    wait_until(SOON, "load without Kafka", || load.acknowledged() > 10_000);
    kafka.restart(1);
    let before = load.acknowledged();
    wait_until(SOON, "load with Kafka", || load.acknowledged() > before + 5_000);
    let outcome = load.finish();
    println!("{} {:?}", outcome.summary(), outcome.errors());
    wait_drained(&tidegate);
    assert_eq!(outcome.refused, 0);
    assert_eq!(verify_in(&outcome, &kafka.bootstrap(), &[key]), 0);
}

#[test]
fn a_kafka_that_is_back_is_noticed_within_seconds() {
    let kafka = Kafka::start();
    let key = unique("back");
    kafka.create_topic(&key, 3, 1, &[]);
    let tidegate = setup(&kafka, std::slice::from_ref(&key)).start();
    let mut client = connect(&tidegate);
    assert_eq!(client.command(["LPUSH", &key, "before"]).integer(), 1);
    wait_drained(&tidegate);
    kafka.freeze(1);
    for number in 0..50 {
        assert_eq!(client.command(["LPUSH", &key, &format!("{number}")]).integer(), 1);
    }
    wait_until(SOON, "the breaker to open", || tidegate.metric("tidegate_log_kafka_away") == 1.0);
    let start = Instant::now();
    assert_eq!(client.command(["LPUSH", &key, "at once"]).integer(), 1);
    assert!(start.elapsed() < Duration::from_millis(250), "the breaker is open: {:?}", start.elapsed());
    kafka.thaw(1);
    let start = Instant::now();
    wait_drained(&tidegate);
    println!("drained {:?} after Kafka was back", start.elapsed());
    assert!(start.elapsed() < Duration::from_secs(5), "{:?}", start.elapsed());
    wait_until(SOON, "the breaker to close", || tidegate.metric("tidegate_log_kafka_away") == 0.0);
}

#[test]
fn a_topic_whose_broker_is_frozen_holds_neither_others_nor_its_own_connection() {
    let kafka = Kafka::start_cluster(3);
    let [sick, well] = [2, 3].map(|node| crate::outage::topic_led_by(&kafka, node));
    let tidegate = Setup::new(&kafka.bootstrap())
        .log("threads = 1")
        .spool("")
        .route("key = \"led-*\"\ntopic = \"{key}\"")
        .topic("warm", 1, "acknowledge = \"spool\"")
        .start();
    // Replay has written once: a producer's first write needs a number from any broker.
    assert_eq!(connect(&tidegate).command(["LPUSH", "warm", "x"]).integer(), 1);
    wait_drained(&tidegate);
    let mut clients: Vec<RespClient> = (0..2).map(|_| connect(&tidegate)).collect();
    for (client, topic) in clients.iter_mut().zip([&sick, &well]) {
        assert_eq!(client.command(["LPUSH", topic, "before"]).integer(), 1);
    }
    kafka.freeze(2);
    let (start, mut slowest, mut pushed) = (Instant::now(), [Duration::ZERO; 2], 1);
    while start.elapsed() < Duration::from_secs(2) {
        for (client, (topic, slowest)) in clients.iter_mut().zip([&sick, &well].into_iter().zip(&mut slowest)) {
            let begun = Instant::now();
            assert_eq!(client.command(["LPUSH", topic, &format!("{pushed}")]).integer(), 1);
            *slowest = begun.elapsed().max(*slowest);
        }
        pushed += 1;
    }
    println!("{pushed} pushes beside a frozen broker, the slowest took {slowest:?}");
    assert!(slowest[0] < Duration::from_secs(1) && slowest[1] < Duration::from_secs(1), "{slowest:?}");
    wait_until(SOON, "one broker not to be taken for all of Kafka", || {
        tidegate.metric("tidegate_log_kafka_away") == 0.0
    });
    kafka.thaw(2);
    wait_drained(&tidegate);
    for topic in [&sick, &well] {
        let records = crate::support::values(&crate::bed::consume(&kafka.bootstrap(), topic));
        let expected = std::iter::once(b"before".to_vec()).chain((1..pushed).map(|n| n.to_string().into_bytes()));
        assert_eq!(records, expected.collect::<Vec<_>>(), "{topic}");
    }
}
