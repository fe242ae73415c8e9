//! Each fault of the spool's disk alone.

use crate::bed::{Kafka, wait_until};
use crate::directed::{HASTY, PATIENT, proven};
use crate::fault::Fault;
use crate::lone::{Dead, KafkaIs, Lone, SOON};
use crate::scenario::Scenario;
use crate::shim::Action;
use crate::stage::Outcome;
use std::fs;
use std::path::PathBuf;
use std::time::Duration;

const ON_DISK: &str = "acknowledge = \"spool\"";

/// Load that is acknowledged on disk, and a fault of the disk in its midst.
fn on_disk(lasts: u64, fault: Fault) -> Outcome {
    proven(&Scenario::quiet(1, HASTY).spooled(ON_DISK).with(700, lasts, fault))
}

#[test]
fn an_outage_is_not_noticed_where_there_is_a_spool() {
    let scenario = Scenario::quiet(1, PATIENT).spooled("").with(500, 3000, Fault::KillBroker { node: 1 });
    let verdict = proven(&scenario).verdict;
    assert_eq!((verdict.refused, verdict.unknown, verdict.overtaken), (0, 0, 0), "{verdict}");
}

#[test]
fn tidegate_killed_in_an_outage() {
    let scenario = Scenario::quiet(1, PATIENT).spooled("").with(500, 4000, Fault::KillBroker { node: 1 });
    let outcome = proven(&scenario.with(2500, 0, Fault::KillTidegate));
    assert!(outcome.history.closed > 0);
}

#[test]
fn tidegate_asked_to_end_in_an_outage() {
    let scenario = Scenario::quiet(1, PATIENT).spooled("").with(500, 5000, Fault::KillBroker { node: 1 });
    let outcome = proven(&scenario.with(2000, 0, Fault::EndTidegate));
    assert!(outcome.history.closed > 0);
}

#[test]
fn a_full_disk_refuses_and_takes_again_by_itself() {
    assert!(on_disk(2000, Fault::DiskFull).verdict.refused > 0);
}

#[test]
fn a_write_that_fails_is_written_again_to_a_new_segment() {
    assert_eq!(on_disk(2000, Fault::WritesFail { times: 1 }).verdict.refused, 0);
}

#[test]
fn a_sync_that_fails_is_written_again_to_a_new_segment() {
    assert_eq!(on_disk(2000, Fault::SyncsFail { times: 1 }).verdict.refused, 0);
}

#[test]
fn writes_that_go_on_failing_refuse_and_it_takes_again_by_itself() {
    assert!(on_disk(2000, Fault::WritesFail { times: 1_000_000 }).verdict.refused > 0);
}

#[test]
fn syncs_that_go_on_failing_refuse_and_it_takes_again_by_itself() {
    assert!(on_disk(2000, Fault::SyncsFail { times: 1_000_000 }).verdict.refused > 0);
}

#[test]
fn a_directory_that_becomes_read_only_refuses_and_it_takes_again_by_itself() {
    assert!(on_disk(2000, Fault::ReadOnly).verdict.refused > 0);
}

#[test]
fn writes_that_write_half_are_gone_on_with() {
    assert_eq!(on_disk(2000, Fault::ShortWrites).verdict.refused, 0);
}

#[test]
fn with_kafka_there_a_bad_disk_does_not_stand_in_the_way() {
    let scenario = Scenario::quiet(1, PATIENT).spooled("").with(500, 2000, Fault::SyncsFail { times: 1_000_000 });
    let verdict =
        proven(&scenario.with(600, 1500, Fault::Latency { node: 1, added: Duration::from_millis(30) })).verdict;
    assert_eq!(verdict.refused, 0, "{verdict}");
}

/// Kafka is so slow that records are on their way to the disk when that begins to fail, and takes them all the same.
#[test]
fn what_a_disk_that_begins_to_fail_did_not_take_goes_to_kafka_after_all() {
    let slow = Fault::Latency { node: 1, added: Duration::from_millis(400) };
    let scenario = Scenario::quiet(1, PATIENT).spooled("").with(400, 4500, slow);
    let scenario = (0..3).fold(scenario, |scenario, round| {
        scenario.with(1000 + 1300 * round, 300, Fault::SyncsFail { times: 1_000_000 })
    });
    let verdict = proven(&Scenario { lasts: Duration::from_secs(6), ..scenario }).verdict;
    assert_eq!(verdict.refused, 0, "{verdict}");
    assert!(verdict.causes.get("disk_failed").is_some_and(|given_back| *given_back > 0), "{verdict}");
}

#[test]
fn a_directory_that_is_read_only_from_the_start_is_refused_with_its_name() {
    let kafka = Kafka::shared();
    let mut lone = Lone::spawn(kafka, KafkaIs::There, ON_DISK, "", |_, shim| {
        shim.arm(Action::Fail(rustix::io::Errno::ROFS.raw_os_error()), crate::shim::ALL, 1, None);
    });
    assert_eq!(lone.tidegate.wait_exit(SOON).code(), Some(1), "{}", lone.tidegate.log());
    let (log, directory) = (lone.tidegate.log(), lone.spool().display().to_string());
    assert!(log.contains(&directory) && log.contains("Read-only"), "{log}");
}

