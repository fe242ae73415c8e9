//! The disk fails, is full or read-only: what was reported durable is there, what was not taken was refused, and writing goes on
//! by itself when the disk works again.

use std::io::ErrorKind;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use super::crash::{History, ROOT, inspect, lives, open, read};
use super::kit::{SMALL, Steps, config, ids, one};
use super::model::{Luck, ModelDisk, Plan};
use crate::spool::open::OpenError;
use crate::spool::writer::{Full, WriteError};
use crate::spool::{Disk, RealDisk, SpoolConfig, Tuning};

fn disk() -> ModelDisk {
    ModelDisk::new(Path::new(ROOT))
}

/// More than the time between two probes.
const LATER: Duration = Duration::from_secs(2);

#[test]
fn an_error_of_any_operation_loses_nothing_that_was_reported_durable() {
    let whole = disk();
    lives(&whole);
    for from in 0..whole.operations() {
        for plan in [
            Plan::Fail { from, count: 1, kind: ErrorKind::Other },
            Plan::Fail { from, count: 3, kind: ErrorKind::Other },
            Plan::FailWrites { from, count: 2, kind: ErrorKind::StorageFull },
            Plan::FailWrites { from, count: 12, kind: ErrorKind::Other },
        ] {
            let disk = disk();
            disk.plan(plan);
            let history = lives(&disk);
            disk.plan(Plan::Nothing);
            let when = format!("{plan:?}");
            inspect(&disk.after_crash(Luck::Everything), &history, &when);
            inspect(&disk.after_crash(Luck::Nothing), &history, &when);
            inspect(&disk, &history, &when);
        }
    }
}

#[test]
fn a_segment_that_the_disk_refuses_to_read_is_passed_over_and_kept() {
    let disk = disk();
    let mut spool = open(&disk).unwrap();
    let lane = spool.lane("a", Some(0));
    for id in 0..20 {
        spool.write(&lane, id..id + 1);
    }
    let segments = || disk.files(&Path::new(ROOT).join("segments"));
    let first = segments().remove(0);
    // The first frames cannot be read, in as many calls as it takes to give them up.
    disk.plan(Plan::Unreadable);
    let mut errors = 0;
    while spool.replay.next(&mut |_| true, &mut Vec::new(), 1).is_err() && spool.shared.ledger().lost == 0 {
        errors += 1;
        assert!(errors < 10);
    }
    disk.plan(Plan::Nothing);
    let frames = spool.read();
    assert!(ids(&frames)["a/0"].ends_with(&[18, 19]) && errors >= 2);
    spool.done(&frames);
    spool.keeper.turn();
    assert!(!segments().contains(&first));
    let kept = disk.files(&Path::new(ROOT).join("quarantine"));
    assert!(kept.iter().any(|path| path.file_name() == first.file_name()), "{kept:?}");
}

#[test]
fn a_failed_sync_poisons_the_segment_and_its_records_are_written_again_elsewhere() {
    let disk = disk();
    let mut spool = open(&disk).unwrap();
    let lane = spool.lane("a", Some(0));
    spool.write(&lane, 0..3);
    let before = disk.operations();
    // The write succeeds, the sync after it does not.
    disk.plan(Plan::Fail { from: before + 1, count: 1, kind: ErrorKind::Other });
    spool.write(&lane, 3..6);
    spool.write(&lane, 6..9);
    assert_eq!(disk.files(&Path::new(ROOT).join("segments")).len(), 2);
    assert_eq!(ids(&spool.read()), one(&lane, 0..9));
    // Even if the failed sync wrote all of it, it is there once.
    let mut spool = open(&disk.after_crash(Luck::Everything)).unwrap();
    let lane = spool.lane("a", Some(0));
    assert_eq!(ids(&spool.read()), one(&lane, 0..9));
}

