//! No descriptors for a time: nothing is wrong with what cannot be opened, so that nothing is passed over or put away for it.

use std::path::Path;

use super::crash::{ROOT, open};
use super::kit::{Steps, ids, one};
use super::model::{Luck, ModelDisk, Plan};
use crate::spool::Lane;

/// A spool with so many records of a lane, each in a frame of its own, in several segments.
fn written(disk: &ModelDisk, records: u128) -> (Steps, Lane) {
    let mut spool = open(disk).unwrap();
    let lane = spool.lane("a", Some(0));
    for id in 0..records {
        spool.write(&lane, id..id + 1);
    }
    (spool, lane)
}

fn kept(disk: &ModelDisk) -> usize {
    disk.files(&Path::new(ROOT).join("quarantine")).len()
}

#[test]
fn a_segment_that_cannot_be_opened_is_tried_again_for_as_long_as_it_takes() {
    let disk = ModelDisk::new(Path::new(ROOT));
    let (mut spool, lane) = written(&disk, 20);
    disk.plan(Plan::NoDescriptors { from: 0, count: u64::MAX });
    for _ in 0..10 {
        assert!(spool.replay.next(&mut |_| true, &mut Vec::new(), usize::MAX).is_err());
    }
    disk.plan(Plan::Nothing);
    assert_eq!(spool.shared.ledger().lost, 0);
    assert_eq!(ids(&spool.read()), one(&lane, 0..20));
}

#[test]
fn damage_is_passed_over_only_once_there_is_a_descriptor_for_its_copy() {
    // The header of the second frame, and its body.
    for at in [200, 270] {
        let disk = ModelDisk::new(Path::new(ROOT));
        let (mut spool, _) = written(&disk, 20);
        let path = disk.files(&Path::new(ROOT).join("segments")).remove(0);
        disk.damage(&path, |bytes| bytes[at] ^= 0x80);
        let mut first = Vec::new();
        spool.replay.next(&mut |_| true, &mut first, 1).unwrap();
        assert_eq!(first.len(), 1);
        disk.plan(Plan::NoDescriptors { from: 0, count: u64::MAX });
        for _ in 0..10 {
            assert!(spool.replay.next(&mut |_| true, &mut Vec::new(), usize::MAX).is_err(), "byte {at}");
        }
        assert_eq!((spool.shared.ledger().lost, kept(&disk)), (0, 0), "byte {at}");
        disk.plan(Plan::Nothing);
        let read = ids(&spool.read());
        assert_eq!((read["a/0"].len(), spool.shared.ledger().lost, kept(&disk)), (18, 1, 1), "byte {at}");
    }
}

#[test]
fn a_start_without_descriptors_is_refused_and_puts_nothing_away() {
    let mut refused = 0;
    for from in 0.. {
        let disk = ModelDisk::new(Path::new(ROOT));
        written(&disk, 20).0.close();
        let path = disk.files(&Path::new(ROOT).join("segments")).remove(0);
        disk.damage(&path, |bytes| bytes[185] ^= 0x80);
        let before = disk.operations();
        disk.plan(Plan::NoDescriptors { from: before + from, count: u64::MAX });
        let outcome = open(&disk).map(Steps::close);
        let operations = disk.operations() - before;
        disk.plan(Plan::Nothing);
        let mut spool = open(&disk).unwrap();
        assert_eq!(ids(&spool.read())["a/0"].len(), 19, "without descriptors from operation {from}");
        assert_eq!(kept(&disk), 1, "without descriptors from operation {from}");
        refused += usize::from(outcome.is_none());
        if operations < from {
            break;
        }
    }
    assert!(refused > 20, "{refused}");
}

/// Nothing but one file cannot be opened, be it the checkpoint: without that, all would be delivered once more.
#[test]
fn a_start_that_lacks_one_descriptor_delivers_nothing_twice_and_leaves_nothing_out() {
    for from in 0.. {
        let disk = ModelDisk::new(Path::new(ROOT));
        let (mut spool, lane) = written(&disk, 20);
        let frames = spool.read();
        // In the middle of a segment: what is done of it stands in the checkpoint alone.
        let place = (8..frames.len()).find(|at| frames[at - 1].id().segment == frames[*at].id().segment).unwrap();
        let (done, left) = frames.split_at(place);
        spool.done(done);
        spool.close();
        let before = disk.operations();
        disk.plan(Plan::NoDescriptors { from: before + from, count: 1 });
        let outcome = open(&disk);
        let operations = disk.operations() - before;
        disk.plan(Plan::Nothing);
        let mut spool = outcome.unwrap_or_else(|| open(&disk).unwrap());
        assert_eq!(ids(&spool.read()), ids(left), "without a descriptor at operation {from}");
        assert_eq!((spool.shared.ledger().lost, kept(&disk)), (0, 0), "without a descriptor at operation {from}");
        assert!(!ids(left)[&lane.to_string()].is_empty());
        if operations < from {
            assert!(from > 20, "a start is {from} operations");
            break;
        }
    }
}

#[test]
fn a_start_needs_few_descriptors_however_many_segments_there_are() {
    let disk = ModelDisk::new(Path::new(ROOT));
    written(&disk, 100).0.close();
    let segments = disk.files(&Path::new(ROOT).join("segments")).len();
    let found = disk.after_crash(Luck::Everything);
    open(&found).unwrap().close();
    // The lock, the segment that is read, and what the process begins for itself.
    assert!(found.most_open() <= 5 && segments > 10, "{} files at once of {segments}", found.most_open());
}
