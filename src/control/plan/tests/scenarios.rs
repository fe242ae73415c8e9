//! What people ask of a release, and a controller that dies at each write in turn.

use std::collections::BTreeMap;

use super::super::GateSeen;
use super::given::strategies;
use super::kills::Kill;
use super::sim::World;
use crate::control::resource::approval::Verdict;
use crate::control::resource::progress::{Action, Phase};
use crate::control::resource::strategy::{BlueGreen, OnFailure, Strategy};

pub(super) fn world(name: &str) -> World {
    let (_, strategy) = strategies().into_iter().find(|(it, _)| *it == name).unwrap();
    World::new(strategy, 4)
}

/// Goes on, all going well, until the current step does this; `false` when it ended before.
pub(super) fn run_to(world: &mut World, action: Action) -> bool {
    for _ in 0..500 {
        let at = usize::try_from(world.status.current_step_index).unwrap();
        if world.status.plan.get(at).is_some_and(|step| step.action == action) {
            return true;
        }
        if world.status.phase.is_final() {
            return false;
        }
        world.goal.control.promote_full = action != Action::Pause;
        world.tick(1);
        if action != Action::AwaitAvailable {
            world.pods_come(9);
        }
        if action != Action::AwaitAck {
            world.gateway_pulls();
        }
        if action == Action::Gate {
            world.gate = GateSeen::Waiting("not yet".to_owned());
        }
        world.reconcile(None).unwrap();
    }
    panic!("neither {action:?} nor the end: {}", world.status.message);
}

pub(super) fn rest(world: &mut World) -> (Phase, BTreeMap<String, u32>, BTreeMap<String, u32>) {
    world.settle().and_then(|()| world.check_settled()).unwrap();
    let counts = world.revisions.iter().map(|(revision, it)| (revision.clone(), it.replicas)).collect();
    (world.status.phase, world.shares(), counts)
}

#[test]
fn every_strategy_brings_the_new_revision_all_traffic_and_lets_the_old_pods_go() {
    for (name, strategy) in strategies() {
        let mut world = World::new(strategy, 4);
        let (phase, shares, counts) = rest(&mut world);
        assert_eq!((phase, shares), (Phase::Healthy, BTreeMap::from([("new".to_owned(), 1_000)])), "{name}");
        assert_eq!(counts.get("old").copied().unwrap_or_default(), 0, "{name}");
    }
}

#[test]
fn a_controller_that_dies_at_any_write_leaves_the_same_end() {
    for (name, strategy) in strategies() {
        let mut undisturbed = World::new(strategy.clone(), 4);
        let wanted = rest(&mut undisturbed);
        assert!(undisturbed.writes >= 8, "{name}: {} writes are no deploy", undisturbed.writes);
        for at in 0..undisturbed.writes {
            for kill in [Kill::Before(at), Kill::After(at)] {
                let mut world = World::new(strategy.clone(), 4);
                while world.writes <= at && !world.status.phase.is_final() {
                    world.goal.control.promote_full = true;
                    world.tick(1);
                    world.pods_come(9);
                    world.gateway_pulls();
                    world.reconcile(Some(kill)).unwrap();
                }
                assert_eq!(rest(&mut world), wanted, "{name} {kill:?}");
            }
        }
    }
}

#[test]
fn a_frozen_revision_leaves_every_pool_and_keeps_its_pods_until_it_is_aborted() {
    let mut world = world("surge");
    assert!(run_to(&mut world, Action::ScaleOld));
    world.goal.control.freeze = true;
    let pods = world.replicas("new");
    let (phase, shares, counts) = rest(&mut world);
    assert_eq!((phase, shares), (Phase::Degraded, BTreeMap::from([("old".to_owned(), 1_000)])));
    assert_eq!((counts.get("new"), counts.get("old")), (Some(&pods), Some(&4)));
    world.goal.control.abort = true;
    let (_, _, counts) = rest(&mut world);
    assert_eq!(counts.get("new"), Some(&0));
}

#[test]
fn a_first_release_has_nothing_to_take_traffic_from_and_nothing_to_go_back_to() {
    let mut world = world("canary");
    (world.traffic, world.revisions) = (None, BTreeMap::new());
    let (phase, shares, _) = rest(&mut world);
    assert_eq!((phase, shares), (Phase::Healthy, BTreeMap::from([("new".to_owned(), 1_000)])));
    let actions: Vec<Action> = world.status.plan.iter().map(|step| step.action).collect();
    assert_eq!(actions, [Action::ScaleNew, Action::AwaitAvailable, Action::Gate, Action::SetTraffic, Action::AwaitAck]);
}

