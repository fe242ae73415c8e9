//! What people read: object, observed, wanted, since when, what is next.

use super::super::GateSeen;
use super::given::strategies;
use super::sim::World;
use crate::control::resource::approval::Verdict;
use crate::control::resource::failure::FailureCause;
use crate::control::resource::progress::{Action, Phase};
use crate::control::resource::strategy::{BlueGreen, Strategy};

fn world(name: &str) -> World {
    let (_, strategy) = strategies().into_iter().find(|(it, _)| *it == name).unwrap();
    World::new(strategy, 4)
}

fn approved() -> World {
    let blue_green = Some(BlueGreen { approval: true, scale_down_delay_seconds: 7, preview: None });
    World::new(Strategy { blue_green, ..Strategy::default() }, 4)
}

/// With this policy for pods that fail.
fn with(mut world: World, policy: &str) -> World {
    world.goal.failure_policy = serde_json::from_str(policy).unwrap();
    world
}

fn look(world: &mut World) {
    world.reconcile(None).unwrap();
    world.reconcile(None).unwrap();
}

/// Goes on until this step, all going well.
fn at(mut world: World, action: Action) -> World {
    for _ in 0..200 {
        let index = usize::try_from(world.status.current_step_index).unwrap();
        if world.status.plan.get(index).is_some_and(|step| step.action == action) {
            return world;
        }
        if action == Action::Gate {
            world.gate = GateSeen::Waiting("not yet".to_owned());
        }
        world.reconcile(None).unwrap();
        if !matches!(action, Action::AwaitAvailable) {
            world.pods_come(9);
        }
        if !matches!(action, Action::AwaitAck | Action::SetTraffic) {
            world.gateway_pulls();
        }
        if !matches!(action, Action::Drain) {
            world.tick(1);
        }
    }
    panic!("never at {action:?}: {}", world.status.message);
}

/// The message, with the time of the step left out: the clock of each case is its own.
fn said(world: &World) -> String {
    match world.status.step_since {
        Some(since) => world.status.message.replace(&since.to_string(), "T"),
        None => world.status.message.clone(),
    }
}

/// What happens in a world, and what is said then.
struct Case {
    name: &'static str,
    world: World,
    happens: fn(&mut World),
    wanted: &'static str,
}

fn case(name: &'static str, world: World, happens: fn(&mut World), wanted: &'static str) -> Case {
    Case { name, world, happens, wanted }
}

