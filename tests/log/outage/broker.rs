//! The only broker goes away, before the start or under load.

use super::MemoryWatch;
use crate::bed::{Kafka, Reply, consume, unique, wait_until};
use crate::support::load::{Load, LoadOptions};
use crate::support::{SOON, Setup, connect, consume_exactly, values};
use std::time::{Duration, Instant};

const LIMIT: u64 = 16 << 20;

#[test]
fn kafka_may_come_after_tidegate() {
    let kafka = Kafka::start();
    kafka.stop();
    let key = unique("late");
    let mut tidegate = Setup::new(&kafka.bootstrap()).topic(&key, 2, "hold_ms = 1000").start_unready();
    let ready = tidegate.get("/readyz/log");
    assert_eq!(ready.status, 503);
    assert!(ready.text().contains("Kafka"), "{}", ready.text());
    assert_eq!((tidegate.get("/readyz").status, tidegate.get("/livez").status), (503, 200));
    let mut client = connect(&tidegate);
    let start = Instant::now();
    let refused = client.command(["LPUSH", &key, "too early"]);
    assert!(refused.error().contains("did not confirm in time"), "{refused:?}");
    let held = start.elapsed();
    assert!((Duration::from_millis(900)..Duration::from_secs(5)).contains(&held), "{held:?}");
    assert_eq!(client.command(["PING"]).bytes(), b"PONG");

    kafka.restart(1);
    tidegate.wait_ready();
    assert_eq!(tidegate.get("/readyz").status, 200);
    let mut refusals = 0;
    wait_until(SOON, "a push that succeeds", || match client.command(["LPUSH", &key, "in time"]) {
        Reply::Integer(1) => true,
        _ => {
            refusals += 1;
            false
        }
    });
    assert!(refusals <= 1, "ready, and yet {refusals} pushes were refused");
    assert_eq!(client.command(["LPUSH", &key, "and another"]), Reply::Integer(1));
    let all = values(&consume(&kafka.bootstrap(), &key));
    assert!(all.contains(&b"in time".to_vec()) && all.contains(&b"and another".to_vec()));
    // Kafka goes again: it stays ready, as leaving the Service would make this the applications' outage.
    kafka.kill9(1);
    assert!(matches!(client.command(["LPUSH", &key, "away again"]), Reply::Error(_)));
    assert_eq!(tidegate.get("/readyz/log").status, 200);
}

fn options(key: &str, may_close: bool) -> LoadOptions {
    // Enough in flight to meet the memory limit: 24 × 64 × 16 KiB.
    LoadOptions { connections: 24, depth: 64, size: 16 << 10, keys: vec![key.to_owned()], may_close }
}

/// Kills the broker under load, starts it again, and gives the load's outcome after it was verified.
fn kill_and_restart(route: &str, may_close: bool) -> crate::support::load::Outcome {
    let kafka = Kafka::start();
    let key = unique("killed");
    let tidegate = Setup::new(&kafka.bootstrap())
        .log("memory_limit = \"16MiB\"\nmax_frame_size = \"4MiB\"")
        .topic(&key, 3, &format!("hold_ms = 1000\n{route}"))
        .start();
    let memory = MemoryWatch::start(&tidegate);
    let load = Load::start(tidegate.redis_addr(), &options(&key, may_close));
    wait_until(SOON, "load", || load.acknowledged() > 1_500);
    kafka.kill9(1);
    // Long enough for refusals of records in flight, of those held, and of those that find no room.
    wait_until(SOON, "refusals", || load.refused() + load.closed() > 200);
    kafka.restart(1);
    let before = load.acknowledged();
    wait_until(SOON, "acknowledgements again", || load.acknowledged() > before + 1_500);
    let outcome = load.finish();
    println!("{}", outcome.summary());
    println!("{:?}", outcome.errors());
    memory.assert_within(LIMIT);
    wait_until(SOON, "all settled", || tidegate.metric("tidegate_log_in_flight_bytes") == 0.0);
    // A record whose neighbours' time was over goes again, and may have been written when the broker died.
    let counted = tidegate.metric("tidegate_log_records_duplicated_total");
    println!("sent again: {counted}");
    outcome.verify_doubled(&[consume(&kafka.bootstrap(), &key)], counted);
    outcome
}

#[test]
fn a_lone_broker_killed_under_load_loses_nothing_acknowledged_and_every_refusal_is_an_error_reply() {
    let outcome = kill_and_restart("", false);
    assert!(outcome.refused > 0);
    assert!(outcome.errors().iter().all(|error| error.starts_with("ERR ")), "{:?}", outcome.errors());
    // A reply is held for the route's time; what waits for room before is held as long again. The rest is the machine's.
    assert!(outcome.longest < Duration::from_secs(5), "{:?}", outcome.longest);
}

#[test]
fn a_route_may_close_connections_in_place_of_errors() {
    let outcome = kill_and_restart("on_refusal = \"close\"", true);
    assert_eq!(outcome.refused, 0, "{:?}", outcome.errors());
    assert!(outcome.closed > 0);
}

#[test]
fn memory_stays_bounded_while_kafka_is_away_and_many_push() {
    let kafka = Kafka::start();
    let key = unique("bounded");
    let tidegate = Setup::new(&kafka.bootstrap())
        .log("memory_limit = \"16MiB\"\nmax_frame_size = \"4MiB\"")
        .topic(&key, 3, "hold_ms = 500")
        .start();
    // The topic is made at the first push, which may take longer than this route holds a reply.
    wait_until(SOON, "a push", || connect(&tidegate).command(["LPUSH", &key, "before"]) == Reply::Integer(1));
    let memory = MemoryWatch::start(&tidegate);
    kafka.kill9(1);
    // Small records too: what they cost beside their bytes counts.
    let small = LoadOptions { size: 20, depth: 2000, ..options(&key, false) };
    let loads = [Load::start(tidegate.redis_addr(), &options(&key, false)), Load::start(tidegate.redis_addr(), &small)];
    wait_until(SOON * 2, "many refusals", || loads.iter().all(|load| load.refused() > 3_000));
    let used = tidegate.metric("tidegate_log_in_flight_bytes");
    assert!(used <= LIMIT as f64, "{used}");
    // Whoever only asks is answered all the same.
    assert_eq!(connect(&tidegate).command(["PING"]).bytes(), b"PONG");
    assert_eq!(tidegate.get("/livez").status, 200);
    let outcomes = loads.map(Load::finish);
    outcomes.iter().for_each(|outcome| println!("{} {:?}", outcome.summary(), outcome.errors()));
    memory.assert_within(LIMIT);
    assert!(tidegate.metric_with("tidegate_log_records_refused_total", "reason=\"memory\"") > 0.0);
    wait_until(SOON, "all settled", || tidegate.metric("tidegate_log_in_flight_bytes") == 0.0);
    kafka.restart(1);
    wait_until(SOON, "a push", || connect(&tidegate).command(["LPUSH", &key, "after"]) == Reply::Integer(1));
    let records = consume(&kafka.bootstrap(), &key);
    assert!(records.len() < 10, "{} records of refused commands arrived", records.len());
    assert!(consume_exactly(&kafka.bootstrap(), &key, records.len()).iter().any(|record| record.value == b"after"));
}
