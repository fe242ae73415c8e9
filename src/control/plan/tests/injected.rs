//! What people, autoscalers and newer releases do in the middle: after each single write of every strategy, so that it is met at
//! every step and between the writes of one. Each write that follows is judged as it is made; here, what is left in the end.

use std::collections::BTreeMap;

use super::given::strategies;
use super::kills::Kill;
use super::scenarios::rest;
use super::sim::World;
use crate::control::resource::progress::Phase;
use crate::control::resource::strategy::Strategy;

const PODS: u32 = 4;

/// Something that happens once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Injected {
    Abort,
    /// Said, undone by what it set being unset, and said again: what is repeated changes nothing.
    AbortTwice,
    Freeze,
    FreezeThenAbort,
    /// Stopped for a while.
    Pause,
    /// A newer release: another image, or another template of the App's.
    Supersede,
    /// A newer release that brings what ran before.
    Rollback,
    /// Another count of the App's or its autoscaler's.
    Count(u32),
    CountThenAbort(u32),
    CountThenRollback(u32),
}

const ALL: [Injected; 13] = [
    Injected::Abort,
    Injected::AbortTwice,
    Injected::Freeze,
    Injected::FreezeThenAbort,
    Injected::Pause,
    Injected::Supersede,
    Injected::Rollback,
    Injected::Count(9),
    Injected::Count(1),
    Injected::CountThenAbort(9),
    Injected::CountThenAbort(1),
    Injected::CountThenRollback(9),
    Injected::CountThenRollback(1),
];

/// How it ends: the phase, who has all traffic, and each revision's pods.
type End = (Phase, BTreeMap<String, u32>, BTreeMap<String, u32>);

/// A second in which all goes well, and the controller ends after this write.
fn second(world: &mut World, last: usize) {
    world.goal.control.promote_full = true;
    world.tick(1);
    world.pods_come(9);
    world.gateway_pulls();
    world.reconcile(Some(Kill::After(last))).unwrap();
}

/// All going well, just after this write; `None` where the release had ended by then.
fn after(strategy: &Strategy, write: usize) -> Option<World> {
    let mut world = World::new(strategy.clone(), PODS);
    while world.writes <= write && !world.status.phase.is_final() {
        second(&mut world, write);
    }
    (!world.status.phase.is_final()).then_some(world)
}

fn inject(world: &mut World, it: Injected) {
    let few = |world: &mut World| (0..3).for_each(|_| second(world, usize::MAX));
    match it {
        Injected::Abort => world.goal.control.abort = true,
        Injected::AbortTwice => {
            for abort in [true, false, true] {
                world.goal.control.abort = abort;
                few(world);
            }
        }
        Injected::Freeze => world.goal.control.freeze = true,
        Injected::FreezeThenAbort => {
            world.goal.control.freeze = true;
            few(world);
            world.goal.control.abort = true;
        }
        Injected::Pause => {
            world.goal.control.paused = true;
            let pods = world.replicas("new");
            few(world);
            assert!(world.replicas("new") <= pods, "it gained a pod while it was stopped");
        }
        Injected::Supersede => world.supersede("newer").unwrap(),
        Injected::Rollback => {
            world.supersede("old").unwrap();
            world.goal.rollback = true;
        }
        Injected::Count(count) => world.desired = count,
        Injected::CountThenAbort(count) => {
            world.desired = count;
            few(world);
            world.goal.control.abort = true;
        }
        Injected::CountThenRollback(count) => {
            world.desired = count;
            few(world);
            inject(world, Injected::Rollback);
        }
    }
}

/// Whether an end is as the invariants want it, of a release that an abort could still reach.
fn is_as_wanted(it: Injected, foreign: bool, kept: u32, (phase, shares, counts): &End) -> bool {
    let before = if foreign { "vm/old" } else { "old" };
    let desired = match it {
        Injected::Count(count) | Injected::CountThenAbort(count) | Injected::CountThenRollback(count) => count,
        _ => PODS,
    };
    let (ends, serves, new) = match it {
        Injected::Abort | Injected::AbortTwice | Injected::FreezeThenAbort | Injected::CountThenAbort(_) => {
            (Phase::Degraded, before, 0)
        }
        Injected::Freeze => (Phase::Degraded, before, kept),
        Injected::Pause | Injected::Count(_) => (Phase::Healthy, "new", desired),
        Injected::Supersede => (Phase::Healthy, "newer", 0),
        Injected::Rollback | Injected::CountThenRollback(_) => (Phase::Healthy, "old", 0),
    };
    let count = |revision: &str| counts.get(revision).copied().unwrap_or_default();
    let others = ["old", "newer"].into_iter().all(|it| count(it) == if it == serves { desired } else { 0 });
    *phase == ends && *shares == BTreeMap::from([(serves.to_owned(), 1_000)]) && count("new") == new && others
}

#[test]
fn whatever_comes_after_whichever_write_leaves_traffic_counts_and_phase_as_they_must_be() {
    for (name, strategy) in strategies() {
        let mut undisturbed = World::new(strategy.clone(), PODS);
        rest(&mut undisturbed);
        let mut met = 0;
        for it in ALL {
            for write in 0..undisturbed.writes {
                let Some(mut world) = after(&strategy, write) else { continue };
                let kept = world.replicas("new");
                inject(&mut world, it);
                // What was said too late finds a release that has ended, and leaves it as it is.
                let late = world.status.phase == Phase::Healthy;
                let end = rest(&mut world);
                assert!(
                    late || is_as_wanted(it, strategy.migrate.is_some(), kept, &end),
                    "{name}, {it:?} after write {write}: {end:?} {:?}",
                    world.status
                );
                met += usize::from(!late);
            }
        }
        assert!(met > ALL.len() * undisturbed.writes / 2, "{name}: only {met} were in time");
    }
}
