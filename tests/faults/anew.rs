//! A topic that is made anew while its broker restarts: librdkafka must not be left with leaders that it does not believe
//! (`src/delivery/stall.rs`).

use crate::bed::{KafkaOptions, Reply, RespClient, Tidegate, admin, consume, unique, wait_until};
use crate::support::Setup;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// For whatever should come soon, on a machine that is busy with other tests.
const SOON: Duration = Duration::from_secs(60);

#[test]
fn a_topic_made_anew_behind_a_restart_of_its_broker_is_written_again() {
    let kafka = KafkaOptions::new().proxied().config("auto.create.topics.enable", "false").start();
    let topic = unique("anew");
    kafka.create_topic(&topic, 1, 1, &[]);
    // By the socket's time-out goes how long it takes until nothing that comes of librdkafka is looked into.
    let setup = Setup::new(&kafka.proxied_bootstrap())
        .kafka("properties = { \"socket.timeout.ms\" = \"2000\" }")
        .route(&format!("key = \"{topic}\"\ntopic = \"{topic}\"\nhold_ms = 60000"));
    let tidegate = Tidegate::start(&setup.text());
    let confirmed = AtomicU64::new(0);
    let mut last = 0;
    std::thread::scope(|scope| {
        let (confirmed, topic) = (&confirmed, &topic);
        let mut client = RespClient::connect(tidegate.redis_addr());
        client.set_deadline(SOON + SOON);
        let pushing = scope.spawn(move || {
            // On and on, so that librdkafka asks who leads while the broker ends; then the one that is under way.
            let mut number = 0;
            while confirmed.load(Ordering::Acquire) != u64::MAX {
                number += 1;
                let reply = client.command(["LPUSH", topic, &format!("record {number}")]);
                assert!(matches!(reply, Reply::Integer(_)), "record {number}: {reply:?}");
                let count = |now| (now != u64::MAX).then_some(number);
                let _ = confirmed.fetch_update(Ordering::AcqRel, Ordering::Acquire, count);
            }
            number
        });
        wait_until(SOON, "records that are confirmed", || confirmed.load(Ordering::Acquire) > 100);
        // In order: whoever asks hears that nobody leads the partition, in an epoch above the first.
        kafka.stop_node(1);
        kafka.proxy(1).down();
        kafka.restart(1);
        kafka.delete_topic(topic);
        wait_until(SOON, "the topic to be gone", || admin::partitions(&kafka.bootstrap(), topic) == 0);
        kafka.create_topic(topic, 1, 1, &[]);
        confirmed.store(u64::MAX, Ordering::Release);
        kafka.proxy(1).heal();
        last = pushing.join().unwrap();
    });
    let values: Vec<_> = consume(&kafka.bootstrap(), &topic).into_iter().map(|record| record.value).collect();
    assert!(values.contains(&format!("record {last}").into_bytes()), "{last} is in none of {}", values.len());
    let recreated = tidegate.metric("tidegate_log_producers_recreated_total");
    assert!(recreated >= 1.0, "librdkafka went on by itself: nothing was tested");
}