#[test]
fn a_switch_that_is_not_acknowledged_pauses_names_who_is_missing_and_lets_no_pod_go() {
    let mut world = world("blueGreen");
    assert!(run_to(&mut world, Action::AwaitAck));
    world.tick(61);
    world.reconcile(None).unwrap();
    assert_eq!(world.status.phase, Phase::Paused);
    assert!(
        world.status.message.contains("edge-1") && world.status.message.contains("ignoreGateways"),
        "{}",
        world.status.message
    );
    world.tick(10_000);
    assert_eq!(world.reconcile(None), Ok(0));
    assert_eq!(world.replicas("old"), 4);
    world.gateway_pulls();
    assert_eq!(rest(&mut world).0, Phase::Healthy);
}

#[test]
fn a_gate_that_fails_stops_the_release_or_sends_it_back() {
    for (on_failure, phase) in [(OnFailure::Pause, Phase::Paused), (OnFailure::Abort, Phase::Degraded)] {
        let mut world = world("blueGreen");
        world.goal.on_failure = on_failure;
        world.gate = GateSeen::Failed("10.0.0.9:8080/health answered 500".to_owned());
        for _ in 0..100 {
            world.tick(1);
            world.pods_come(9);
            world.gateway_pulls();
            world.reconcile(None).unwrap();
        }
        assert_eq!(world.status.phase, phase);
        assert!(world.status.message.contains("answered 500"), "{}", world.status.message);
        assert_eq!(world.shares().keys().collect::<Vec<_>>(), ["old"]);
    }
}

#[test]
fn pods_that_do_not_come_are_a_failure_only_once_none_came_for_the_whole_deadline() {
    let mut world = world("blueGreen");
    assert!(run_to(&mut world, Action::AwaitAvailable));
    (world.revisions.get_mut("new").unwrap().ready, world.status.available_high_water) = (0, 0);
    for _ in 0..3 {
        world.tick(500);
        world.pods_come(1);
        world.reconcile(None).unwrap();
        assert_eq!(world.status.phase, Phase::Progressing, "{}", world.status.message);
    }
    world.tick(601);
    world.reconcile(None).unwrap();
    assert_eq!(world.status.phase, Phase::Paused);
    assert!(world.status.message.contains("3 of 4 pods available"), "{}", world.status.message);
    world.goal.control.retries = 1;
    world.reconcile(None).unwrap();
    assert_eq!(world.status.phase, Phase::Progressing);
}

#[test]
fn an_approval_is_waited_for_and_a_rejection_sends_it_back() {
    let strategy = || Strategy {
        blue_green: Some(BlueGreen { approval: true, scale_down_delay_seconds: 7, preview: None }),
        ..Strategy::default()
    };
    for (verdict, phase) in [(Verdict::Approved, Phase::Healthy), (Verdict::Rejected, Phase::Degraded)] {
        let mut world = World::new(strategy(), 4);
        assert!(run_to(&mut world, Action::Approval));
        world.reconcile(None).unwrap();
        assert_eq!(world.status.phase, Phase::Paused);
        world.word = Some((verdict, "ann".to_owned()));
        for _ in 0..60 {
            world.tick(1);
            world.pods_come(9);
            world.gateway_pulls();
            world.reconcile(None).unwrap();
        }
        assert_eq!(world.status.phase, phase, "{}", world.status.message);
    }
}

#[test]
fn an_image_that_was_tested_elsewhere_gets_no_traffic_by_any_strategy_before_it_is_approved() {
    for (name, strategy) in strategies() {
        let mut world = World::new(strategy, 4);
        world.goal.promoted = true;
        world.goal.control.promote_full = true;
        let mut approved = false;
        for second in 0..400 {
            world.tick(1);
            world.pods_come(9);
            world.gateway_pulls();
            world.reconcile(None).unwrap();
            let has = world.shares().contains_key("new") || !world.matched().is_empty();
            assert!(approved || !has, "{name}: {:?}", world.traffic);
            if second == 60 {
                assert_eq!(world.status.phase, Phase::Paused, "{name}: {}", world.status.message);
                (approved, world.word) = (true, Some((Verdict::Approved, "ann".to_owned())));
            }
        }
        assert_eq!(world.status.phase, Phase::Healthy, "{name}: {}", world.status.message);
    }
}

