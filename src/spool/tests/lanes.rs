//! Order, backlog, guards, stopping and restarting, on a disk that works.

use std::sync::Arc;

use super::kit::{SMALL, Steps, config, ids, one};
use crate::spool::disk::RealDisk;
use crate::spool::marks::Delivered;
use crate::spool::replay::Progress;

struct Place(tempfile::TempDir);

impl Place {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn open(&self) -> Steps {
        Steps::open(Arc::new(RealDisk), &config(self.0.path()), SMALL).unwrap()
    }

    fn segments(&self) -> usize {
        let entries = std::fs::read_dir(self.0.path().join("segments")).unwrap().map(Result::unwrap);
        entries.filter(|entry| entry.path().extension().is_some_and(|suffix| suffix == "seg")).count()
    }
}

#[test]
fn what_is_written_is_read_back_in_order_of_its_lane() {
    let place = Place::new();
    let mut spool = place.open();
    let (a, b) = (spool.lane("a", Some(0)), spool.lane("b", None));
    for id in 0..200 {
        spool.append(if id % 3 == 0 { &a } else { &b }, id).unwrap();
        if id % 7 == 0 {
            assert_eq!(spool.commit(), [Ok(())]);
        }
    }
    assert_eq!(spool.commit(), [Ok(())]);
    assert_eq!((a.backlog(), b.backlog()), (67, 133));
    let frames = spool.read();
    let read = ids(&frames);
    assert_eq!(read["a/0"], (0..200).step_by(3).collect::<Vec<_>>());
    assert_eq!(read["b"], (0..200).filter(|id| id % 3 != 0).collect::<Vec<_>>());
    assert_eq!(spool.replay.next(&mut |_| true, &mut Vec::new(), 1).unwrap(), Progress::Tail);
    assert_eq!((a.backlog(), b.backlog()), (67, 133), "what is handed out is not done");
    spool.done(&frames);
    assert_eq!((a.backlog(), b.backlog()), (0, 0));
    assert!(place.segments() > 5);
    spool.keeper.turn();
    assert_eq!(place.segments(), 1, "segments that are done are deleted");
}

#[test]
fn a_lane_that_is_stopped_comes_again_from_its_first_record_that_is_not_done() {
    let place = Place::new();
    let mut spool = place.open();
    let (a, b) = (spool.lane("a", Some(0)), spool.lane("b", Some(0)));
    for round in 0..20 {
        spool.write(&a, round * 10..round * 10 + 5);
        spool.write(&b, round * 10 + 5..round * 10 + 10);
    }
    let frames = spool.read();
    let of_a: Vec<_> = frames.iter().filter(|frame| *frame.lane() == a).collect();
    // The third frame is done as a whole, the first but for its first record.
    spool.replay.done(&a, of_a[2].id(), 0..of_a[2].count());
    spool.replay.done(&a, of_a[0].id(), 1..of_a[0].count());
    let done: Vec<u128> = of_a[0].records().skip(1).chain(of_a[2].records()).map(|item| item.record.id).collect();
    spool.replay.stop(&a);
    spool.replay.done(&a, of_a[1].id(), 0..of_a[1].count());
    assert_eq!(spool.read_of(|lane| *lane != a).len(), 0, "the other lane has been read");
    let again = spool.read();
    let expected = (0..200).filter(|id| id % 10 < 5 && !done.contains(id));
    assert_eq!(ids(&again), one(&a, expected), "what was reported after the stop comes again");
    spool.done(&frames);
    spool.done(&again);
    assert_eq!((a.backlog(), b.backlog()), (0, 0));
}

#[test]
fn a_lane_that_is_not_runnable_stops_no_other_and_misses_nothing() {
    let place = Place::new();
    let mut spool = place.open();
    let (a, b) = (spool.lane("a", Some(0)), spool.lane("b", Some(0)));
    for round in 0..20 {
        spool.write(&a, round * 10..round * 10 + 5);
        spool.write(&b, round * 10 + 5..round * 10 + 10);
    }
    // One frame of a, then none: the rest of it waits while b is read to its end.
    let mut asked = 0;
    let first = spool.read_of(|lane| {
        asked += usize::from(*lane == a);
        *lane != a || asked <= 2
    });
    let read = ids(&first);
    assert_eq!(read["b/0"].len(), 100);
    assert!(!read["a/0"].is_empty() && read["a/0"].len() < 10, "{read:?}");
    assert_eq!(spool.replay.next(&mut |lane| *lane != a, &mut Vec::new(), 1).unwrap(), Progress::Held);
    let rest = ids(&spool.read());
    let all: Vec<u128> = read["a/0"].iter().chain(&rest["a/0"]).copied().collect();
    assert_eq!(all, (0..200).filter(|id| id % 10 < 5).collect::<Vec<_>>());
}