#[test]
fn a_directory_of_another_format_version_is_refused_with_the_remedy() {
    let mut lone = Lone::spawn(Kafka::shared(), KafkaIs::There, ON_DISK, "", |directory, _| {
        fs::create_dir(directory).expect("a directory");
        fs::write(directory.join("format"), "tidegate-spool 9\n").expect("a file");
    });
    assert_ne!(lone.tidegate.wait_exit(SOON).code(), Some(0), "{}", lone.tidegate.log());
    let log = lone.tidegate.log();
    assert!(
        log.contains("tidegate-spool 9") && log.contains("drain the spool with the version that wrote it"),
        "{log}"
    );
}

/// The quota is counted in bytes on disk; records are as large as they may be, so that few are needed.
#[test]
fn a_full_quota_refuses_and_takes_again_once_kafka_has_drained_it() -> Result<(), Dead> {
    let kafka = Kafka::shared();
    let route = format!("{ON_DISK}\nhold_ms = 300");
    let mut lone = Lone::spawn(kafka, KafkaIs::Away, &route, "max_size = \"128MiB\"", |_, _| {});
    let mut taken = 0;
    while lone.push(250_000)? {
        taken += 1;
        assert!(taken < 600, "128 MiB hold no 600 records of 250 kB");
    }
    println!("{taken} records, then {:?}", lone.last_error());
    assert!(taken > 450, "the quota is far from used up: {taken} records");
    let size = disk_usage(lone.spool());
    assert!(size <= 128 << 20, "{size} bytes on disk");
    lone.end()?;
    lone.restart(KafkaIs::There);
    lone.drain()?;
    lone.until(|lone| disk_usage(lone.spool()) < 80 << 20)?;
    assert!(lone.push(250_000)?, "{:?}", lone.last_error());
    lone.drain()?;
    assert_eq!(lone.verify().problems, [""; 0]);
    Ok(())
}

#[test]
fn damage_between_runs_costs_the_damaged_frames_alone_and_invents_nothing() -> Result<(), Dead> {
    const RECORDS: usize = 60;
    let mut lone = Lone::spawn(Kafka::shared(), KafkaIs::Away, ON_DISK, "", |_, _| {});
    for number in 0..RECORDS {
        assert!(lone.push(1000 + number)?);
    }
    lone.tidegate.kill9();
    // Each record was acknowledged alone, so each has a frame of its own: three are hit, in a body, a header, a body.
    let segment = segments(&lone).pop().expect("a segment");
    let mut bytes = fs::read(&segment).expect("the segment");
    for place in [10_000, 30_003, 50_700] {
        bytes[place] ^= 0x40;
    }
    fs::write(&segment, bytes).expect("the segment");
    lone.restart(KafkaIs::There);
    assert!(lone.push(500)?);
    wait_until(SOON, "what is not damaged", || lone.verify().lost <= 3);
    let verdict = lone.verify();
    assert_eq!((verdict.lost, verdict.problems.len()), (3, 1), "{:?}", verdict.problems);
    let quarantined = fs::read_dir(lone.spool().join("quarantine")).expect("a directory").count();
    assert!(quarantined > 0, "nothing was put away: {}", lone.tidegate.log());
    lone.end()
}

/// Show 5 of a spool: the end comes in time with a backlog, and the next start drains it.
#[test]
fn an_end_with_a_backlog_is_quick_and_the_next_start_drains_it() -> Result<(), Dead> {
    let mut lone = Lone::spawn(Kafka::shared(), KafkaIs::Away, "", "", |_, _| {});
    for _ in 0..20 {
        assert!(lone.push(20_000)?, "{:?}", lone.last_error());
    }
    let start = std::time::Instant::now();
    lone.end()?;
    assert!(start.elapsed() < Duration::from_secs(15), "{:?}", start.elapsed());
    lone.restart(KafkaIs::There);
    lone.drain()?;
    assert_eq!(lone.verify().problems, [""; 0]);
    lone.end()
}

fn segments(lone: &Lone<'_>) -> Vec<PathBuf> {
    let entries = fs::read_dir(lone.spool().join("segments")).into_iter().flatten().flatten();
    let paths = entries.map(|entry| entry.path());
    let mut paths: Vec<PathBuf> = paths.filter(|path| path.extension().is_some_and(|suffix| suffix == "seg")).collect();
    paths.sort();
    paths
}

fn disk_usage(directory: &std::path::Path) -> u64 {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    entries
        .map(|entry| match entry.metadata() {
            Ok(data) if data.is_dir() => disk_usage(&entry.path()),
            Ok(data) => data.len(),
            Err(_) => 0,
        })
        .sum()
}
