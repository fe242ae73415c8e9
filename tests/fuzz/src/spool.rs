//! Fuzz target of the spool's recovery and replay. A sound spool is damaged as the input says; then:
//!
//! - it opens, and what is handed out can be confirmed until nothing is left, in this life and the next;
//! - whatever is handed out was written, to that lane, in that order, and comes once; unless the input had the checksums made
//!   to fit its damage, when anything may be in a frame;
//! - what is written after the damage is there in the next life.

#![no_main]

mod memory;
#[allow(dead_code, unused_imports, unreachable_pub, reason = "the spool's source as it is; the target uses a part of it")]
#[path = "../../../src/spool/mod.rs"]
pub mod spool;
mod record;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use libfuzzer_sys::fuzz_target;
use memory::MemoryDisk;
use record::partition::PartitionChoice;
use record::topic::TopicName;
use rustix::event::{EventfdFlags, eventfd};
use spool::{Delivered, Lane, Progress, Record, Replay, ReplayFrame, Spool, SpoolConfig, Tuning, Writer};

type Files = BTreeMap<PathBuf, Vec<u8>>;

const ROOT: &str = "/spool";
/// Small, so that few bytes of input reach every file.
const TUNING: Tuning = Tuning { segment_bytes: 700, frame_bytes: 200, group_bytes: 1 << 16, pending_bytes: 1 << 20 };
/// Bytes of input that make one change.
const CHANGE: usize = 6;
const PATIENCE: Duration = Duration::from_secs(5);

/// A spool with several segments, lanes, guards and a checkpoint; made once.
static IMAGE: LazyLock<Files> = LazyLock::new(image);

fuzz_target!(|input: &[u8]| {
    let mut files = IMAGE.clone();
    let mut forged = false;
    let (changes, rest) = input.as_chunks::<CHANGE>();
    for change in changes.iter().take(12) {
        forged |= damage(&mut files, *change, rest);
    }
    let disk = MemoryDisk::with(&files);
    let (spool, mut replay) = open(&disk);
    let mut frames = Vec::new();
    // A lane may wait for records of another that stand before its own: until these are done.
    loop {
        let more = read(&mut replay);
        if more.is_empty() {
            break;
        }
        for frame in &more {
            replay.done(frame.lane(), frame.id(), 0..frame.count());
        }
        frames.extend(more);
    }
    let places: BTreeSet<_> = frames.iter().map(ReplayFrame::id).collect();
    assert_eq!(places.len(), frames.len(), "something comes twice");
    if !forged {
        check(&frames);
    }
    assert!(spool.lanes().iter().all(|lane| lane.backlog() == 0), "{:?}", spool.lanes());
    let lane = lane(&spool, "new", None);
    let mut writer = writer(&spool);
    writer.append(&lane, &record(1000, &value(1000))).expect("there is room");
    writer.submit();
    assert!(writer.wait(PATIENCE));
    writer.outcomes(|_, outcome| outcome.expect("the disk works"));
    spool.close();
    drop((spool, writer));

    let (_spool, mut replay) = open(&disk);
    let frames = read(&mut replay);
    let ids: Vec<u128> = frames.iter().flat_map(ReplayFrame::records).map(|item| item.record.id).collect();
    assert_eq!(ids, [1000], "the next life");
});

fn open(disk: &MemoryDisk) -> (Spool, Replay) {
    let config = SpoolConfig {
        directory: PathBuf::from(ROOT),
        max_size: 1 << 30,
        spool_after: Duration::from_secs(1),
        replay_rate: None,
    };
    let mut marker = 0x5eed_0000_0000_0001_u64;
    let random = move || {
        marker = marker.rotate_left(7).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        marker
    };
    Spool::open_with(&config, TUNING, Arc::new(disk.clone()), Box::new(random)).expect("damage stops no start")
}

fn read(replay: &mut Replay) -> Vec<ReplayFrame> {
    let mut frames = Vec::new();
    while replay.next(&mut |_| true, &mut frames, 500).expect("the disk can be read") == Progress::Read {}
    frames
}

fn lane(spool: &Spool, topic: &str, partition: Option<i32>) -> Lane {
    spool.lane(&TopicName::new(topic).expect("a topic's name"), partition)
}

fn writer(spool: &Spool) -> Writer {
    spool.writer(Arc::new(eventfd(0, EventfdFlags::NONBLOCK).expect("an eventfd")))
}

fn record(id: u128, value: &[u8]) -> Record<'_> {
    let choice = match id % 3 {
        0 => PartitionChoice::Sticky,
        1 => PartitionChoice::Hash(7),
        _ => PartitionChoice::Key(b"key"),
    };
    Record { id, timestamp_ms: 1_000_000 + id as i64, choice, headers: b"h", value }
}

fn value(id: u128) -> Vec<u8> {
    format!("{id}:{}", ".".repeat((id * 31 % 90) as usize)).into_bytes()
}

fn lane_of(id: u128) -> &'static str {
    if id % 4 == 0 { "b" } else { "a/1" }
}