#[test]
fn what_a_poisoned_segment_has_beyond_its_end_is_not_read_even_if_it_could_not_be_cut_off() {
    // Whether an operation that fails was done all the same depends on its number: cutting off is tried with both.
    for shift in 0..2 {
        let disk = disk();
        let mut spool = open(&disk).unwrap();
        let lane = spool.lane("a", Some(0));
        spool.write(&lane, 0..3);
        for _ in 0..shift {
            disk.list(Path::new(ROOT)).unwrap();
        }
        disk.plan(Plan::Fail { from: disk.operations() + 1, count: 2, kind: ErrorKind::Other });
        spool.write(&lane, 3..6);
        let mut spool = open(&disk.after_crash(Luck::Everything)).unwrap();
        let lane = spool.lane("a", Some(0));
        assert_eq!(ids(&spool.read()), one(&lane, 0..6));
    }
}

#[test]
fn a_disk_that_fails_twice_fails_the_chunk_and_is_probed_until_it_works() {
    for (plan, error) in
        [(Plan::Full, WriteError::Full), (Plan::ReadOnly, WriteError::Disk(ErrorKind::ReadOnlyFilesystem))]
    {
        let disk = disk();
        let mut spool = open(&disk).unwrap();
        let lane = spool.lane("a", Some(0));
        spool.write(&lane, 0..3);
        disk.plan(plan);
        let guard = spool.guard(&lane, 3..5).unwrap();
        spool.append(&lane, 5).unwrap();
        assert_eq!(spool.commit(), [Err(error)]);
        assert_eq!(lane.backlog(), 3, "what failed is not in the backlog");
        assert_eq!(spool.append(&lane, 6), Err(Full::Disk));
        guard.resolve(crate::spool::Delivered::None);
        assert_eq!((lane.backlog(), lane.guards()), (3, 0));
        spool.now += LATER;
        spool.commit();
        assert_eq!(spool.append(&lane, 6), Err(Full::Disk), "the probe failed as well");
        let frames = spool.read();
        assert_eq!(ids(&frames), one(&lane, 0..3), "a disk that takes no data is still drained");
        disk.plan(Plan::Nothing);
        spool.commit();
        assert_eq!(spool.append(&lane, 6), Err(Full::Disk), "it is probed once a second");
        spool.now += LATER;
        spool.commit();
        spool.write(&lane, 6..8);
        assert_eq!(ids(&spool.read()), one(&lane, 6..8));
    }
}

#[test]
fn a_full_disk_gets_room_from_what_is_delivered() {
    let disk = disk();
    let mut spool = open(&disk).unwrap();
    let lane = spool.lane("a", Some(0));
    for id in 0..30 {
        spool.write(&lane, id..id + 1);
    }
    let segments = Path::new(ROOT).join("segments");
    let before = disk.files(&segments).len();
    let frames = spool.read();
    disk.plan(Plan::Full);
    spool.done(&frames);
    spool.keeper.turn();
    assert!(before > 3 && disk.files(&segments).len() == 1, "{before} segments, then {:?}", disk.files(&segments));
    // Without a new checkpoint: all that is left comes again, nothing is lost, nothing new is passed over.
    disk.plan(Plan::Nothing);
    let mut spool = open(&disk.after_crash(Luck::Nothing)).unwrap();
    let lane = spool.lane("a", Some(0));
    spool.write(&lane, 30..33);
    let read = ids(&spool.read());
    assert!(read["a/0"].ends_with(&[30, 31, 32]), "{read:?}");
}

#[test]
fn a_checkpoint_without_its_segments_makes_nothing_new_pass_for_done() {
    let disk = disk();
    let mut spool = open(&disk).unwrap();
    let lane = spool.lane("a", Some(0));
    for id in 0..30 {
        spool.write(&lane, id..id + 1);
    }
    let frames = spool.read();
    spool.done(&frames);
    spool.close();
    for path in disk.files(&Path::new(ROOT).join("segments")) {
        disk.remove(&path).unwrap();
    }
    let mut spool = open(&disk).unwrap();
    let lane = spool.lane("a", Some(0));
    spool.write(&lane, 30..33);
    // Before there is a new checkpoint.
    let mut spool = open(&disk.after_crash(Luck::Nothing)).unwrap();
    let lane = spool.lane("a", Some(0));
    assert_eq!(ids(&spool.read()), one(&lane, 30..33));
}

