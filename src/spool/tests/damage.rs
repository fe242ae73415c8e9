//! Bytes of the directory are cut off, flipped or planted. Recovery never panics, never invents a record, and loses what was
//! damaged alone.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::LazyLock;

use proptest::prelude::*;

use super::crash::{History, ROOT, lives, open, read};
use super::kit::{Steps, ids, one, record};
use super::model::{Luck, ModelDisk};
use crate::spool::replay::Progress;

/// A disk with two lives on it, not all of it delivered.
fn written() -> (ModelDisk, History) {
    static WRITTEN: LazyLock<(ModelDisk, History)> = LazyLock::new(write);
    (WRITTEN.0.after_crash(Luck::Nothing), WRITTEN.1.clone())
}

fn write() -> (ModelDisk, History) {
    let disk = ModelDisk::new(Path::new(ROOT));
    let mut history = lives(&disk);
    let mut spool = open(&disk).unwrap();
    let (a, b) = (spool.lane("a", Some(0)), spool.lane("b", None));
    for _ in 0..6 {
        let new: Vec<u128> =
            history.append(&mut spool, &a, 3).into_iter().chain(history.append(&mut spool, &b, 3)).collect();
        history.commit(&mut spool, new);
    }
    (disk.after_crash(Luck::Nothing), history)
}

fn segments(disk: &ModelDisk) -> Vec<PathBuf> {
    let files = disk.files(&Path::new(ROOT).join("segments"));
    files.into_iter().filter(|path| path.extension().is_some_and(|suffix| suffix == "seg")).collect()
}

/// What is owed and not found; whatever is found must have been written, once, in order.
fn missing(disk: &ModelDisk, history: &History) -> BTreeSet<u128> {
    let mut spool = open(disk).expect("damage never stops a start");
    let found = ids(&read(&mut spool));
    let set: BTreeSet<u128> = found.values().flatten().copied().collect();
    let missing: BTreeSet<u128> = history.owed().difference(&set).copied().collect();
    let mut known = history.clone();
    known.done.extend(&missing);
    known.check(&found, "damaged");
    missing
}

/// The most records of one frame.
fn largest_frame(disk: &ModelDisk) -> usize {
    let frames = read(&mut open(&disk.after_crash(Luck::Nothing)).unwrap());
    frames.iter().map(|frame| frame.count() as usize).max().unwrap()
}

#[test]
fn a_flipped_byte_anywhere_costs_at_most_one_frame() {
    let (image, history) = written();
    assert_eq!(missing(&image.after_crash(Luck::Nothing), &history), BTreeSet::new());
    let most = largest_frame(&image);
    for path in segments(&image) {
        let mut length = 0;
        image.damage(&path, |bytes| length = bytes.len());
        for at in 0..length {
            let disk = image.after_crash(Luck::Nothing);
            disk.damage(&path, |bytes| bytes[at] ^= 0x41);
            let missing = missing(&disk, &history);
            assert!(missing.len() <= most, "byte {at} of {}: {missing:?}", path.display());
        }
    }
}

#[test]
fn a_segment_cut_at_any_length_keeps_what_is_before_the_cut() {
    let (image, history) = written();
    let path = segments(&image).pop().unwrap();
    let mut whole = 0;
    image.damage(&path, |bytes| whole = bytes.len());
    let mut before = usize::MAX;
    for length in 0..=whole {
        let disk = image.after_crash(Luck::Nothing);
        disk.damage(&path, |bytes| bytes.truncate(length));
        let missing = missing(&disk, &history).len();
        assert!(missing <= before, "less is there of {length} bytes than of fewer");
        before = missing;
    }
    assert_eq!(before, 0);
}

#[test]
fn a_damaged_checkpoint_delivers_again_and_loses_nothing() {
    let (image, history) = written();
    let path = Path::new(ROOT).join("checkpoint");
    let mut length = 0;
    image.damage(&path, |bytes| length = bytes.len());
    for at in 0..length {
        let disk = image.after_crash(Luck::Nothing);
        disk.damage(&path, |bytes| bytes[at] ^= 0x10);
        assert_eq!(missing(&disk, &history), BTreeSet::new());
        let disk = image.after_crash(Luck::Nothing);
        disk.damage(&path, |bytes| bytes.truncate(at));
        assert_eq!(missing(&disk, &history), BTreeSet::new());
    }
}