fn image() -> Files {
    let disk = MemoryDisk::default();
    let (spool, mut replay) = open(&disk);
    let (a, b) = (lane(&spool, "a", Some(1)), lane(&spool, "b", None));
    let mut writer = writer(&spool);
    let guarded: Vec<Vec<u8>> = [1, 2, 3].into_iter().map(value).collect();
    let guard = writer.guard(&a, (1..).zip(&guarded).map(|(id, value)| record(id, value))).expect("there is room");
    for id in 4..60 {
        let to = if lane_of(id) == "b" { &b } else { &a };
        writer.append(to, &record(id, &value(id))).expect("there is room");
        if id % 5 == 0 {
            writer.submit();
            assert!(writer.wait(PATIENCE));
            writer.outcomes(|_, outcome| outcome.expect("the disk works"));
        }
    }
    drop(writer);
    guard.resolve(Delivered::Some(vec![0..1, 2..3]));
    let frames = read(&mut replay);
    let of_b: Vec<&ReplayFrame> = frames.iter().filter(|frame| *frame.lane() == b).collect();
    for frame in [of_b[0], of_b[1], of_b[3]] {
        replay.done(frame.lane(), frame.id(), 0..frame.count());
    }
    spool.close();
    disk.copy()
}

/// What is handed out was written, in order, once.
fn check(frames: &[ReplayFrame]) {
    let mut last: BTreeMap<String, u128> = BTreeMap::new();
    for frame in frames {
        for item in frame.records() {
            let (id, lane) = (item.record.id, frame.lane().to_string());
            assert!((1..60).contains(&id), "{id} was never written");
            assert_eq!(item.record, record(id, &value(id)), "changed");
            assert_eq!(lane, lane_of(id), "{id} is in the wrong lane");
            assert!(last.insert(lane, id).is_none_or(|before| before < id), "{id} comes late or twice");
        }
    }
}

/// Makes one change; true where checksums were made to fit it.
fn damage(files: &mut Files, change: [u8; CHANGE], more: &[u8]) -> bool {
    let [file, kind, place @ .., length, byte] = change;
    let paths: Vec<PathBuf> = files.keys().filter(|path| is_content(path)).cloned().collect();
    // All files may be gone.
    let Some(path) = usize::from(file).checked_rem(paths.len()).map(|at| &paths[at]) else { return false };
    let is_segment = path.extension().is_some_and(|extension| extension == "seg");
    let Some(bytes) = files.get_mut(path) else { return false };
    let at = usize::from(u16::from_le_bytes(place)) % (bytes.len() + 1);
    let end = (at + usize::from(length)).min(bytes.len());
    match kind % 8 {
        0 => bytes.iter_mut().skip(at).take(1).for_each(|old| *old ^= byte | 1),
        1 => bytes[at..end].fill(byte),
        2 => bytes.truncate(at),
        3 => drop(bytes.splice(at..at, std::iter::repeat_n(byte, usize::from(length)))),
        4 => drop(bytes.drain(at..end)),
        5 => drop(files.remove(path)),
        6 => drop(bytes.splice(at..end, more.iter().copied())),
        _ => {
            bytes[at..end].fill(byte);
            if is_segment { seal(path, bytes) } else { seal_checkpoint(bytes) }
            return true;
        }
    }
    false
}

fn is_content(path: &Path) -> bool {
    path.parent() == Some(Path::new("/spool/segments")) || path == Path::new("/spool/checkpoint")
}

/// Makes the checksums of all frames fit, as far as their lengths make sense.
fn seal(path: &Path, bytes: &mut [u8]) {
    let name = path.file_stem().and_then(|name| name.to_str()).unwrap_or_default();
    let Ok(segment) = u64::from_str_radix(name, 16) else { return };
    let mut at = 128;
    while at + 40 <= bytes.len() {
        let offset = at as u64;
        let header = 40 + usize::from(bytes[at + 37]);
        let body = u32::from_le_bytes([bytes[at + 16], bytes[at + 17], bytes[at + 18], bytes[at + 19]]) as usize;
        if at + header + body > bytes.len() {
            return;
        }
        let crc = crc32c::crc32c(&bytes[at + header..at + header + body]);
        bytes[at + 12..at + 16].copy_from_slice(&crc.to_le_bytes());
        let place = (u128::from(segment) << 64 | u128::from(offset)).to_le_bytes();
        let crc = crc32c::crc32c_append(crc32c::crc32c(&place), &bytes[at..at + 8]);
        let crc = crc32c::crc32c_append(crc, &bytes[at + 12..at + header]);
        bytes[at + 8..at + 12].copy_from_slice(&crc.to_le_bytes());
        at += header + body;
    }
}

fn seal_checkpoint(bytes: &mut [u8]) {
    if let Some((content, crc)) = bytes.split_last_chunk_mut::<4>() {
        *crc = crc32c::crc32c(content).to_le_bytes();
    }
}
