//! Reads what is in Kafka, with a consumer that shares no code with Tidegate: Debian's kcat.

use super::process::Process;
use super::wait::poll;
use super::workdir::WorkDir;
use std::process::Command;
use std::time::{Duration, Instant};

/// Separates kcat's records. kcat prints no length for headers, so they stand last and end with this.
const END: &[u8] = b"\x01tidegate-end-of-record\x02\n";
const FORMAT: &str = r"%p %o %T %K %S\n%k%s%h\x01tidegate-end-of-record\x02\n";

/// One record as Kafka holds it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Consumed {
    /// Its partition.
    pub partition: i32,
    /// Its offset in the partition.
    pub offset: i64,
    /// Its time in milliseconds since 1970.
    pub timestamp: i64,
    /// Its key.
    pub key: Option<Vec<u8>>,
    /// Its value; empty for a null value too.
    pub value: Vec<u8>,
    /// Its headers in order. kcat prints them as `name=value,name=value`; a piece without `=` is taken for the rest of
    /// the value before it, so a value may contain a comma unless a `=` follows later on.
    pub headers: Vec<(String, Vec<u8>)>,
}

/// Everything that is in the topic now, partition by partition in order of offsets. Empty if there is no such topic.
pub fn consume(bootstrap: &str, topic: &str) -> Vec<Consumed> {
    consume_with(bootstrap, topic, &[])
}

/// As [`consume`], with properties for kcat (`security.protocol=SSL`, …).
pub fn consume_with(bootstrap: &str, topic: &str, properties: &[&str]) -> Vec<Consumed> {
    let directory = WorkDir::new("kcat");
    let mut command = Command::new("kcat");
    command.args(["-C", "-q", "-e", "-o", "beginning", "-t", topic, "-f", FORMAT]);
    command.args(["-b", bootstrap, "-X", "fetch.wait.max.ms=20"]);
    for property in properties {
        command.args(["-X", property]);
    }
    let mut kcat = Process::start(&command, directory.path(), "kcat");
    let status = kcat.wait(Duration::from_secs(60));
    if !status.success() {
        let why = kcat.stderr();
        if why.contains("Unknown topic or partition") {
            return Vec::new();
        }
        panic!("kcat: {status}: {why}");
    }
    let mut records = parse(&kcat.stdout());
    records.sort_by_key(|record| (record.partition, record.offset));
    records
}

/// Reads until the topic holds at least so many records; panics after the deadline.
pub fn consume_at_least(bootstrap: &str, topic: &str, count: usize, deadline: Duration) -> Vec<Consumed> {
    let start = Instant::now();
    let mut seen = 0;
    poll(deadline, || {
        let records = consume(bootstrap, topic);
        seen = records.len();
        (seen >= count).then_some(records)
    })
    .unwrap_or_else(|| panic!("{topic} holds {seen} records, not {count}, after {:?}", start.elapsed()))
}

/// Puts lines of text into a topic, one record each. A set-up act for tests of the bed itself.
pub fn produce_lines(bootstrap: &str, topic: &str, lines: &str) {
    let directory = WorkDir::new("kcat");
    let input = directory.write("input", lines);
    let mut command = Command::new("kcat");
    command.args(["-P", "-t", topic, "-b", bootstrap, "-X", "acks=all"]);
    let mut kcat = Process::start_with_input(&command, directory.path(), "kcat", &input);
    let status = kcat.wait(Duration::from_secs(60));
    assert!(status.success(), "kcat: {status}: {}", kcat.stderr());
}

fn parse(mut input: &[u8]) -> Vec<Consumed> {
    let mut records = Vec::new();
    while !input.is_empty() {
        let (record, rest) = parse_one(input).unwrap_or_else(|| {
            let start = input.get(..input.len().min(200)).unwrap_or_default();
            panic!("not a record of kcat's: {}", String::from_utf8_lossy(start))
        });
        records.push(record);
        input = rest;
    }
    records
}

fn parse_one(input: &[u8]) -> Option<(Consumed, &[u8])> {
    let line_end = input.iter().position(|byte| *byte == b'\n')?;
    let line = std::str::from_utf8(input.get(..line_end)?).ok()?;
    let mut numbers = line.split(' ').map(str::parse::<i64>);
    let mut number = || numbers.next()?.ok();
    let (partition, offset, timestamp) = (number()?, number()?, number()?);
    let (key_length, value_length) = (number()?, number()?);
    let rest = input.get(line_end + 1..)?;
    // -1 stands for none.
    let (key, rest) = rest.split_at_checked(usize::try_from(key_length).unwrap_or(0))?;
    let (value, rest) = rest.split_at_checked(usize::try_from(value_length).unwrap_or(0))?;
    let headers_end = rest.windows(END.len()).position(|window| window == END)?;
    let record = Consumed {
        partition: i32::try_from(partition).ok()?,
        offset,
        timestamp,
        key: (key_length >= 0).then(|| key.to_vec()),
        value: value.to_vec(),
        headers: parse_headers(rest.get(..headers_end)?),
    };
    Some((record, rest.get(headers_end + END.len()..)?))
}

fn parse_headers(text: &[u8]) -> Vec<(String, Vec<u8>)> {
    let mut headers: Vec<(String, Vec<u8>)> = Vec::new();
    if text.is_empty() {
        return headers;
    }
    for piece in text.split(|byte| *byte == b',') {
        let equals = piece.iter().position(|byte| *byte == b'=');
        match (equals, headers.last_mut()) {
            (None, Some((_, value))) => {
                value.push(b',');
                value.extend_from_slice(piece);
            }
            _ => {
                let (name, value) = piece.split_at(equals.unwrap_or(piece.len()));
                let value = value.get(1..).unwrap_or_default().to_vec();
                headers.push((String::from_utf8_lossy(name).into_owned(), value));
            }
        }
    }
    headers
}
