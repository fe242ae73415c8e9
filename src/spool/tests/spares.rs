//! Files of segments that are done are written again: what they held never comes back, and the quota knows their bytes.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::Arc;

use super::kit::{SMALL, Steps, config, ids, one};
use crate::spool::{RealDisk, SpoolConfig};

fn open(config: &SpoolConfig) -> Steps {
    Steps::open(Arc::new(RealDisk), config, SMALL).unwrap()
}

/// Inodes and bytes of the files with this suffix.
fn files(directory: &Path, suffix: &str) -> (BTreeSet<u64>, u64) {
    let entries = fs::read_dir(directory.join("segments")).unwrap().map(Result::unwrap);
    let named = entries.filter(|entry| entry.file_name().to_str().unwrap().ends_with(suffix));
    let of = named.map(|entry| entry.metadata().unwrap());
    of.fold((BTreeSet::new(), 0), |(mut inodes, bytes), file| {
        inodes.insert(file.ino());
        (inodes, bytes + file.len())
    })
}

/// Writes records one group each, so that segments of [`SMALL`] fill up.
fn fill(spool: &mut Steps, ids: std::ops::Range<u128>) {
    let lane = spool.lane("a", Some(0));
    ids.for_each(|id| spool.write(&lane, id..id + 1));
}

fn drain(spool: &mut Steps) {
    let frames = spool.read();
    spool.done(&frames);
    spool.keeper.turn();
}

fn on_disk(directory: &Path) -> u64 {
    files(directory, "").1
}

#[test]
fn a_file_is_written_again_and_every_byte_of_it_is_in_the_quota() {
    let place = tempfile::tempdir().unwrap();
    let config = config(&place.path().join("spool"));
    let mut spool = open(&config);
    fill(&mut spool, 0..40);
    drain(&mut spool);
    let (spare, bytes) = files(&config.directory, ".spare");
    assert!(spare.len() > 2 && bytes > 0);
    for id in 40..80 {
        fill(&mut spool, id..id + 1);
        spool.writer.settle_advance();
        assert_eq!(spool.shared.quota.used(), on_disk(&config.directory), "after {id}");
    }
    let (segments, _) = files(&config.directory, ".seg");
    assert!(segments.is_superset(&spare), "{segments:?} {spare:?}");
    assert_eq!(ids(&spool.read()), one(&spool.lane("a", Some(0)), 40..80));
    spool.close();
}

#[test]
fn what_an_earlier_segment_left_behind_the_end_is_not_found_after_a_crash() {
    let place = tempfile::tempdir().unwrap();
    let config = config(&place.path().join("spool"));
    let mut spool = open(&config);
    fill(&mut spool, 0..40);
    drain(&mut spool);
    fill(&mut spool, 40..43);
    // A crash: nobody cuts off anything.
    let image = place.path().join("image");
    let config = SpoolConfig { directory: image, ..config };
    fs::create_dir_all(config.directory.join("segments")).unwrap();
    for path in ["format", "checkpoint"].map(Path::new).into_iter().map(Path::to_owned).chain(
        fs::read_dir(spool.shared.paths.segments.as_path())
            .unwrap()
            .map(|entry| Path::new("segments").join(entry.unwrap().file_name())),
    ) {
        fs::copy(spool.shared.paths.root.join(&path), config.directory.join(&path)).unwrap();
    }
    let mut next = open(&config);
    assert_eq!(ids(&next.read()), one(&next.lane("a", Some(0)), 40..43));
    assert_eq!(files(&config.directory, ".spare").1, 0, "nobody needs them");
    assert_eq!(next.shared.quota.used(), on_disk(&config.directory));
    next.close();
    spool.close();
}

#[test]
fn where_room_is_scarce_no_file_is_kept() {
    let place = tempfile::tempdir().unwrap();
    let config = SpoolConfig { max_size: 16 << 10, ..config(&place.path().join("spool")) };
    let mut spool = open(&config);
    fill(&mut spool, 0..40);
    drain(&mut spool);
    assert!(files(&config.directory, ".spare").1 > 0);
    let before = spool.shared.quota.used();
    let mut next = 40;
    while spool.shared.quota.used() <= (16 << 10) / 2 {
        fill(&mut spool, next..next + 1);
        next += 1;
    }
    assert!(spool.shared.quota.used() > before);
    spool.keeper.turn();
    assert_eq!(files(&config.directory, ".spare").1, 0);
    spool.close();
}
