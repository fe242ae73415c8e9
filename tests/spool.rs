//! The spool with its threads on this machine's disk, and the commands that look into its directory.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "a test fails by panicking")]

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use rustix::event::{EventfdFlags, eventfd};
use serde_json::Value;
use tidegate::record::headers::HeadersBuf;
use tidegate::record::partition::PartitionChoice;
use tidegate::record::topic::TopicName;
use tidegate::spool::{Delivered, OpenError, Progress, Record, Replay, Spool, SpoolConfig, Writer};

const PATIENCE: Duration = Duration::from_secs(30);

fn config(directory: &Path) -> SpoolConfig {
    SpoolConfig {
        directory: directory.join("spool"),
        max_size: 1 << 30,
        spool_after: Duration::from_millis(300),
        replay_rate: None,
    }
}

fn writer(spool: &Spool) -> Writer {
    spool.writer(Arc::new(eventfd(0, EventfdFlags::NONBLOCK).unwrap()))
}

fn topic(name: &str) -> TopicName {
    TopicName::new(name).unwrap()
}

fn record(id: u128, value: &[u8]) -> Record<'_> {
    Record { id, timestamp_ms: 1_700_000_000_000, choice: PartitionChoice::Key(b"k"), headers: &[], value }
}

/// Waits until all chunks that were submitted are durable.
fn wait_durable(writer: &mut Writer, mut chunks: usize) {
    while chunks > 0 {
        assert!(writer.wait(PATIENCE), "no outcome");
        writer.outcomes(|_, outcome| {
            outcome.unwrap();
            chunks -= 1;
        });
    }
}

/// Reads and confirms everything that is there; gives the ids by lane.
fn drain(replay: &mut Replay, expected: usize) -> BTreeMap<String, Vec<u128>> {
    let mut ids: BTreeMap<String, Vec<u128>> = BTreeMap::new();
    let (mut count, mut frames, begun) = (0, Vec::new(), Instant::now());
    while count < expected {
        assert!(begun.elapsed() < PATIENCE, "{count} of {expected} came");
        if replay.next(&mut |_| true, &mut frames, 1 << 20).unwrap() == Progress::Tail {
            replay.wait(Duration::from_millis(100));
        }
        for frame in frames.drain(..) {
            count += frame.left() as usize;
            ids.entry(frame.lane().to_string()).or_default().extend(frame.records().map(|item| item.record.id));
            replay.done(frame.lane(), frame.id(), 0..frame.count());
            replay.recycle(frame);
        }
    }
    ids
}

#[test]
fn many_writers_and_a_reader_at_once_lose_and_reorder_nothing() {
    const WRITERS: u128 = 4;
    const TURNS: u128 = 200;
    const RECORDS: u128 = 50;
    let place = tempfile::tempdir().unwrap();
    let (spool, mut replay) = Spool::open(&config(place.path())).unwrap();
    let writers: Vec<_> = (0..WRITERS)
        .map(|number| {
            let spool = spool.clone();
            thread::spawn(move || {
                let (own, shared) =
                    (spool.lane(&topic("own"), i32::try_from(number).ok()), spool.lane(&topic("shared"), None));
                let mut writer = writer(&spool);
                for turn in 0..TURNS {
                    for n in 0..RECORDS {
                        let id = number << 64 | (turn * RECORDS + n);
                        let lane = if n % 5 == 0 { &shared } else { &own };
                        writer.append(lane, &record(id, &[b'x'; 300])).unwrap();
                    }
                    writer.submit();
                }
                wait_durable(&mut writer, usize::try_from(TURNS).unwrap());
            })
        })
        .collect();
    let total = usize::try_from(WRITERS * TURNS * RECORDS).unwrap();
    let ids = drain(&mut replay, total);
    for writer in writers {
        writer.join().unwrap();
    }
    assert_eq!(ids.values().map(Vec::len).sum::<usize>(), total);
    assert_eq!(ids.len(), 5);
    for (lane, ids) in ids {
        for number in 0..WRITERS {
            let of_one: Vec<_> = ids.iter().filter(|id| **id >> 64 == number).collect();
            assert!(of_one.is_sorted(), "{lane} of writer {number}");
        }
    }
    assert_eq!(spool.report().records_left, 0);
    assert!(spool.lanes().iter().all(|lane| lane.backlog() == 0));
}