#[test]
fn a_frame_inside_a_record_is_never_taken_for_one() {
    let disk = ModelDisk::new(Path::new(ROOT));
    let mut spool = open(&disk).unwrap();
    let lane = spool.lane("a", Some(0));
    spool.write(&lane, 0..2);
    let path = segments(&disk).pop().unwrap();
    let mut copy = Vec::new();
    disk.damage(&path, |bytes| copy.clone_from(bytes));
    // The segment itself as a record, in every alignment: its frames are good ones, elsewhere.
    let mut planted = Vec::new();
    for shift in 0..8 {
        planted.extend(vec![b'.'; shift]);
        planted.extend(&copy);
    }
    spool.writer.append(&lane, &record(2, &planted)).unwrap();
    assert_eq!(spool.commit(), [Ok(())]);
    spool.write(&lane, 3..5);
    let begin = copy.len();
    // The header of the frame around them is damaged, so that the search goes through the record.
    disk.damage(&path, |bytes| bytes[begin + 20] ^= 1);
    let mut running = spool;
    assert_eq!(ids(&running.read()), one(&lane, [0, 1, 3, 4]));
    assert_eq!(lane.backlog(), 4, "what is damaged is behind nobody");
    running.close();
    let mut spool = open(&disk).unwrap();
    let lane = spool.lane("a", Some(0));
    assert_eq!(ids(&spool.read()), one(&lane, [0, 1, 3, 4]));
    let kept = disk.files(&Path::new(ROOT).join("quarantine"));
    assert_eq!(kept.len(), 1, "the damage is kept, once: {kept:?}");
}

#[test]
fn damage_that_comes_while_it_runs_is_counted_once_and_its_segment_is_deleted() {
    for at in [130, 150, 185, 230] {
        let disk = ModelDisk::new(Path::new(ROOT));
        let mut spool = open(&disk).unwrap();
        let (a, b) = (spool.lane("a", Some(0)), spool.lane("b", Some(0)));
        for round in 0..20 {
            spool.append(&b, round * 10 + 5).unwrap();
            spool.write(&a, round * 10..round * 10 + 2);
        }
        let path = segments(&disk).remove(1);
        disk.damage(&path, |bytes| bytes[at] ^= 0x80);
        let frames = spool.read();
        spool.replay.stop(&a);
        spool.replay.stop(&b);
        let again = spool.read();
        assert_eq!(ids(&again), ids(&frames));
        let count =
            |frames: &[crate::spool::ReplayFrame]| frames.iter().map(|frame| u64::from(frame.count())).sum::<u64>();
        assert_eq!(a.backlog() + b.backlog(), count(&frames));
        let lost = spool.shared.ledger().lost;
        assert!((1..=2).contains(&lost) && lost + count(&frames) == 60, "byte {at}: {lost} lost");
        spool.done(&again);
        assert_eq!(spool.replay.next(&mut |_| true, &mut Vec::new(), 1).unwrap(), Progress::Tail);
        assert_eq!((a.backlog(), b.backlog()), (0, 0));
        spool.keeper.turn();
        assert_eq!(segments(&disk).len(), 1);
    }
}

#[test]
fn a_segment_that_is_gone_is_passed_over_after_a_few_tries() {
    let disk = ModelDisk::new(Path::new(ROOT));
    let mut spool = open(&disk).unwrap();
    let lane = spool.lane("a", Some(0));
    for id in 0..20 {
        spool.write(&lane, id..id + 1);
    }
    let path = segments(&disk).remove(0);
    crate::spool::disk::Disk::remove(&disk, &path).unwrap();
    let mut frames = Vec::new();
    let mut errors = 0;
    loop {
        match spool.replay.next(&mut |_| true, &mut frames, 300) {
            Ok(Progress::Read) => {}
            Ok(_) => break,
            Err(_) => errors += 1,
        }
        assert!(errors < 10);
    }
    let read = ids(&frames);
    assert!(read["a/0"].ends_with(&[18, 19]) && read["a/0"].len() < 20, "{read:?}");
    assert_eq!((errors, lane.backlog()), (2, read["a/0"].len() as u64));
}

fn mutate(disk: &ModelDisk, file: usize, at: usize, length: usize, byte: u8, kind: u8) {
    let mut files = segments(disk);
    files.push(Path::new(ROOT).join("checkpoint"));
    let path = &files[file % files.len()];
    disk.damage(path, |bytes| {
        let at = at % (bytes.len() + 1);
        let end = (at + length).min(bytes.len());
        match kind % 4 {
            0 => bytes[at..end].fill(byte),
            1 => bytes.truncate(at),
            2 => drop(bytes.splice(at..at, vec![byte; length])),
            _ => drop(bytes.drain(at..end)),
        }
    });
}

/// Opens, reads and goes on; for damage of any kind.
fn use_it(disk: &ModelDisk, history: &History) {
    let missing = missing(disk, history);
    let mut history = history.clone();
    history.done.extend(missing);
    let mut spool: Steps = open(disk).unwrap();
    let frames = read(&mut spool);
    for frame in &frames {
        history.done(&mut spool, frame, 0);
    }
    let lane = spool.lane("a", Some(0));
    assert_eq!(lane.backlog(), 0);
    let new = history.append(&mut spool, &lane, 2);
    history.commit(&mut spool, new.clone());
    spool.close();
    let mut spool = open(disk).unwrap();
    let lane = spool.lane("a", Some(0));
    assert_eq!(ids(&spool.read()), one(&lane, new));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]

    #[test]
    fn no_damage_invents_a_record_or_stops_a_start(
        damage in proptest::collection::vec((0_usize..20, 0_usize..3000, 0_usize..200, any::<u8>(), any::<u8>()), 1..6)
    ) {
        let (disk, history) = written();
        for (file, at, length, byte, kind) in damage {
            mutate(&disk, file, at, length, byte, kind);
        }
        use_it(&disk, &history);
    }
}
