//! Tidegate itself ends with a backlog; the next start on the same directory drains it.

use super::{counted_twice, verify_in, wait_drained};
use crate::bed::{Kafka, Tidegate, unique, wait_until};
use crate::support::load::{Load, LoadOptions};
use crate::support::{SOON, Setup};
use std::time::{Duration, Instant};

fn options(key: &str) -> LoadOptions {
    LoadOptions { connections: 6, depth: 16, size: 300, keys: vec![key.to_owned()], may_close: true }
}

/// Records that came twice.
struct Twice {
    again: usize,
    /// What Tidegate counts as perhaps so.
    counted: usize,
    /// Of those, for the process that ended.
    restarted: usize,
}

/// A load that runs while Kafka goes, Tidegate ends by `end` and is started again, and Kafka comes.
fn restarted(end: impl FnOnce(&mut Tidegate)) -> Twice {
    let kafka = Kafka::start();
    let key = unique("again");
    let mut tidegate = Setup::new(&kafka.bootstrap()).spool("").topic(&key, 3, "").start();
    let load = Load::start(tidegate.redis_addr(), &options(&key));
    wait_until(SOON, "load", || load.acknowledged() > 5_000);
    kafka.kill9(1);
    let before = load.acknowledged();
    wait_until(SOON, "load without Kafka", || load.acknowledged() > before + 10_000);
    end(&mut tidegate);
    tidegate.restart();
    let before = load.acknowledged();
    wait_until(SOON, "load after the restart", || load.acknowledged() > before + 5_000);
    kafka.restart(1);
    let before = load.acknowledged();
    wait_until(SOON, "load with Kafka", || load.acknowledged() > before + 5_000);
    let outcome = load.finish();
    println!("{} {:?}", outcome.summary(), outcome.errors());
    wait_drained(&tidegate);
    let twice = Twice {
        again: verify_in(&outcome, &kafka.bootstrap(), &[key]),
        counted: counted_twice(&tidegate, ""),
        restarted: counted_twice(&tidegate, "cause=\"restart\""),
    };
    println!("{} came twice, {} counted, {} of them for the restart", twice.again, twice.counted, twice.restarted);
    assert!(twice.again <= twice.counted, "{} records came twice, {} counted", twice.again, twice.counted);
    twice
}

#[test]
fn killed_with_a_backlog_it_loses_nothing_that_was_acknowledged() {
    let twice = restarted(Tidegate::kill9);
    // Of more than 10 000 that waited, only what was on its way to Kafka may have arrived.
    assert!(twice.counted < 2_000, "{} counted, {} of them for the restart", twice.counted, twice.restarted);
}

#[test]
fn ended_with_a_backlog_it_ends_in_time_and_the_next_start_drains_it() {
    restarted(|tidegate| {
        let start = Instant::now();
        tidegate.sigterm();
        let status = tidegate.wait_exit(SOON);
        assert_eq!(status.code(), Some(0), "{}", tidegate.log());
        println!("ended after {:?}", start.elapsed());
        assert!(start.elapsed() < Duration::from_secs(10), "{:?}", start.elapsed());
    });
}