#[test]
fn what_a_process_left_is_there_for_the_next_and_a_second_one_is_refused() {
    let place = tempfile::tempdir().unwrap();
    let (spool, _replay) = Spool::open(&config(place.path())).unwrap();
    let lane = spool.lane(&topic("logs.a"), Some(2));
    let mut first = writer(&spool);
    let guard = first.guard(&lane, [record(1, b"one"), record(2, b"two")].into_iter()).unwrap();
    first.append(&lane, &record(3, b"three")).unwrap();
    first.submit();
    wait_durable(&mut first, 1);
    guard.resolve(Delivered::Some(std::iter::once(0..1).collect()));
    assert!(matches!(Spool::open(&config(place.path())), Err(OpenError::Locked { .. })));
    spool.close();
    first.append(&lane, &record(4, b"four")).unwrap();
    first.submit();
    assert!(first.wait(PATIENCE));
    first.outcomes(|_, outcome| assert_eq!(outcome, Err(tidegate::spool::WriteError::Closed)));

    let (spool, mut replay) = Spool::open(&config(place.path())).unwrap();
    assert_eq!(spool.report().oldest_ms, Some(1_700_000_000_000));
    assert_eq!(drain(&mut replay, 2), BTreeMap::from([("logs.a/2".to_owned(), vec![2, 3])]));
}

/// Runs `tidegate spool` and gives exit code, stdout and stderr.
fn command(arguments: &[&str], directory: &Path) -> (Option<i32>, String, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tidegate"));
    command.arg("spool").args(arguments).arg(directory).env_remove("TIDEGATE_LOG").stdin(Stdio::null());
    let Output { status, stdout, stderr } = command.output().unwrap();
    (status.code(), String::from_utf8(stdout).unwrap(), String::from_utf8(stderr).unwrap())
}

/// A spool in use, with three records, one of them delivered.
fn in_use(place: &Path) -> (Spool, Replay) {
    let (spool, mut replay) = Spool::open(&config(place)).unwrap();
    let (a, b) = (spool.lane(&topic("logs.a"), Some(2)), spool.lane(&topic("logs.b"), None));
    let mut writer = writer(&spool);
    let mut headers = HeadersBuf::default();
    headers.push("trace", b"abc");
    let with_headers = Record { headers: headers.as_headers().as_bytes(), ..record(7, b"{\"level\":\"info\"}") };
    writer.append(&a, &with_headers).unwrap();
    writer.submit();
    writer.append(&b, &Record { choice: PartitionChoice::Sticky, ..record(8, b"\xff\x00 binary") }).unwrap();
    writer.append(&a, &record(9, b"plain")).unwrap();
    writer.submit();
    wait_durable(&mut writer, 2);
    let mut frames = Vec::new();
    while replay.next(&mut |_| true, &mut frames, 1 << 20).unwrap() == Progress::Read {}
    let first = frames.iter().find(|frame| frame.records().any(|item| item.record.id == 7)).unwrap();
    replay.done(first.lane(), first.id(), 0..first.count());
    let checkpoint = place.join("spool/checkpoint");
    let begun = Instant::now();
    while !checkpoint.exists() {
        assert!(begun.elapsed() < PATIENCE, "no checkpoint");
        replay.wait(Duration::from_millis(20));
    }
    (spool, replay)
}

