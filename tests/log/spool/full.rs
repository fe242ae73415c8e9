//! The spool is full while Kafka is away: what finds no room is refused as the route says, and nothing else is lost.

use super::{DRAIN, counted_twice, verify_in, wait_drained};
use crate::bed::{Kafka, Reply, unique, wait_until};
use crate::outage::MemoryWatch;
use crate::support::load::{Load, LoadOptions};
use crate::support::{SOON, Setup, connect};

#[test]
fn what_finds_no_room_is_refused_and_what_was_acknowledged_comes() {
    let kafka = Kafka::start();
    let key = unique("full");
    kafka.create_topic(&key, 2, 1, &[]);
    let tidegate = Setup::new(&kafka.bootstrap())
        .log("memory_limit = \"32MiB\"\nmax_frame_size = \"4MiB\"")
        .spool("max_size = \"128MiB\"")
        .topic(&key, 2, "hold_ms = 1000")
        .start();
    let memory = MemoryWatch::start(&tidegate);
    let options = LoadOptions { connections: 4, depth: 4, size: 100_000, keys: vec![key.clone()], may_close: false };
    let load = Load::start(tidegate.redis_addr(), &options);
    wait_until(SOON, "load", || load.acknowledged() > 100);
    kafka.freeze(1);
    wait_until(DRAIN, "a refusal", || load.refused() > 20);
    assert!(tidegate.metric("tidegate_spool_bytes") <= 128.0 * 1024.0 * 1024.0);
    kafka.thaw(1);
    let before = load.acknowledged();
    wait_until(DRAIN, "load with Kafka again", || load.acknowledged() > before + 500);
    let outcome = load.finish();
    println!("{} {:?}", outcome.summary(), outcome.errors());
    wait_drained(&tidegate);
    memory.assert_within(32 << 20);
    let again = verify_in(&outcome, &kafka.bootstrap(), std::slice::from_ref(&key));
    assert!(again <= counted_twice(&tidegate, ""), "{again} came twice");
    assert_eq!(connect(&tidegate).command(["LPUSH", &key, "after"]), Reply::Integer(1));
}
