//! `acknowledge = "spool"`: a reply once the record is on disk; Kafka follows.

use super::{verify_in, wait_drained};
use crate::bed::{Kafka, unique, wait_until};
use crate::support::load::{Load, LoadOptions};
use crate::support::{SOON, Setup, connect, consumed, values};

#[test]
fn what_is_acknowledged_on_disk_comes_to_kafka_in_order_and_once() {
    let key = unique("on-disk");
    let tidegate = Setup::shared().spool("").topic(&key, 3, "acknowledge = \"spool\"").start();
    let options = LoadOptions { connections: 6, depth: 32, size: 300, keys: vec![key.clone()], may_close: false };
    let load = Load::start(tidegate.redis_addr(), &options);
    wait_until(SOON, "load", || load.acknowledged() > 20_000);
    let outcome = load.finish();
    println!("{}", outcome.summary());
    wait_drained(&tidegate);
    assert_eq!(outcome.refused, 0);
    assert_eq!(verify_in(&outcome, &Kafka::shared().bootstrap(), &[key]), 0);
    #[expect(clippy::cast_precision_loss, reason = "a test's counts")]
    let sent = outcome.sent.len() as f64;
    for name in ["tidegate_log_records_spooled_total", "tidegate_log_records_replayed_total"] {
        assert_eq!(tidegate.metric(name), sent, "{name}");
    }
    assert_eq!(tidegate.metric("tidegate_log_records_duplicated_total"), 0.0);
}

#[test]
fn a_record_keeps_its_key_and_the_time_at_which_it_came() {
    let kafka = Kafka::start();
    let key = unique("kept");
    kafka.create_topic(&key, 2, 1, &[]);
    kafka.stop();
    let tidegate = Setup::new(&kafka.bootstrap())
        .spool("")
        .topic(&key, 2, "acknowledge = \"spool\"\npartition_by = \"key\"")
        .start();
    let before = std::time::SystemTime::now();
    assert_eq!(connect(&tidegate).command(["LPUSH", &key, "a\r\n\0b"]).integer(), 1);
    let after = std::time::SystemTime::now();
    wait_until(SOON, "two seconds later", || after.elapsed().is_ok_and(|time| time.as_secs() >= 2));
    kafka.restart(1);
    wait_drained(&tidegate);
    let records = crate::support::consume_exactly(&kafka.bootstrap(), &key, 1);
    assert_eq!(values(&records), [b"a\r\n\0b".to_vec()]);
    assert_eq!(records[0].key.as_deref(), Some(key.as_bytes()));
    let millis = |time: std::time::SystemTime| {
        i64::try_from(time.duration_since(std::time::UNIX_EPOCH).expect("after 1970").as_millis()).expect("a time")
    };
    let came = millis(before) - 50..=millis(after) + 50;
    assert!(came.contains(&records[0].timestamp), "{} not in {came:?}", records[0].timestamp);
}

#[test]
fn it_needs_a_spool() {
    let key = unique("none");
    let mut tidegate = crate::bed::Tidegate::spawn(&Setup::shared().topic(&key, 1, "acknowledge = \"spool\"").text());
    assert_eq!(tidegate.wait_exit(SOON).code(), Some(2));
    assert!(tidegate.log().contains("needs a spool"), "{}", tidegate.log());
}

#[test]
fn every_record_of_a_push_or_a_transaction_is_told_of_once() {
    let key = unique("many");
    let tidegate = Setup::shared().spool("").topic(&key, 2, "acknowledge = \"spool\"").start();
    let mut client = connect(&tidegate);
    assert_eq!(client.command(["RPUSH", &key, "1", "2", "3"]).integer(), 3);
    client.command(["MULTI"]);
    client.command(["RPUSH", &key, "4", "5"]);
    client.command(["RPUSH", &key, "6"]);
    let replies = client.command(["EXEC"]);
    assert_eq!(format!("{replies:?}"), "Array([Integer(2), Integer(1)])");
    wait_drained(&tidegate);
    assert_eq!(consumed(&key, 6).len(), 6);
}
