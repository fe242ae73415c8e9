//! The end: what was received is finished, nothing acknowledged is lost, and it comes in time.

use crate::bed::{Kafka, RespClient, Tidegate, consume, unique, wait_until};
use crate::support::load::{Load, LoadOptions};
use crate::support::{SOON, Setup, connect};
use std::time::{Duration, Instant};

fn options(key: &str) -> LoadOptions {
    LoadOptions { connections: 8, depth: 32, size: 300, keys: vec![key.to_owned()], may_close: true }
}

/// Ends it and gives how long that took; it must be a success.
fn end(tidegate: &mut Tidegate, deadline: Duration) -> Duration {
    let start = Instant::now();
    tidegate.sigterm();
    let status = tidegate.wait_exit(deadline);
    assert_eq!(status.code(), Some(0), "{status}: {}", tidegate.log());
    start.elapsed()
}

#[test]
fn under_load_it_ends_soon_and_all_that_was_acknowledged_is_in_kafka() {
    let key = unique("ending");
    let mut tidegate = Setup::shared().log("shutdown_timeout_seconds = 10").topic(&key, 4, "").start();
    let load = Load::start(tidegate.redis_addr(), &options(&key));
    wait_until(SOON, "load", || load.acknowledged() > 5_000);
    let took = end(&mut tidegate, Duration::from_secs(11));
    let outcome = load.finish();
    println!("ended after {took:?}; {}", outcome.summary());
    assert!(took < Duration::from_secs(5), "{took:?}");
    assert!(outcome.closed >= 8);
    outcome.verify(&[consume(&Kafka::shared().bootstrap(), &key)]);
}

#[test]
fn what_was_sent_before_the_end_is_answered_and_delivered() {
    let key = unique("last");
    let mut tidegate = Setup::shared().topic(&key, 1, "").start();
    let mut client = connect(&tidegate);
    client.command(["LPUSH", &key, "first"]);
    let many = 2_000;
    let bytes: Vec<u8> = (0..many).flat_map(|i| crate::bed::resp::encode(["LPUSH", &key, &format!("{i}")])).collect();
    client.send_raw(&bytes);
    end(&mut tidegate, SOON);
    for i in 0..many {
        assert_eq!(client.read(), crate::bed::Reply::Integer(1), "reply {i}");
    }
    client.expect_close();
    assert_eq!(consume(&Kafka::shared().bootstrap(), &key).len(), many + 1);
}

#[test]
fn with_kafka_away_it_ends_at_its_deadline_and_every_waiting_client_is_told() {
    let kafka = Kafka::start();
    let key = unique("away");
    let mut tidegate =
        Setup::new(&kafka.bootstrap()).log("shutdown_timeout_seconds = 2").topic(&key, 2, "hold_ms = 60000").start();
    let mut clients: Vec<RespClient> = (0..5).map(|_| connect(&tidegate)).collect();
    for client in &mut clients {
        assert_eq!(client.command(["LPUSH", &key, "before"]).integer(), 1);
    }
    kafka.kill9(1);
    for client in &mut clients {
        client.send(["LPUSH", &key, "held"]);
        client.send(["PING"]);
    }
    wait_until(SOON, "held records", || tidegate.metric("tidegate_log_in_flight_bytes") > 1000.0);
    let took = end(&mut tidegate, Duration::from_secs(4));
    assert!(took > Duration::from_secs(1), "it did not wait for Kafka: {took:?}");
    for client in &mut clients {
        assert!(client.read().error().contains("stopping"));
        assert_eq!(client.read(), crate::bed::Reply::Simple("PONG".into()));
        client.expect_close();
    }
}

#[test]
fn idle_it_ends_at_once() {
    let mut tidegate = Setup::shared().topic(&unique("idle"), 1, "").start();
    let mut clients: Vec<RespClient> = (0..3).map(|_| connect(&tidegate)).collect();
    clients.iter_mut().for_each(|client| assert_eq!(client.command(["PING"]).bytes(), b"PONG"));
    let took = end(&mut tidegate, SOON);
    assert!(took < Duration::from_secs(2), "{took:?}");
    clients.iter_mut().for_each(RespClient::expect_close);
}

#[test]
fn ctrl_c_ends_it_as_gracefully() {
    let key = unique("ctrl-c");
    let mut tidegate = Setup::shared().topic(&key, 1, "").start();
    assert_eq!(connect(&tidegate).command(["LPUSH", &key, "x"]).integer(), 1);
    tidegate.signal("INT");
    assert_eq!(tidegate.wait_exit(SOON).code(), Some(0));
    assert_eq!(consume(&Kafka::shared().bootstrap(), &key).len(), 1);
}

#[test]
fn what_was_merely_enqueued_is_delivered_before_the_end() {
    let key = unique("enqueued");
    let mut tidegate = Setup::shared().topic(&key, 1, "acknowledge = \"enqueue\"").start();
    let mut client = connect(&tidegate);
    let bytes = crate::bed::resp::encode(["LPUSH", &key, "x"]).repeat(5_000);
    assert!(client.pipeline(&bytes, 5_000).iter().all(|reply| reply.integer() == 1));
    end(&mut tidegate, SOON);
    assert_eq!(consume(&Kafka::shared().bootstrap(), &key).len(), 5_000);
}
