//! The machine stops at each operation of the disk in turn. What was reported durable and is not done is there afterwards, in
//! order, and nothing else is.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;

use super::kit::{SMALL, Steps, config, ids};
use super::model::{Luck, ModelDisk, Plan};
use crate::spool::lane::Lane;
use crate::spool::marks::Delivered;
use crate::spool::replay_frame::ReplayFrame;
use crate::spool::writer::Guard;

pub(super) const ROOT: &str = "/spool";

/// What was told to whoever appended, and what was told to the spool.
#[derive(Clone, Debug, Default)]
pub(super) struct History {
    /// Records that were appended, by lane, in order.
    pub(super) appended: BTreeMap<String, Vec<u128>>,
    /// Those that were reported durable.
    pub(super) durable: BTreeSet<u128>,
    /// Those that the spool was told to be done.
    pub(super) done: BTreeSet<u128>,
    next: u128,
}

// === impl History ===

impl History {
    /// Appends some records; gives their ids.
    pub(super) fn append(&mut self, spool: &mut Steps, lane: &Lane, count: u128) -> Vec<u128> {
        let ids: Vec<u128> = (self.next..self.next + count).collect();
        self.next += count;
        ids.into_iter().filter(|id| spool.append(lane, *id).is_ok().then(|| self.note(lane, *id)).is_some()).collect()
    }

    fn guard(&mut self, spool: &mut Steps, lane: &Lane, count: u128) -> (Vec<u128>, Option<Guard>) {
        let range = self.next..self.next + count;
        self.next += count;
        let guard = spool.guard(lane, range.clone()).ok();
        let ids: Vec<u128> = if guard.is_some() { range.collect() } else { Vec::new() };
        for id in &ids {
            self.note(lane, *id);
        }
        (ids, guard)
    }

    fn note(&mut self, lane: &Lane, id: u128) {
        self.appended.entry(lane.to_string()).or_default().push(id);
    }

    /// Commits what was appended.
    pub(super) fn commit(&mut self, spool: &mut Steps, ids: impl IntoIterator<Item = u128>) {
        let outcomes = spool.commit();
        assert!(outcomes.len() <= 1, "{outcomes:?}");
        if outcomes == [Ok(())] {
            self.durable.extend(ids);
        }
    }

    pub(super) fn done(&mut self, spool: &mut Steps, frame: &ReplayFrame, from: u32) {
        let done = frame.records().filter(|item| item.index >= from).map(|item| item.record.id);
        self.done.extend(done);
        spool.replay.done(frame.lane(), frame.id(), from..frame.count());
    }

    /// Records that must be there.
    pub(super) fn owed(&self) -> BTreeSet<u128> {
        self.durable.difference(&self.done).copied().collect()
    }

    /// Checks what another process, or this one, found to be delivered.
    pub(super) fn check(&self, found: &BTreeMap<String, Vec<u128>>, when: &str) {
        let all: Vec<u128> = found.values().flatten().copied().collect();
        let set: BTreeSet<u128> = all.iter().copied().collect();
        assert_eq!(set.len(), all.len(), "{when}: twice: {found:?}");
        let lost: Vec<_> = self.owed().difference(&set).copied().collect();
        assert!(lost.is_empty(), "{when}: lost {lost:?}, found {found:?}");
        for (lane, ids) in found {
            assert!(ids.is_sorted(), "{when}: {lane} is out of order: {ids:?}");
            assert!(ids.iter().all(|id| self.appended[lane].contains(id)), "{when}: {lane} has what is not its own");
        }
    }
}

pub(super) fn open(disk: &ModelDisk) -> Option<Steps> {
    Steps::open(Arc::new(disk.clone()), &config(Path::new(ROOT)), SMALL).ok()
}

