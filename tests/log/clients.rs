//! Real client libraries, as they are, into real Kafka.

use crate::bed::process::Process;
use crate::bed::{Consumed, Driver, Kafka, Mode, Tidegate, WorkDir, record, unique};
use crate::support::{SOON, Setup, consumed};
use std::collections::HashMap;
use std::process::Command;

/// Enough for every seventh record's binary tail to meet each place in a batch of ten, with a rest at the end.
const COUNT: usize = 137;

/// One route for the one-partition topics, one for those of four.
fn start() -> Tidegate {
    Kafka::shared();
    Setup::shared()
        .route("key = \"one-*\"\ncreate_topic = { partitions = 1, replication = 1 }")
        .route("key = \"four-*\"\ncreate_topic = { partitions = 4, replication = 1 }\npartition_by = \"json:/seq\"")
        .start()
}

fn every_mode(driver: &Driver) {
    let tidegate = start();
    for mode in Mode::ALL {
        let key = unique("one");
        driver.run(tidegate.redis_addr(), &key, COUNT, mode, None, SOON * 3).expect_ok(COUNT);
        let records = consumed(&format!("logs.{key}"), COUNT);
        for (seq, consumed) in records.iter().enumerate() {
            assert_eq!(consumed.value, record(&key, seq), "{} {mode:?}", driver.name);
            assert_eq!(consumed.key, None);
        }
    }
    // Several partitions: all of it arrives, and each partition has its part in order.
    let key = unique("four");
    driver.run(tidegate.redis_addr(), &key, COUNT, Mode::Pipeline, None, SOON * 3).expect_ok(COUNT);
    let records = consumed(&format!("logs.{key}"), COUNT);
    let numbers: HashMap<Vec<u8>, usize> = (0..COUNT).map(|seq| (record(&key, seq), seq)).collect();
    let number = |consumed: &Consumed| numbers[&consumed.value];
    let mut all: Vec<usize> = records.iter().map(number).collect();
    for partition in 0..4 {
        let here: Vec<usize> = records.iter().filter(|record| record.partition == partition).map(number).collect();
        assert!(!here.is_empty() && here.is_sorted(), "{} partition {partition}: {here:?}", driver.name);
    }
    all.sort_unstable();
    assert!(all.into_iter().eq(0..COUNT), "{}", driver.name);
}

#[test]
fn the_newest_redis_py_logs_in_every_mode() {
    every_mode(&Driver::redis_py_newest());
}

#[test]
fn debians_redis_py_logs_in_every_mode() {
    every_mode(&Driver::redis_py_debian());
}

#[test]
fn go_redis_logs_in_every_mode() {
    every_mode(&Driver::go_redis());
}

#[test]
fn jedis_logs_in_every_mode() {
    every_mode(&Driver::jedis());
}

#[test]
fn ioredis_logs_in_every_mode() {
    every_mode(&Driver::ioredis());
}

/// Runs redis-cli with these arguments and, as its input, this text; gives what it prints.
fn redis_cli(tidegate: &Tidegate, args: &[&str], input: &str) -> String {
    let directory = WorkDir::new("redis-cli");
    let input = directory.write("input", input);
    let mut command = Command::new("redis-cli");
    command.args(["-p", &tidegate.redis_addr().port().to_string()]).args(args);
    let mut process = Process::start_with_input(&command, directory.path(), "redis-cli", &input);
    let status = process.wait(SOON);
    assert!(status.success(), "redis-cli {args:?}: {status}: {}", process.stderr());
    String::from_utf8_lossy(&process.stdout()).into_owned()
}

#[test]
fn redis_cli_logs_by_arguments_by_lines_by_transaction_and_by_pipe() {
    let tidegate = start();
    let key = unique("one");
    assert_eq!(redis_cli(&tidegate, &["LPUSH", &key, "single é"], ""), "1\n");
    assert_eq!(redis_cli(&tidegate, &["RPUSH", &key, "a", "b", "c"], ""), "3\n");
    assert_eq!(redis_cli(&tidegate, &["-3", "LPUSH", &key, "resp3"], ""), "1\n");
    let lines = format!("LPUSH {key} \"quoted \\x00 \\\" text\"\nPING\nMULTI\nLPUSH {key} m1\nLPUSH {key} m2\nEXEC\n");
    assert_eq!(redis_cli(&tidegate, &[], &lines), "1\nPONG\nOK\nQUEUED\nQUEUED\n1\n1\n");
    assert_eq!(redis_cli(&tidegate, &["-x", "LPUSH", &key], "from stdin\n"), "1\n");
    let piped: String = (0..1000).map(|i| format!("LPUSH {key} piped-{i}\r\n")).collect();
    let said = redis_cli(&tidegate, &["--pipe"], &piped);
    assert!(said.contains("errors: 0, replies: 1000"), "{said}");

    let mut expected: Vec<String> =
        ["single é", "a", "b", "c", "resp3", "quoted \0 \" text", "m1", "m2", "from stdin\n"].map(Into::into).into();
    expected.extend((0..1000).map(|i| format!("piped-{i}")));
    let records = consumed(&format!("logs.{key}"), expected.len());
    for (record, expected) in records.iter().zip(&expected) {
        assert_eq!(String::from_utf8_lossy(&record.value), *expected);
    }
}
