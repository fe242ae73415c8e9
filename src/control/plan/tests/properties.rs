//! Whatever happens, no write is illegal, and when all goes well again the release ends as it must.

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;

use super::super::GateSeen;
use super::given::strategies;
use super::kills::Kill;
use super::sim::World;
use crate::control::resource::approval::Verdict;
use crate::control::resource::failure::{FailureCause, FailurePolicy};
use crate::control::resource::strategy::OnFailure;

#[derive(Clone, Debug)]
enum Event {
    Look,
    KilledLook(usize, bool),
    Tick(u64),
    PodsCome(u32),
    PodsFail(bool, u32),
    PodsFall(u32, FailureCause),
    PodsRecover,
    Pull,
    Desired(u32),
    Abort,
    Freeze,
    Pause(bool),
    Target(Option<u32>),
    Promote,
    Retry,
    Gate(GateSeen),
    Word(Verdict),
    Block(bool),
    Unmatching(bool),
    Supersede(bool),
}

fn event() -> impl Strategy<Value = Event> {
    let failed = || GateSeen::Failed("500".to_owned());
    prop_oneof![
        20 => Just(Event::Look),
        6 => (0..3_usize, any::<bool>()).prop_map(|(at, after)| Event::KilledLook(at, after)),
        10 => (0..12_u64).prop_map(Event::Tick),
        12 => (0..6_u32).prop_map(Event::PodsCome),
        5 => (any::<bool>(), 1..4_u32).prop_map(|(new, count)| Event::PodsFail(new, count)),
        8 => (1..4_u32, any::<bool>()).prop_map(|(count, stuck)| {
            Event::PodsFall(count, if stuck { FailureCause::Hook } else { FailureCause::CrashLoop })
        }),
        2 => Just(Event::PodsRecover),
        12 => Just(Event::Pull),
        3 => (0..12_u32).prop_map(Event::Desired),
        1 => Just(Event::Abort),
        1 => Just(Event::Freeze),
        1 => any::<bool>().prop_map(Event::Pause),
        1 => prop::option::of(0..12_u32).prop_map(Event::Target),
        1 => Just(Event::Promote),
        1 => Just(Event::Retry),
        3 => select(vec![GateSeen::Passed, GateSeen::Startable, GateSeen::Waiting("503".to_owned()), failed()]).prop_map(Event::Gate),
        1 => select(vec![Verdict::Approved, Verdict::Rejected]).prop_map(Event::Word),
        1 => any::<bool>().prop_map(Event::Block),
        1 => any::<bool>().prop_map(Event::Unmatching),
        1 => any::<bool>().prop_map(Event::Supersede),
    ]
}

fn policy() -> impl Strategy<Value = FailurePolicy> {
    let read = |text: &str| serde_json::from_str::<FailurePolicy>(text).unwrap();
    select(vec![
        FailurePolicy::default(),
        read(r#"{"fail": {}}"#),
        read(r#"{"stuckSeconds": 5, "recreate": {"maxPerPod": 2, "maxTotal": 5, "backoffSeconds": 0}}"#),
        read(r#"{"stuckSeconds": 5, "ignore": {"maxRatio": 40}}"#),
    ])
}

fn happen(world: &mut World, event: Event) -> Result<(), String> {
    match event {
        Event::Look => world.reconcile(None).map(drop)?,
        Event::KilledLook(at, after) => {
            let at = world.writes + at;
            world.reconcile(Some(if after { Kill::After(at) } else { Kill::Before(at) })).map(drop)?;
        }
        Event::Tick(seconds) => world.tick(seconds),
        Event::PodsCome(most) => world.pods_come(most),
        Event::PodsFail(new, count) => {
            let revision = if new { world.goal.revision.clone() } else { "old".to_owned() };
            world.pods_fail(&revision, count);
        }
        Event::PodsFall(count, cause) => world.pods_fall(count, cause, "it failed"),
        Event::PodsRecover => world.sick.clear(),
        Event::Pull => world.gateway_pulls(),
        Event::Desired(count) => world.desired = count,
        Event::Abort => world.goal.control.abort = true,
        Event::Freeze => world.goal.control.freeze = true,
        Event::Pause(paused) => world.goal.control.paused = paused,
        Event::Target(step) => world.goal.control.target_step = step,
        Event::Promote => world.goal.control.promote_full = true,
        Event::Retry => world.goal.control.retries += 1,
        Event::Gate(seen) => world.gate = seen,
        Event::Word(verdict) => world.word = Some((verdict, "ann".to_owned())),
        Event::Block(on) => world.blocked = on.then(|| "a sale until Monday".to_owned()),
        Event::Unmatching(on) => world.unmatching = if on { vec!["edge-1".to_owned()] } else { Vec::new() },
        Event::Supersede(back) => world.supersede(if back { "old" } else { "newer" })?,
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 3_000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_write_is_illegal_and_every_release_ends(
        at in 0..strategies().len(),
        desired in 1..10_u32,
        aborts in any::<bool>(),
        policy in policy(),
        events in vec(event(), 0..120),
    ) {
        let (_, strategy) = strategies().swap_remove(at);
        let mut world = World::new(strategy, desired);
        world.goal.on_failure = if aborts { OnFailure::Abort } else { OnFailure::Pause };
        world.goal.failure_policy = policy;
        for event in events {
            let told = happen(&mut world, event);
            prop_assert!(told.is_ok(), "{}", told.unwrap_err());
        }
        let settled = world.settle().and_then(|()| world.check_settled());
        prop_assert!(settled.is_ok(), "{}\n{:?}\n{:?}", settled.unwrap_err(), world.status, world.revisions);
    }
}