#[test]
fn a_pause_ends_by_a_persons_word_and_a_release_goes_one_step_back_at_any_time() {
    let mut world = world("migrate");
    for _ in 0..200 {
        world.tick(1);
        world.pods_come(9);
        world.gateway_pulls();
        world.reconcile(None).unwrap();
    }
    let at = world.status.current_step_index;
    assert_eq!(
        (world.status.phase, world.shares().get("new")),
        (Phase::Paused, Some(&500)),
        "{}",
        world.status.message
    );
    // Back to the pause at ten percent.
    world.goal.control.target_step = Some(at - 6);
    for _ in 0..30 {
        world.tick(1);
        world.pods_come(9);
        world.gateway_pulls();
        world.reconcile(None).unwrap();
    }
    assert_eq!(world.shares().get("new"), Some(&100), "{}", world.status.message);
    world.goal.control.target_step = Some(at + 1);
    assert_eq!(rest(&mut world).0, Phase::Healthy);
}

#[test]
fn a_window_holds_up_the_beginning_and_every_switch_and_no_abort() {
    let mut world = world("surge");
    world.blocked = Some("RolloutBlock sale: the sale, until 2023-11-15".to_owned());
    world.reconcile(None).unwrap();
    assert_eq!((world.status.phase, world.status.plan.len()), (Phase::Pending, 0));
    assert!(world.status.message.contains("the sale"), "{}", world.status.message);
    world.blocked = None;
    assert!(run_to(&mut world, Action::Gate));
    world.gate = GateSeen::Passed;
    world.blocked = Some("RolloutBlock sale: the sale, until 2023-11-15".to_owned());
    for _ in 0..20 {
        world.tick(1);
        world.reconcile(None).unwrap();
    }
    assert_eq!(world.shares().len(), 1, "traffic did not move");
    assert!(world.status.message.contains("the sale"), "{}", world.status.message);
    world.goal.control.abort = true;
    for _ in 0..60 {
        world.tick(1);
        world.pods_come(9);
        world.gateway_pulls();
        world.reconcile(None).unwrap();
    }
    assert_eq!(world.status.phase, Phase::Degraded);
}

#[test]
fn a_rollback_to_a_revision_that_still_runs_passes_its_gate_over() {
    let mut world = world("blueGreen");
    assert!(run_to(&mut world, Action::Drain));
    world.reconcile(None).unwrap();
    world.supersede("old").unwrap();
    world.goal.rollback = true;
    world.reconcile(None).unwrap();
    assert!(world.status.plan.iter().all(|step| step.action != Action::Gate), "{:?}", world.status.plan);
    let (phase, shares, counts) = rest(&mut world);
    assert_eq!((phase, shares), (Phase::Healthy, BTreeMap::from([("old".to_owned(), 1_000)])));
    assert_eq!((counts.get("old"), counts.get("new")), (Some(&4), Some(&0)));
}

#[test]
fn a_settled_app_follows_its_count() {
    let mut world = world("rolling");
    rest(&mut world);
    for count in [9, 2] {
        world.desired = count;
        let (phase, _, counts) = rest(&mut world);
        assert_eq!((phase, counts.get("new")), (Phase::Healthy, Some(&count)));
    }
}

#[test]
fn where_room_comes_first_a_count_that_grows_under_way_is_reached() {
    let mut world = world("shrink");
    world.desired = 1;
    world.reconcile(None).unwrap();
    world.desired = 6;
    let (phase, _, counts) = rest(&mut world);
    assert_eq!((phase, counts.get("new")), (Phase::Healthy, Some(&6)));
}

#[test]
fn the_job_of_a_gate_is_made_once_it_is_persisted_that_the_gate_is_asked_and_its_end_is_waited_for() {
    let mut world = world("blueGreen");
    world.gate = GateSeen::Startable;
    for _ in 0..20 {
        world.tick(1);
        world.pods_come(9);
        world.gateway_pulls();
        world.reconcile(None).unwrap();
    }
    assert_eq!(world.gate, GateSeen::Waiting("the Job has not ended".to_owned()));
    assert!(world.status.message.contains("has not passed: the Job has not ended"), "{}", world.status.message);
    assert_eq!(world.shares().len(), 1);
    assert_eq!(rest(&mut world).0, Phase::Healthy);
}
