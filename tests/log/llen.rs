//! LLEN as what a consumer group has not read yet, over Kafka's own groups.

use crate::bed::process::Process;
use crate::bed::{Kafka, RespClient, Tidegate, WorkDir, unique, wait_until};
use crate::support::{SOON, Setup, connect};
use serde_json::Value;
use std::process::Command;
use std::time::{Duration, Instant};

fn start(bootstrap: &str, group: &str, key: &str) -> Tidegate {
    let setup = Setup::new(bootstrap).log("llen = \"lag\"").log(&format!("llen_group = {group:?}"));
    setup.topic(key, 3, "partition_by = \"json:/n\"\nhold_ms = 20000").start()
}

fn push(client: &mut RespClient, key: &str, count: usize) {
    let values: Vec<String> = (0..count).map(|number| format!("{{\"n\":{number}}}")).collect();
    let words = ["RPUSH", key].into_iter().chain(values.iter().map(String::as_str));
    assert_eq!(client.command(words).integer(), i64::try_from(count).unwrap());
}

fn length(client: &mut RespClient, key: &str) -> i64 {
    client.command(["LLEN", key]).integer()
}

fn wait_length(client: &mut RespClient, key: &str, wanted: i64) {
    wait_until(SOON * 2, &format!("LLEN {key} to be {wanted}"), || length(client, key) == wanted);
}

/// kcat reads so many records as a member of the group, commits, and leaves.
fn read(group: &str, topic: &str, count: usize) {
    let directory = WorkDir::new("kcat");
    let mut command = Command::new("kcat");
    command.args(["-q", "-b", &Kafka::shared().bootstrap(), "-X", "auto.offset.reset=earliest"]);
    command.args(["-c", &count.to_string(), "-G", group, topic]);
    let mut process = Process::start(&command, directory.path(), "kcat");
    let status = process.wait(SOON * 2);
    assert!(status.success(), "{status}: {}", process.stderr());
    assert_eq!(process.stdout().iter().filter(|byte| **byte == b'\n').count(), count);
}

#[test]
fn llen_is_what_the_consumer_group_has_not_read_yet() {
    let (key, group) = (unique("llen"), unique("group"));
    let tidegate = start(&Kafka::shared().bootstrap(), &group, &key);
    let mut client = connect(&tidegate);
    assert_eq!(length(&mut client, &key), 0, "a topic that is not there");
    push(&mut client, &key, 100);
    wait_length(&mut client, &key, 100);
    read(&group, &key, 30);
    wait_length(&mut client, &key, 70);
    read(&group, &key, 70);
    wait_length(&mut client, &key, 0);
    push(&mut client, &key, 5);
    wait_length(&mut client, &key, 5);
    assert_eq!(length(&mut client, "no-route"), 0);
    let page: Value = serde_json::from_slice(&tidegate.get("/debug/log").body).unwrap();
    let lag = &page["lag"];
    assert_eq!((&lag["group"], &lag["topics"][0]["unread"]), (&group.as_str().into(), &5.into()), "{lag}");
    assert_eq!(tidegate.metric("tidegate_log_lag_failures_total"), 0.0);
}

#[test]
fn a_kafka_that_is_away_holds_up_no_llen_and_is_seen() {
    let kafka = Kafka::start();
    let key = unique("llen");
    let tidegate = start(&kafka.bootstrap(), &unique("group"), &key);
    let mut client = connect(&tidegate);
    push(&mut client, &key, 7);
    wait_length(&mut client, &key, 7);
    kafka.kill9(1);
    let failures = tidegate.metric("tidegate_log_lag_failures_total");
    let mut slowest = Duration::ZERO;
    wait_until(SOON * 3, "a look that fails", || {
        let asked = Instant::now();
        let length = length(&mut client, &key);
        slowest = slowest.max(asked.elapsed());
        assert!(length == 7 || length == 0, "{length}");
        tidegate.metric("tidegate_log_lag_failures_total") > failures
    });
    // A look at Kafka waits for two seconds.
    assert!(slowest < Duration::from_secs(1), "LLEN took {slowest:?}");
    let page: Value = serde_json::from_slice(&tidegate.get("/debug/log").body).unwrap();
    assert!(page["lag"]["last_error"].as_str().is_some_and(|text| text.starts_with(&key)), "{}", page["lag"]);
}
