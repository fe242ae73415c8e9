//! New pods that fail, and what the policies make of them.

use std::collections::BTreeMap;

use super::given::strategies;
use super::scenarios::{rest, run_to, world};
use super::sim::World;
use crate::control::resource::failure::FailureCause;
use crate::control::resource::progress::{Action, Phase};

/// A second of a world in which gateways and healthy pods keep up.
fn second(world: &mut World) {
    world.tick(1);
    world.pods_come(9);
    world.gateway_pulls();
    world.reconcile(None).unwrap();
}

#[test]
fn a_pod_that_fails_is_recreated_after_pauses_that_double_until_it_succeeds() {
    let mut world = world("blueGreen");
    assert!(run_to(&mut world, Action::AwaitAvailable));
    let began = world.now;
    let mut at = Vec::new();
    while at.len() < 3 {
        world.pods_fall(1, FailureCause::CrashLoop, "container web crashes");
        let before = world.status.recreated;
        second(&mut world);
        if world.status.recreated > before {
            at.push(world.now.since(began).as_secs());
        }
    }
    let pauses: Vec<u64> = at.windows(2).map(|two| two[1] - two[0]).collect();
    assert!(at[0] >= 10 && pauses[0] >= 20 && pauses[1] >= 40 && at[2] < 90, "{at:?}");
    let attempts: Vec<u32> = world.status.recreated_pods.iter().map(|it| it.attempt).collect();
    assert_eq!(attempts, [1, 2, 3]);
    assert_eq!(world.status.recreated_pods[0].why, "container web crashes, its last words: no database");
    assert_eq!(rest(&mut world).0, Phase::Healthy);
}

#[test]
fn a_pod_that_hangs_is_recreated_when_it_has_for_long_enough_and_one_that_no_node_takes_keeps_its_turn() {
    let mut world = world("blueGreen");
    world.goal.failure_policy.stuck_seconds = 60;
    assert!(run_to(&mut world, Action::AwaitAvailable));
    world.pods_fall(1, FailureCause::Hook, "init container migrate does not end");
    world.pods_fall(1, FailureCause::Unschedulable, "no node takes it");
    for _ in 0..59 {
        second(&mut world);
    }
    assert_eq!(world.status.recreated, 0);
    for _ in 0..200 {
        second(&mut world);
    }
    assert_eq!(world.status.recreated, 1, "{:?}", world.status.recreated_pods);
    assert_eq!(world.status.recreated_pods[0].cause, FailureCause::Hook);
    assert!(world.status.message.contains("no node takes it"), "{}", world.status.message);
}

#[test]
fn nothing_is_recreated_where_a_release_is_paused_or_goes_back() {
    for aborts in [false, true] {
        let mut world = world("surge");
        assert!(run_to(&mut world, Action::ScaleOld));
        world.pods_fail("new", 1);
        world.pods_fall(1, FailureCause::CrashLoop, "container web crashes");
        (world.goal.control.abort, world.goal.control.paused) = (aborts, !aborts);
        world.tick(100);
        for _ in 0..5 {
            world.reconcile(None).unwrap();
        }
        assert_eq!(world.status.recreated, 0);
    }
}

#[test]
fn old_pods_stay_in_the_place_of_those_that_are_ignored_until_these_come() {
    for (name, strategy) in strategies().into_iter().filter(|(name, _)| *name != "migrate") {
        let mut world = World::new(strategy, 4);
        world.goal.failure_policy = serde_json::from_str(r#"{"ignore": {"maxRatio": 25}}"#).unwrap();
        world.goal.control.promote_full = true;
        for _ in 0..300 {
            world.pods_fall(1, FailureCause::ImagePull, "the image cannot be pulled");
            // One fails, and its place is filled by none that does better.
            world.sick.values_mut().for_each(|sick| sick.truncate(1));
            second(&mut world);
        }
        let wanted = BTreeMap::from([("new".to_owned(), 750), ("old".to_owned(), 250)]);
        assert_eq!((world.status.phase, world.shares()), (Phase::Healthy, wanted), "{name}: {}", world.status.message);
        assert_eq!((world.replicas("old"), world.ready("new")), (1, 3), "{name}");
        assert!(world.status.message.contains("1 pods that failed and are ignored"), "{}", world.status.message);
        // What fails after the end is not ignored any more, and what comes ends it.
        world.pods_fail("new", 1);
        second(&mut world);
        assert_eq!(world.status.ignored_pods, 1, "{name}");
        let (phase, shares, counts) = rest(&mut world);
        assert_eq!((phase, shares), (Phase::Healthy, BTreeMap::from([("new".to_owned(), 1_000)])), "{name}");
        assert_eq!(counts.get("old").copied().unwrap_or_default(), 0, "{name}");
    }
}

#[test]
fn more_failed_pods_than_may_be_ignored_hold_the_release_up() {
    let mut world = world("blueGreen");
    world.goal.failure_policy = serde_json::from_str(r#"{"ignore": {"maxRatio": 25}}"#).unwrap();
    assert!(run_to(&mut world, Action::AwaitAvailable));
    world.pods_fail("new", 4);
    world.pods_fall(2, FailureCause::CrashLoop, "container web crashes");
    for _ in 0..620 {
        second(&mut world);
    }
    assert_eq!((world.status.phase, world.shares().len()), (Phase::Paused, 1));
    assert!(world.status.message.contains("2 of 4 pods available, 1 ignored (2 pods: "), "{}", world.status.message);
}

#[test]
fn the_first_pod_that_fails_is_the_end_where_none_may_and_a_retry_begins_with_others() {
    let mut world = world("blueGreen");
    world.goal.failure_policy = serde_json::from_str(r#"{"fail": {}}"#).unwrap();
    assert!(run_to(&mut world, Action::AwaitAvailable));
    world.pods_fall(1, FailureCause::CrashLoop, "container web crashes");
    world.reconcile(None).unwrap();
    assert_eq!(world.status.phase, Phase::Paused);
    assert!(world.status.message.contains("failurePolicy.fail"), "{}", world.status.message);
    world.goal.control.retries += 1;
    for _ in 0..3 {
        second(&mut world);
    }
    assert_eq!(world.status.recreated, 1);
    assert_eq!(rest(&mut world).0, Phase::Healthy);
}