fn cases() -> Vec<Case> {
    vec![
        case(
            "paused before it began",
            world("surge"),
            |it| it.goal.control.paused = true,
            "has not begun: control.paused is set; clear it to begin",
        ),
        case(
            "blocked before it began",
            world("surge"),
            |it| it.blocked = Some("RolloutBlock sale holds until Monday: the sale".into()),
            "has not begun: RolloutBlock sale holds until Monday: the sale",
        ),
        case("aborted before it began", world("surge"), |it| it.goal.control.abort = true, "aborted before it began"),
        case(
            "pods starting",
            at(world("blueGreen"), Action::AwaitAvailable),
            |it| it.pods_come(2),
            "step 2 of 8: Deployment shop/web-new has 2 of 4 pods available, since T; next: Gate",
        ),
        case(
            "pods that were there before their count was changed",
            at(world("blueGreen"), Action::AwaitAvailable),
            |it| {
                let new = it.revisions.get_mut("new").unwrap();
                (new.ready, new.observed) = (4, false);
            },
            "step 2 of 8: Deployment shop/web-new has 4 of 4 pods available, but by a status of before: its controllers have not acted on its last count yet, since T; next: Gate",
        ),
        case(
            "pods in trouble",
            at(world("blueGreen"), Action::AwaitAvailable),
            |it| it.pods_fall(4, FailureCause::ImagePull, "the image of container web cannot be pulled"),
            "step 2 of 8: Deployment shop/web-new has 0 of 4 pods available (4 pods: the image of container web cannot be pulled, its last words: no database), since T; next: Gate",
        ),
        case(
            "pods that were recreated",
            at(world("blueGreen"), Action::AwaitAvailable),
            |it| {
                it.pods_fall(2, FailureCause::CrashLoop, "container web crashes");
                it.tick(10);
                look(it);
                it.pods_fall(1, FailureCause::CrashLoop, "container web crashes");
            },
            "step 2 of 8: Deployment shop/web-new has 0 of 4 pods available, 2 recreated (1 pod: container web crashes, its last words: no database), since T; next: Gate",
        ),
        case(
            "a pod that was recreated as often as is allowed",
            at(
                with(world("blueGreen"), r#"{"recreate": {"maxPerPod": 1, "backoffSeconds": 0}}"#),
                Action::AwaitAvailable,
            ),
            |it| {
                it.pods_fall(1, FailureCause::OutOfMemory, "container web was killed for its memory");
                look(it);
                it.pods_fall(1, FailureCause::OutOfMemory, "container web was killed for its memory");
            },
            "step 2 of 8: stopped: a pod's place was filled anew 1 times, the most that is allowed, and pod-2 failed: container web was killed for its memory, its last words: no database; abort it, or raise control.retries to let it try again, since T; next: Gate",
        ),
        case(
            "a pod that may not fail",
            at(with(world("blueGreen"), r#"{"fail": {}}"#), Action::AwaitAvailable),
            |it| it.pods_fall(1, FailureCause::Config, "container web does not start"),
            "step 2 of 8: stopped: pods failed, which failurePolicy.fail does not allow: 1 pod: container web does not start, its last words: no database; abort it, or raise control.retries to let it try again, since T; next: Gate",
        ),
        case(
            "a pod that is ignored and others that are late",
            at(with(world("blueGreen"), r#"{"ignore": {"maxRatio": 25}}"#), Action::AwaitAvailable),
            |it| {
                it.pods_fall(1, FailureCause::NodeGone, "node n-1 does not answer");
                it.pods_come(2);
            },
            "step 2 of 8: Deployment shop/web-new has 2 of 4 pods available, 1 ignored (1 pod: node n-1 does not answer, its last words: no database), since T; next: Gate",
        ),
        case(
            "pods too late",
            at(world("blueGreen"), Action::AwaitAvailable),
            |it| it.tick(601),
            "step 2 of 8: stopped: Deployment shop/web-new has 0 of 4 pods available, and no more than 0 within 600 s; abort it, or raise control.retries to let it try again, since T; next: Gate",
        ),
        case(
            "gate not passed",
            at(world("blueGreen"), Action::Gate),
            |it| it.gate = GateSeen::Waiting("pod p: GET http://10.0.0.1:8080/health answered 503".into()),
            "step 3 of 8: the gate of Deployment shop/web-new has not passed: pod p: GET http://10.0.0.1:8080/health answered 503, since T; next: SetTraffic 1/1",
        ),
        case(
            "gate failed",
            at(world("blueGreen"), Action::Gate),
            |it| it.gate = GateSeen::Failed("pod p answered 503".into()),
            "step 3 of 8: stopped: its gate failed: pod p answered 503; abort it, or raise control.retries to let it try again, since T; next: SetTraffic 1/1",
        ),
        case(
            "approval awaited",
            at(approved(), Action::Approval),
            |_| {},
            "step 4 of 9: no live Approval of web-2 for its image; wanted: one by who may, since T; next: SetTraffic 1/1",
        ),
        case(
            "rejected",
            at(approved(), Action::Approval),
            |it| it.word = Some((Verdict::Rejected, "ann".into())),
            "step 5 of 6: goes back because rejected by ann: requests under way have 7 s, since T; next: ScaleNew at most 0 pods",
        ),
        case(
            "acknowledgement awaited",
            at(world("blueGreen"), Action::AwaitAck),
            |_| {},
            "step 5 of 8: TrafficPolicy shop/web generation 4 is not acknowledged by edge-1, since T; next: Drain",
        ),
        case(
            "acknowledgement late",
            at(world("blueGreen"), Action::AwaitAck),
            |it| it.tick(61),
            "step 5 of 8: TrafficPolicy shop/web generation 4 is not acknowledged by edge-1; if one of them is gone for good, name it in control.ignoreGateways, since T; next: Drain",
        ),
        case(
            "draining",
            at(world("blueGreen"), Action::Drain),
            |_| {},
            "step 6 of 8: requests under way have 7 s, since T; next: AwaitAvailable",
        ),
        case(
            "paused by its plan",
            at(world("canary"), Action::Pause),
            |_| {},
            "step 6 of 20: a pause of 5 s, since T; next: ScaleNew 50/100",
        ),
        case(
            "paused by a person",
            at(world("canary"), Action::Pause),
            |it| it.goal.control.paused = true,
            "step 6 of 20: stopped: control.paused is set; clear it to go on, since T; next: ScaleNew 50/100",
        ),
        case(
            "kept at a step",
            at(world("canary"), Action::Pause),
            |it| it.goal.control.target_step = Some(5),
            "step 6 of 20: stays here: control.targetStep names this step; raise or clear it to go on, since T; next: ScaleNew 50/100",
        ),
        case(
            "traffic held by a window",
            at(world("surge"), Action::Gate),
            |it| {
                it.gate = GateSeen::Passed;
                it.blocked = Some("RolloutBlock sale holds until Monday: the sale".into());
            },
            "step 4 of 24: traffic is not switched: RolloutBlock sale holds until Monday: the sale, since T; next: AwaitAck",
        ),
        case(
            "requests that another gateway cannot tell apart",
            at(world("header"), Action::SetMatch),
            |it| it.unmatching = vec!["edge-1".to_owned()],
            "step 4 of 19: stopped: requests that match are told apart by the built-in gateway alone, and edge-1 gets this traffic as well; deploy without setMatch and preview, or, if one of them is gone for good, name it in control.ignoreGateways; abort it, or raise control.retries to let it try again, since T; next: AwaitAck",
        ),
        case(
            "a preview that is not acknowledged",
            at(world("preview"), Action::AwaitAck),
            |_| {},
            "step 5 of 10: TrafficPolicy shop/web generation 4 is not acknowledged by edge-1, since T; next: SetTraffic 1/1",
        ),
        case(
            "requests held by a window",
            at(world("preview"), Action::SetMatch),
            |it| it.blocked = Some("RolloutBlock sale holds until Monday: the sale".into()),
            "step 4 of 10: traffic is not switched: RolloutBlock sale holds until Monday: the sale, since T; next: AwaitAck",
        ),
        case(
            "old pods awaited on the way back",
            at(world("surge"), Action::ScaleOld),
            |it| {
                it.goal.control.abort = true;
                it.pods_fail("old", 4);
            },
            "step 2 of 6: Deployments of shop/web that ran before are to be available: old has 0 ready of 4, wanted 4, since T; next: SetTraffic 0/1",
        ),
    ]
}

#[test]
fn a_status_says_what_is_waited_for() {
    let cases = cases();
    assert!(cases.len() >= 22);
    for Case { name, mut world, happens, wanted } in cases {
        happens(&mut world);
        look(&mut world);
        assert_eq!(said(&world), wanted, "{name}");
    }
}

#[test]
fn requests_that_are_to_go_elsewhere_are_named_before_they_do() {
    assert_eq!(
        said(&at(world("preview"), Action::SetMatch)),
        "step 4 of 10: TrafficPolicy shop/web does not send requests with header x-canary=yes to new yet, since T; next: AwaitAck"
    );
}

#[test]
fn an_end_says_what_serves() {
    let mut healthy = world("surge");
    healthy.settle().unwrap();
    assert_eq!(healthy.status.message, "Deployment shop/web-new serves all traffic of shop/web");
    let mut aborted = at(world("surge"), Action::ScaleOld);
    aborted.goal.control.abort = true;
    aborted.settle().unwrap();
    assert_eq!(aborted.status.phase, Phase::Degraded);
    assert_eq!(aborted.status.message, "aborted: new has no traffic, its pods are gone, old serves as before");
}
