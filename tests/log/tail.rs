//! `tidegate tail` on real Kafka. (`tests/terminal.rs` has the command's behaviour in a terminal.)

use crate::bed::process::Process;
use crate::bed::{Kafka, WorkDir, admin, unique, wait_until};
use crate::support::{SOON, Setup, connect};
use std::process::Command;

#[test]
fn partitions_that_are_added_later_are_followed_from_their_first_record() {
    let kafka = Kafka::shared();
    let key = unique("grows");
    let topic = format!("logs.{key}");
    kafka.create_topic(&topic, 1, 1, &[]);
    let directory = WorkDir::new("tail");
    let mut command = Command::new(env!("CARGO_BIN_EXE_tidegate"));
    command.args(["tail", &topic, "--brokers", &kafka.bootstrap()]);
    let tail = Process::start(&command, directory.path(), "tail");
    wait_until(SOON, "the first partition", || tail.stderr().contains("1 partition"));

    admin::add_partitions(&kafka.bootstrap(), &topic, 16);
    let tidegate = Setup::shared().route(&format!("key = \"*\"\ntopic = \"{topic}\"\npartition_by = \"key\"")).start();
    let mut client = connect(&tidegate);
    // Enough keys to reach partitions that were not there when it began.
    let values: Vec<String> = (0..64).map(|number| format!("record {number}")).collect();
    for value in &values {
        assert_eq!(client.command(["LPUSH", value.as_str(), value.as_str()]).integer(), 1);
    }
    wait_until(SOON, "every record", || {
        let shown = String::from_utf8_lossy(&tail.stdout()).into_owned();
        values.iter().all(|value| shown.lines().any(|line| line.ends_with(value.as_str())))
    });
    let shown = String::from_utf8_lossy(&tail.stdout()).into_owned();
    assert_eq!(shown.lines().count(), values.len(), "each once: {shown}");
}
