//! Requests of its own: a canary by header, and a preview.

use std::collections::BTreeMap;

use super::given::requests;
use super::scenarios::{rest, run_to, world};
use super::sim::World;
use crate::control::resource::progress::{Action, Phase};

/// A second in which all goes well.
fn second(world: &mut World) {
    world.tick(1);
    world.pods_come(9);
    world.gateway_pulls();
    world.reconcile(None).unwrap();
}

/// What the traffic was, change by change, until the end: shares of the new revision, and whether it had requests of its own.
fn changes(world: &mut World) -> Vec<(u32, bool)> {
    let mut changes = Vec::new();
    for _ in 0..400 {
        second(world);
        let now = (world.shares().get("new").copied().unwrap_or_default(), !world.matched().is_empty());
        if changes.last() != Some(&now) {
            changes.push(now);
        }
    }
    changes
}

#[test]
fn requests_that_match_come_before_any_share_and_stay_beside_it_until_all_traffic_has_moved() {
    let mut header = world("header");
    assert_eq!(changes(&mut header), [(0, false), (0, true), (100, true), (1_000, false)]);
    assert_eq!(header.status.phase, Phase::Healthy, "{}", header.status.message);
    let mut preview = world("preview");
    assert_eq!(changes(&mut preview), [(0, false), (0, true), (1_000, false)]);
    assert_eq!(preview.status.phase, Phase::Healthy, "{}", preview.status.message);
}

#[test]
fn they_have_the_pods_that_were_asked_for_them_and_those_stay_with_the_first_share() {
    let mut world = world("header");
    assert!(run_to(&mut world, Action::Pause));
    assert_eq!((world.replicas("new"), world.replicas("old"), world.matched()), (2, 4, vec!["new"]));
    assert!(run_to(&mut world, Action::SetTraffic));
    assert_eq!(world.replicas("new"), 2, "30 percent of 4, although the share is 10");
}

#[test]
fn no_request_goes_to_a_revision_whose_gate_was_not_passed_and_the_intent_is_persisted_first() {
    let mut world = world("preview");
    assert!(run_to(&mut world, Action::Gate));
    for _ in 0..20 {
        second(&mut world);
        assert!(world.matched().is_empty());
    }
    world.gate = crate::control::plan::GateSeen::Passed;
    world.reconcile(None).unwrap();
    let step = &world.status.plan[usize::try_from(world.status.current_step_index).unwrap()];
    assert_eq!((step.action, step.requests.clone()), (Action::SetMatch, Some(requests())));
    assert!(world.matched().is_empty(), "what a controller that takes over could not read is not done");
    world.reconcile(None).unwrap();
    assert_eq!(world.matched(), ["new"]);
}

#[test]
fn an_abort_and_a_freeze_take_the_requests_back_at_once_and_no_pod_goes_before_that_is_acknowledged() {
    for (name, freeze) in [("preview", false), ("preview", true), ("header", false), ("header", true)] {
        let mut world = world(name);
        assert!(run_to(&mut world, Action::SetMatch));
        world.reconcile(None).unwrap();
        world.gateway_pulls();
        assert_eq!(world.matched(), ["new"], "{name}");
        (world.goal.control.freeze, world.goal.control.abort) = (freeze, !freeze);
        world.reconcile(None).unwrap();
        world.reconcile(None).unwrap();
        assert_eq!((world.status.phase, world.matched()), (Phase::Aborting, vec![]), "{name} {freeze}");
        let pods = world.replicas("new");
        for _ in 0..20 {
            world.tick(1);
            world.reconcile(None).unwrap();
        }
        assert_eq!(world.replicas("new"), pods, "{name} {freeze}: nobody has acknowledged it");
        let (phase, shares, counts) = rest(&mut world);
        assert_eq!((phase, shares), (Phase::Degraded, BTreeMap::from([("old".to_owned(), 1_000)])));
        assert_eq!(counts.get("new"), Some(if freeze { &pods } else { &0 }), "{name}");
    }
}

#[test]
fn a_newer_release_takes_the_requests_of_the_one_before_back_and_then_its_pods() {
    let mut world = world("header");
    assert!(run_to(&mut world, Action::Pause));
    world.supersede("newer").unwrap();
    world.reconcile(None).unwrap();
    world.reconcile(None).unwrap();
    assert!(world.matched().is_empty(), "{:?}", world.traffic);
    assert!(world.replicas("new") > 0, "requests may still be under way there");
    let (phase, shares, counts) = rest(&mut world);
    assert_eq!((phase, shares), (Phase::Healthy, BTreeMap::from([("newer".to_owned(), 1_000)])));
    assert_eq!(counts.get("new").copied().unwrap_or_default(), 0);
}

#[test]
fn what_somebody_else_writes_among_the_members_is_put_right() {
    let mut world = world("blueGreen");
    rest(&mut world);
    let traffic = world.traffic.as_mut().unwrap();
    traffic.generation += 1;
    traffic.matched.insert("vm/mine".to_owned(), requests());
    let (phase, shares, _) = rest(&mut world);
    assert_eq!((phase, shares), (Phase::Healthy, BTreeMap::from([("new".to_owned(), 1_000)])));
    assert!(world.matched().is_empty());
}

#[test]
fn where_another_gateway_serves_it_is_refused_until_people_say_that_it_is_gone() {
    let mut world = world("preview");
    world.unmatching = vec!["edge-1".to_owned()];
    (0..60).for_each(|_| second(&mut world));
    assert_eq!((world.status.phase, world.matched()), (Phase::Paused, vec![]));
    assert!(world.status.message.contains("edge-1 gets this traffic as well"), "{}", world.status.message);
    world.unmatching.clear();
    world.goal.control.retries = 1;
    (0..3).for_each(|_| second(&mut world));
    assert_eq!(world.matched(), ["new"], "{}", world.status.message);
    assert_eq!(rest(&mut world).0, Phase::Healthy);
}
