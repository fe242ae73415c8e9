//! Records of one topic from before and after its partitions were known.

use std::sync::Arc;

use super::kit::{SMALL, Steps, config};
use crate::spool::disk::RealDisk;
use crate::spool::lane::Lane;

/// Writes `count` records by turns to the lane without a partition and to others, reads them in small pieces with some
/// lanes not runnable at times, and checks that none is handed out before one that it must come after is done.
fn in_order(count: u128, lane_of: impl Fn(u128) -> Option<i32>, stops: impl Fn(u32, &Lane) -> bool) {
    let directory = tempfile::tempdir().unwrap();
    let mut spool = Steps::open(Arc::new(RealDisk), &config(directory.path()), SMALL).unwrap();
    for id in 0..count {
        let lane = spool.lane("t", lane_of(id));
        spool.append(&lane, id).unwrap();
        assert_eq!(spool.commit(), [Ok(())]);
    }
    let mut done = vec![false; usize::try_from(count).unwrap()];
    let mut frames = Vec::new();
    for round in 0.. {
        assert!(round < 10_000, "{} are not handed out", done.iter().filter(|done| !**done).count());
        spool.replay.next(&mut |lane| !stops(round, lane), &mut frames, 150).unwrap();
        for frame in &frames {
            let partition = frame.lane().partition();
            for item in frame.records() {
                let before = (0..item.record.id).filter(|id| {
                    let other = lane_of(*id);
                    other != partition && (other.is_none() || partition.is_none())
                });
                for id in before {
                    assert!(done[usize::try_from(id).unwrap()], "{} before {id}", item.record.id);
                }
            }
        }
        // What was handed out is done a few rounds later.
        if round % 3 == 0 {
            for frame in frames.drain(..) {
                spool.replay.done(frame.lane(), frame.id(), 0..frame.count());
                frame.records().for_each(|item| done[usize::try_from(item.record.id).unwrap()] = true);
            }
        }
        if done.iter().all(|done| *done) {
            return;
        }
    }
}

#[test]
fn what_came_before_the_partitions_were_known_goes_first() {
    in_order(120, |id| (id >= 60).then_some(i32::from(id.is_multiple_of(2))), |_, _| false);
}

#[test]
fn what_was_left_of_an_earlier_life_goes_before_it() {
    in_order(150, |id| (!(50..100).contains(&id)).then_some(i32::from(id.is_multiple_of(3))), |_, _| false);
}

#[test]
fn by_turns_and_with_lanes_that_stop_at_times_the_order_holds() {
    let lane_of = |id: u128| (id * 7919 % 5 > 1).then_some(i32::from(id.is_multiple_of(2)));
    in_order(200, lane_of, |_, _| false);
    in_order(200, lane_of, |round, lane| round % 4 < 2 && lane.partition().is_none());
    in_order(200, lane_of, |round, lane| round % 7 < 5 && lane.partition() == Some(0));
}