#[test]
fn inspect_and_verify_look_at_a_spool_in_use() {
    let place = tempfile::tempdir().unwrap();
    let directory = place.path().join("spool");
    let (_spool, _replay) = in_use(place.path());
    let (code, stdout, stderr) = command(&["inspect"], &directory);
    assert_eq!((code, stderr.as_str()), (Some(0), ""), "{stdout}");
    assert!(stdout.contains("2 records left, the oldest received"), "{stdout}");
    let (code, stdout, _) = command(&["verify", "--json"], &directory);
    assert_eq!(code, Some(0));
    let found: Value = serde_json::from_str(&stdout).unwrap();
    assert_eq!(found["records_left"], 2);
    assert_eq!(found["lanes"][0]["topic"], "logs.a");
    assert_eq!((&found["lanes"][0]["records"], &found["lanes"][0]["records_left"]), (&2.into(), &1.into()));
    assert_eq!((&found["lanes"][1]["partition"], &found["damage"]), (&Value::Null, &Value::Array(Vec::new())));
    assert_eq!(found["segments"].as_array().unwrap().len(), 1);
}

#[test]
fn export_writes_what_is_left_as_json_lines_or_as_it_is() {
    let place = tempfile::tempdir().unwrap();
    let directory = place.path().join("spool");
    let (_spool, _replay) = in_use(place.path());
    let (code, stdout, stderr) = command(&["export"], &directory);
    assert_eq!((code, stderr.as_str()), (Some(0), ""));
    let mut lines: Vec<Value> = stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    lines.sort_by_key(|line| line["id"].as_str().map(str::to_owned));
    assert_eq!(lines.len(), 2);
    assert_eq!((&lines[0]["value_base64"], &lines[0]["key"]), (&"/wAgYmluYXJ5".into(), &Value::Null));
    assert_eq!((&lines[1]["value"], &lines[1]["key"]), (&"plain".into(), &"k".into()));
    assert_eq!(lines[1]["id"], "00000000000000000000000000000009");
    let (_, stdout, _) = command(&["export", "--all", "--topic", "logs.a"], &directory);
    let first: Value = serde_json::from_str(stdout.lines().next().unwrap()).unwrap();
    assert_eq!((&first["delivered"], &first["headers"][0]["name"]), (&true.into(), &"trace".into()));
    assert_eq!(first["headers"][0]["value"], "abc");
    let (_, stdout, _) = command(&["export", "--raw", "--topic", "logs.a"], &directory);
    assert_eq!(stdout, "plain\n");
}

#[test]
fn verify_finds_damage_and_exits_with_1_while_a_torn_end_is_none() {
    let place = tempfile::tempdir().unwrap();
    let directory = place.path().join("spool");
    let (spool, replay) = in_use(place.path());
    spool.close();
    drop((spool, replay));
    let segment = directory.join("segments/0000000000000001.seg");
    let whole = fs::read(&segment).unwrap();
    fs::write(&segment, &whole[..whole.len() - 3]).unwrap();
    let (code, stdout, _) = command(&["verify"], &directory);
    assert_eq!(code, Some(0), "{stdout}");
    assert!(stdout.contains("of an unfinished write at its end"), "{stdout}");
    let mut damaged = whole;
    damaged[170] ^= 1;
    fs::write(&segment, &damaged).unwrap();
    let (code, stdout, stderr) = command(&["verify"], &directory);
    assert_eq!(code, Some(1));
    assert!(stdout.contains("damaged from byte 128 to"), "{stdout}");
    assert!(stderr.contains("spool: damaged"), "{stderr}");
}

#[test]
fn what_is_no_spool_or_another_versions_is_refused_with_the_remedy() {
    let place = tempfile::tempdir().unwrap();
    let (code, _, stderr) = command(&["inspect"], place.path());
    assert_eq!(code, Some(1));
    assert!(stderr.contains("is no spool"), "{stderr}");
    fs::write(place.path().join("format"), "tidegate-spool 9\n").unwrap();
    let (code, _, stderr) = command(&["inspect"], place.path());
    assert_eq!(code, Some(1));
    assert!(stderr.contains("drain the spool with the version that wrote it"), "{stderr}");
}
