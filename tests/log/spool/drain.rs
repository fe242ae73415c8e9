//! The drain of a backlog: as fast as allowed, and its end foretold.

use super::{DRAIN, wait_drained};
use crate::bed::{Kafka, Tidegate, resp, unique, wait_until};
use crate::support::{SOON, Setup, connect, consume_exactly, values};
use std::time::{Duration, Instant};

/// So many records of a thousand bytes, numbered.
fn numbered(count: usize) -> Vec<Vec<u8>> {
    (0..count).map(|number| format!("{number:0>1000}").into_bytes()).collect()
}

/// Pushes records while Kafka is frozen; all must be acknowledged.
fn push_all(tidegate: &Tidegate, key: &str, records: &[Vec<u8>]) {
    let bytes: Vec<u8> =
        records.iter().flat_map(|record| resp::encode([b"RPUSH", key.as_bytes(), record.as_slice()])).collect();
    let replies = connect(tidegate).pipeline(&bytes, records.len());
    assert!(replies.iter().all(|reply| reply.integer() == 1));
}

/// What the admin page says of the spool.
fn report(tidegate: &Tidegate) -> serde_json::Value {
    let text = tidegate.get("/debug/log").text();
    serde_json::from_str::<serde_json::Value>(&text).expect("JSON")["spool"].clone()
}

#[test]
fn it_keeps_to_its_rate_and_says_when_it_will_end() {
    let kafka = Kafka::start();
    let key = unique("slow");
    kafka.create_topic(&key, 1, 1, &[]);
    let tidegate = Setup::new(&kafka.bootstrap()).spool("replay_rate = \"300KiB\"").topic(&key, 1, "").start();
    push_all(&tidegate, &key, &numbered(1));
    wait_drained(&tidegate);
    kafka.freeze(1);
    let records = numbered(3_000);
    push_all(&tidegate, &key, &records);
    wait_until(SOON, "a report of the backlog", || report(&tidegate)["records_left"] == 3_000);
    let before = report(&tidegate);
    assert!(before["bytes_left"].as_u64() > Some(3_000_000), "{before}");
    assert!(before["oldest_age_seconds"].as_f64() > Some(0.0), "{before}");
    assert!(before["time_left_seconds"].is_null(), "it does not shrink: {before}");
    kafka.thaw(1);
    let start = Instant::now();
    let mut said: Vec<(Duration, Option<f64>)> = Vec::new();
    wait_until(DRAIN, "the end of the drain", || {
        let report = report(&tidegate);
        said.push((start.elapsed(), report["time_left_seconds"].as_f64()));
        report["records_left"] == 0
    });
    let took = start.elapsed();
    println!("{took:?} for 3 MB at 300 KiB/s");
    assert!(took > Duration::from_secs(8), "faster than its rate: {took:?}");
    assert!(took < Duration::from_secs(16), "slower than its rate: {took:?}");
    for (at, time) in said.into_iter().filter(|(at, _)| *at > took / 2) {
        let left = (took - at).as_secs_f64();
        let time = time.unwrap_or(f64::INFINITY);
        assert!((time - left).abs() <= 0.2 * left + 1.0, "said {time:.1} s where {left:.1} s were left");
    }
    assert_eq!(values(&consume_exactly(&kafka.bootstrap(), &key, 3_001))[1..], records);
}

#[test]
fn without_a_rate_it_is_over_soon_and_new_records_do_not_overtake_it() {
    let kafka = Kafka::start();
    let key = unique("fast");
    kafka.create_topic(&key, 1, 1, &[]);
    let tidegate = Setup::new(&kafka.bootstrap()).spool("").topic(&key, 1, "").start();
    kafka.freeze(1);
    let records = numbered(20_000);
    push_all(&tidegate, &key, &records[..19_000]);
    kafka.thaw(1);
    let start = Instant::now();
    push_all(&tidegate, &key, &records[19_000..]);
    wait_drained(&tidegate);
    println!("drained within {:?}", start.elapsed());
    assert!(start.elapsed() < Duration::from_secs(10), "{:?}", start.elapsed());
    assert!(values(&consume_exactly(&kafka.bootstrap(), &key, 20_000)) == records, "not in order");
}