#[test]
fn a_lane_is_not_replayed_while_a_guard_is_unresolved() {
    let place = Place::new();
    let mut spool = place.open();
    let lane = spool.lane("a", Some(0));
    let guards: Vec<_> = (0..3).map(|n| spool.guard(&lane, n * 20..n * 20 + 20).unwrap()).collect();
    spool.append(&lane, 60).unwrap();
    assert_eq!(spool.commit(), [Ok(())]);
    assert_eq!((lane.backlog(), lane.guards()), (61, 3));
    assert_eq!(spool.replay.next(&mut |_| true, &mut Vec::new(), 1).unwrap(), Progress::Held);
    let mut guards = guards.into_iter();
    guards.next().unwrap().resolve(Delivered::All);
    guards.next().unwrap().resolve(Delivered::Some(vec![0..3, 7..20]));
    assert_eq!((lane.backlog(), lane.guards()), (25, 1));
    assert_eq!(spool.read().len(), 0);
    guards.next().unwrap().resolve(Delivered::None);
    let frames = spool.read();
    assert_eq!(ids(&frames), one(&lane, (23..27).chain(40..61)));
    assert!(frames.iter().take(2).all(super::super::replay_frame::ReplayFrame::is_guard));
    spool.done(&frames);
    assert_eq!((lane.backlog(), lane.guards()), (0, 0));
}

#[test]
fn a_guard_may_be_resolved_before_it_is_written() {
    let place = Place::new();
    let mut spool = place.open();
    let lane = spool.lane("a", Some(0));
    let guard = spool.guard(&lane, 0..30).unwrap();
    guard.resolve(Delivered::Some(vec![0..10, 10..29]));
    drop(spool.guard(&lane, 30..32).unwrap());
    assert_eq!(spool.commit(), [Ok(())]);
    assert_eq!((lane.backlog(), lane.guards()), (3, 0));
    assert_eq!(ids(&spool.read()), one(&lane, 29..32), "a guard that nobody resolved is not delivered");
}

#[test]
fn a_restart_delivers_again_only_what_the_checkpoint_does_not_know_as_done() {
    let place = Place::new();
    let mut spool = place.open();
    let (a, b) = (spool.lane("a", Some(0)), spool.lane("b", None));
    let guard = spool.guard(&a, 0..10).unwrap();
    spool.commit();
    for round in 1..10 {
        spool.write(&a, round * 10..round * 10 + 10);
        spool.write(&b, round * 10..round * 10 + 10);
    }
    let open = spool.guard(&a, 100..103).unwrap();
    assert_eq!(spool.commit(), [Ok(())]);
    guard.resolve(Delivered::Some(vec![2..4, 4..10]));
    let of_b = spool.read();
    spool.done(&of_b[..3]);
    spool.replay.done(&b, of_b[5].id(), 0..1);
    let left_of_b: Vec<u128> = ids(&of_b[3..])["b"].clone();
    let excepted = of_b[5].records().next().unwrap().record.id;
    spool.keeper.turn();
    std::mem::forget(open);
    spool.close();

    let mut spool = place.open();
    let (a, b) = (spool.lane("a", Some(0)), spool.lane("b", None));
    assert_eq!((a.backlog(), a.guards()), (2 + 90 + 3, 0));
    assert_eq!(b.backlog(), left_of_b.len() as u64 - 1);
    spool.write(&a, 103..104);
    let frames = spool.read();
    let read = ids(&frames);
    assert_eq!(read["a/0"], (0..2).chain(10..104).collect::<Vec<_>>());
    assert_eq!(read["b"], left_of_b.into_iter().filter(|id| *id != excepted).collect::<Vec<_>>());
    spool.done(&frames);
    spool.close();

    let mut spool = place.open();
    assert_eq!(spool.read().len(), 0);
    assert_eq!(spool.shared.ledger().lanes.iter().map(|state| state.lane.backlog()).sum::<u64>(), 0);
}