/// A life of a process that does everything a spool does: several lanes, rotation, guards of each outcome, partial delivery,
/// checkpoints, deletion. Goes on as far as the disk lets it.
fn live(disk: &ModelDisk, history: &mut History) {
    let Some(mut spool) = open(disk) else { return };
    let (a, b) = (spool.lane("a", Some(0)), spool.lane("b", None));
    let (guarded, guard) = history.guard(&mut spool, &a, 6);
    let more = history.append(&mut spool, &a, 2);
    history.commit(&mut spool, guarded.iter().copied().chain(more));
    for _ in 0..4 {
        let of_a = history.append(&mut spool, &a, 3);
        let of_b = history.append(&mut spool, &b, 4);
        history.commit(&mut spool, of_a.into_iter().chain(of_b));
    }
    if let Some(guard) = guard {
        // Told to be delivered before it is known: only ever more than what is owed.
        history.done.extend(&guarded[1..4]);
        guard.resolve(Delivered::Some(vec![1..3, 3..4]));
    }
    let frames = read(&mut spool);
    for frame in frames.iter().take(frames.len() / 2) {
        history.done(&mut spool, frame, 0);
    }
    if let Some(frame) = frames.last() {
        history.done(&mut spool, frame, 1);
    }
    spool.keeper.turn();
    let of_b = history.append(&mut spool, &b, 5);
    history.commit(&mut spool, of_b);
    spool.replay.stop(&b);
    for frame in read(&mut spool) {
        history.done(&mut spool, &frame, 0);
    }
    spool.keeper.turn();
    // Files of what is done are written again, wholly and in part.
    for _ in 0..4 {
        let of_a = history.append(&mut spool, &a, 5);
        history.commit(&mut spool, of_a);
    }
    for frame in read(&mut spool).iter().take(3) {
        history.done(&mut spool, frame, 0);
    }
    spool.keeper.turn();
    let last = history.append(&mut spool, &a, 1);
    history.commit(&mut spool, last);
    spool.close();
}

/// Reads what can be read; nothing where the disk refuses.
pub(super) fn read(spool: &mut Steps) -> Vec<ReplayFrame> {
    let mut frames = Vec::new();
    while let Ok(crate::spool::replay::Progress::Read) = spool.replay.next(&mut |_| true, &mut frames, 300) {}
    frames
}

/// Two lives of a process, one after the other.
pub(super) fn lives(disk: &ModelDisk) -> History {
    let mut history = History::default();
    live(disk, &mut history);
    live(disk, &mut history);
    history
}

/// Opens the disk that a crash left, and checks what is there. What is then written must be there for the next process.
pub(super) fn inspect(disk: &ModelDisk, history: &History, when: &str) {
    let mut spool = open(disk).unwrap_or_else(|| panic!("{when}: does not open"));
    let frames = read(&mut spool);
    history.check(&ids(&frames), when);
    let mut history = history.clone();
    for frame in &frames {
        history.done(&mut spool, frame, 0);
    }
    let a = spool.lane("a", Some(0));
    assert_eq!(a.backlog(), 0, "{when}");
    let new = history.append(&mut spool, &a, 3);
    history.commit(&mut spool, new.clone());
    assert!(new.iter().all(|id| history.durable.contains(id)), "{when}: takes nothing");
    spool.close();
    let mut spool = open(disk).unwrap();
    assert_eq!(ids(&read(&mut spool)), BTreeMap::from([("a/0".to_owned(), new)]), "{when}: the life after");
}

fn operations() -> u64 {
    let disk = ModelDisk::new(Path::new(ROOT));
    let history = lives(&disk);
    assert!(history.durable.len() > 80 && !history.owed().is_empty());
    disk.operations()
}

#[test]
fn a_crash_at_any_operation_loses_nothing_that_was_reported_durable() {
    let operations = operations();
    for at in 0..operations {
        let disk = ModelDisk::new(Path::new(ROOT));
        disk.plan(Plan::Crash(at));
        let history = lives(&disk);
        for luck in [Luck::Nothing, Luck::Everything, Luck::Some(at), Luck::Some(!at), Luck::Some(at << 20)] {
            inspect(&disk.after_crash(luck), &history, &format!("operation {at} of {operations}, {luck:?}"));
        }
    }
}

#[test]
fn a_second_crash_while_recovering_from_the_first_loses_nothing_either() {
    let operations = operations();
    for at in (0..operations).step_by(7) {
        let disk = ModelDisk::new(Path::new(ROOT));
        disk.plan(Plan::Crash(at));
        let mut history = lives(&disk);
        let image = disk.after_crash(Luck::Some(at));
        for second in 0..60 {
            let disk = image.after_crash(Luck::Nothing);
            disk.plan(Plan::Crash(second));
            let before = history.clone();
            live(&disk, &mut history);
            let when = format!("operation {at} of {operations}, then {second}");
            inspect(&disk.after_crash(Luck::Some(second)), &history, &when);
            history = before;
        }
    }
}
