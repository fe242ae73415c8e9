//! The connection to the broker is cut before, within and after a produce request.

use crate::bed::{After, Direction, Kafka, KafkaOptions, Reply, consume, resp, unique, wait_until};
use crate::support::load::{Load, LoadOptions};
use crate::support::{SOON, Setup, connect};

fn start(route: &str) -> (Kafka, crate::bed::Tidegate, String) {
    let kafka = KafkaOptions::new().proxied().start();
    let key = unique("cut");
    let tidegate = Setup::new(&kafka.proxied_bootstrap()).topic(&key, 2, route).start();
    (kafka, tidegate, key)
}

#[test]
fn cuts_at_any_byte_of_a_request_or_its_answer_lose_and_double_nothing() {
    let (kafka, tidegate, key) = start("hold_ms = 5000");
    let proxy = kafka.proxy(1);
    let options = LoadOptions { connections: 4, depth: 16, size: 400, keys: vec![key.clone()], may_close: false };
    let load = Load::start(tidegate.redis_addr(), &options);
    wait_until(SOON, "load", || load.acknowledged() > 1_000);
    let cuts = [
        // Within a request's head, within its records, between two requests.
        (Direction::ToServer, 3),
        (Direction::ToServer, 700),
        (Direction::ToServer, 20_000),
        // The request arrived, its answer does not, or only half of it.
        (Direction::ToClient, 0),
        (Direction::ToClient, 20),
        (Direction::ToClient, 333),
    ];
    for (direction, bytes) in cuts {
        let (before, connections) = (load.acknowledged(), proxy.accepted());
        proxy.cut_after(direction, bytes, After::Pass);
        wait_until(SOON, "a new connection", || proxy.accepted() > connections);
        wait_until(SOON, "load after a cut", || load.acknowledged() > before + 500);
    }
    for _ in 0..5 {
        let before = load.acknowledged();
        proxy.cut();
        wait_until(SOON, "load after a cut", || load.acknowledged() > before + 200);
    }
    let outcome = load.finish();
    println!("{} {:?}", outcome.summary(), outcome.errors());
    assert_eq!(outcome.refused, 0, "each cut is over long before a reply's time is");
    outcome.verify(&[consume(&kafka.bootstrap(), &key)]);
}

#[test]
fn an_answer_that_never_comes_is_a_refusal_and_no_acknowledgement() {
    let (kafka, tidegate, key) = start("hold_ms = 1000");
    let mut client = connect(&tidegate);
    // Its topic is made first, which a busy machine may take more than the second for.
    wait_until(SOON, "a first push", || client.command(["LPUSH", &key, "before"]) == Reply::Integer(1));
    let proxy = kafka.proxy(1);
    proxy.swallow(Direction::ToClient);
    let bytes: Vec<u8> = (0..10).flat_map(|i| resp::encode(["LPUSH", &key, &format!("{i}")])).collect();
    for reply in client.pipeline(&bytes, 10) {
        assert!(reply.error().contains("it may still arrive"), "{reply:?}");
    }
    assert_eq!(client.command(["PING"]).bytes(), b"PONG");
    proxy.heal();
    wait_until(SOON, "a push", || client.command(["LPUSH", &key, "after"]) == Reply::Integer(1));
    let records = consume(&kafka.bootstrap(), &key);
    for value in ["before", "after"] {
        assert!(records.iter().any(|record| record.value == value.as_bytes()), "{value}");
    }
}

#[test]
fn a_slow_network_is_waited_for() {
    let (kafka, tidegate, key) = start("hold_ms = 5000");
    let mut client = connect(&tidegate);
    assert_eq!(client.command(["LPUSH", &key, "before"]), Reply::Integer(1));
    kafka.proxy(1).delay(Direction::ToServer, std::time::Duration::from_millis(300));
    kafka.proxy(1).delay(Direction::ToClient, std::time::Duration::from_millis(300));
    let bytes: Vec<u8> = (0..500).flat_map(|i| resp::encode(["LPUSH", &key, &format!("{i}")])).collect();
    assert!(client.pipeline(&bytes, 500).iter().all(|reply| *reply == Reply::Integer(1)));
    assert_eq!(consume(&kafka.bootstrap(), &key).len(), 501);
}