#[test]
fn without_a_checkpoint_no_sequence_is_used_again_either() {
    let disk = disk();
    let mut spool = open(&disk).unwrap();
    let lane = spool.lane("a", Some(0));
    spool.write(&lane, 0..3);
    let frames = spool.read();
    spool.done(&frames);
    spool.close();
    let first = disk.files(&Path::new(ROOT).join("segments"));
    assert_eq!(first.len(), 1, "the last segment stays, though it is done");
    disk.remove(&Path::new(ROOT).join("checkpoint")).unwrap();
    let mut spool = open(&disk).unwrap();
    let lane = spool.lane("a", Some(0));
    spool.write(&lane, 3..4);
    assert!(disk.files(&Path::new(ROOT).join("segments")).last() > first.last());
}

#[test]
fn at_max_size_appending_is_refused_until_something_is_delivered() {
    let disk = disk();
    let config = SpoolConfig { max_size: 4_000, ..config(Path::new(ROOT)) };
    let mut spool = Steps::open(Arc::new(disk), &config, SMALL).unwrap();
    let lane = spool.lane("a", Some(0));
    let mut taken = 0;
    while spool.append(&lane, taken).is_ok() {
        assert_eq!(spool.commit(), [Ok(())]);
        taken += 1;
        assert!(taken < 100);
    }
    assert!(taken > 10 && spool.shared.quota.used() <= 4_000 + 128, "{taken}, {}", spool.shared.quota.used());
    assert_eq!(spool.append(&lane, taken), Err(Full::Quota));
    assert!(matches!(spool.guard(&lane, taken..taken + 40), Err(Full::Quota)));
    assert_eq!(
        (lane.backlog(), lane.guards()),
        (u64::try_from(taken).unwrap(), 0),
        "nothing of what was refused is counted"
    );
    let frames = spool.read();
    assert_eq!(ids(&frames), one(&lane, 0..taken));
    spool.done(&frames);
    spool.keeper.turn();
    spool.write(&lane, taken..taken + 2);
}

#[test]
fn what_waits_for_a_slow_disk_is_bounded() {
    let tuning = Tuning { pending_bytes: 1_000, ..SMALL };
    let mut spool = Steps::open(Arc::new(disk()), &config(Path::new(ROOT)), tuning).unwrap();
    let lane = spool.lane("a", Some(0));
    let refused = (0..100).find_map(|id| {
        let outcome = spool.append(&lane, id).err();
        spool.writer.submit();
        outcome
    });
    assert_eq!(refused, Some(Full::Pending));
    assert!(spool.commit().iter().all(Result::is_ok));
    spool.append(&lane, 100).unwrap();
}

#[test]
fn a_directory_has_one_process_and_one_format() {
    let place = tempfile::tempdir().unwrap();
    let root = place.path().join("spool");
    let open = || Steps::open(Arc::new(RealDisk), &config(&root), SMALL);
    let first = open().unwrap();
    let error = open().err().unwrap();
    let text = error.to_string();
    assert!(text.contains(&format!("is in use by process {}: give each process", std::process::id())), "{text}");
    first.close();
    open().unwrap().close();
    std::fs::write(root.join("format"), "tidegate-spool 2\n").unwrap();
    let error = open().err().unwrap();
    assert!(matches!(error, OpenError::Format { .. }));
    assert!(error.to_string().contains("drain the spool with the version that wrote it"), "{error}");
}

#[test]
fn a_directory_that_cannot_be_read_is_an_error_and_no_panic() {
    let disk = disk();
    disk.plan(Plan::ReadOnly);
    let error = Steps::open(Arc::new(disk.clone()), &config(Path::new(ROOT)), SMALL).err().unwrap();
    assert!(matches!(error, OpenError::Disk { .. }), "{error}");
    disk.plan(Plan::Nothing);
    let mut history = History::default();
    let mut spool = open(&disk).unwrap();
    let lane = spool.lane("a", None);
    let ids = history.append(&mut spool, &lane, 3);
    history.commit(&mut spool, ids);
    assert_eq!(read(&mut spool).len(), 1);
}
