//! Of two control components one leads.

use std::time::{Duration, Instant};

use serde_json::json;

use crate::bed::wait_until;
use crate::support::{SOON, Stage, template};

/// The promise.
const TAKEOVER: Duration = Duration::from_secs(15);

#[test]
fn another_instance_takes_over_from_one_that_is_killed_frozen_or_ended() {
    let stage = Stage::new();
    let mut first = stage.control();
    wait_until(SOON, "a leader", || first.leads());
    let mut second = stage.control();
    wait_until(SOON, "a ready follower", || second.is_ready());
    assert!(!second.leads());
    first.kill();
    let killed = Instant::now();
    wait_until(SOON, "another leader", || second.leads());
    assert!(killed.elapsed() < TAKEOVER, "{:?}", killed.elapsed());

    // One that is frozen and wakes up knows at once that its time is over, and that another leads.
    let third = stage.control();
    wait_until(SOON, "a ready follower", || third.is_ready());
    second.signal("STOP");
    let frozen = Instant::now();
    wait_until(SOON, "another leader", || third.leads());
    assert!(frozen.elapsed() < TAKEOVER, "{:?}", frozen.elapsed());
    second.signal("CONT");
    wait_until(SOON, "it steps down", || second.metric("tidegate_control_leader") == Some(0.0));
    stage.create_app("web", 1, &json!({"rolling": {}}), &template());
    stage.release("web", "web-1", "web:1", &json!({}));
    stage.wait_phase("web-1", "Healthy");
    assert_eq!(second.metric("tidegate_control_writes_total"), Some(0.0), "only the leader writes");

    // One that ends gracefully does not make the other wait for the Lease to run out.
    let mut third = third;
    third.signal("TERM");
    assert!(third.wait_end().success());
    let ended = Instant::now();
    wait_until(SOON, "another leader", || second.leads());
    assert!(ended.elapsed() < Duration::from_secs(7), "{:?}", ended.elapsed());
}
