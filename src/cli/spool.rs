//! `tidegate spool inspect|verify|export DIR`: what is in a spool, whether it is sound, and its records as text.

use std::collections::BTreeMap;
use std::io::{self, BufWriter, IsTerminal, Write};
use std::ops::Range;
use std::path::PathBuf;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::bail;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use clap::{Args, Subcommand};
use serde_json::{Map, Value, json};

use crate::record::headers::Headers;
use crate::record::partition::PartitionChoice;
use crate::spool::{FrameSurvey, Record, SegmentSurvey, Survey};

pub(super) const EXAMPLES: &str = "Examples:
  tidegate spool inspect /var/lib/tidegate/spool
  tidegate spool verify /var/lib/tidegate/spool --json
  tidegate spool export /var/lib/tidegate/spool --topic logs.app-web | jq .value";

/// What to do with a spool's directory.
#[derive(Debug, Subcommand)]
pub enum SpoolCommand {
    /// Show what is in it: lanes, what of them is left, segments
    ///
    /// A lane is a topic and partition; without partition, it is chosen when the records are delivered.
    Inspect(Directory),
    /// Read every record, and say what is damaged; exit code 1 if anything is
    ///
    /// An unfinished write at the end of the last segment is no damage: nothing of it was ever acknowledged.
    Verify(Directory),
    /// Write the records that are left to stdout, one JSON object a line
    ///
    /// Each has topic, partition, id, timestamp_ms, headers and value, and a key if there is one. What is not UTF-8 stands
    /// as value_base64 and key_base64.
    Export(Export),
}

/// Where the spool is, and how it is shown.
#[derive(Args, Debug)]
pub struct Directory {
    /// The spool's directory
    #[arg(value_name = "DIR")]
    directory: PathBuf,
    /// One JSON object instead of text
    #[arg(long)]
    json: bool,
}

/// What is exported.
#[derive(Args, Debug)]
pub struct Export {
    /// The spool's directory
    #[arg(value_name = "DIR")]
    directory: PathBuf,
    /// The values as they are, each and a newline, without anything around them
    #[arg(long)]
    raw: bool,
    /// Records that are known to be delivered, too
    #[arg(long)]
    all: bool,
    /// Only records of this topic
    #[arg(long, value_name = "TOPIC")]
    topic: Option<String>,
}

/// What a walk over all segments found.
#[derive(Default)]
struct Found {
    lanes: BTreeMap<(String, Option<i32>), LaneCount>,
    segments: Vec<SegmentSurvey>,
    /// Damaged stretches, and what of each segment could not be read.
    damage: Vec<(PathBuf, Range<u64>)>,
}

#[derive(Default)]
struct LaneCount {
    records: u64,
    left: u64,
    bytes_left: u64,
    oldest_ms: Option<i64>,
}

/// How far it is, on stderr, if that is a terminal.
struct Meter {
    shown: bool,
    total: u64,
    done: u64,
    next: Instant,
}

/// How often the meter is written.
const METER_EVERY: Duration = Duration::from_millis(100);

// === impl SpoolCommand ===

impl SpoolCommand {
    /// Does it.
    ///
    /// # Errors
    /// The directory is no spool of this version, the disk refused, or `verify` found damage.
    pub fn run(self) -> anyhow::Result<()> {
        match self {
            Self::Inspect(Directory { directory, json }) => {
                let survey = Survey::open(&directory)?;
                let found = walk(&survey, false, |_| Ok(()))?;
                show(&survey, &found, json)
            }
            Self::Verify(Directory { directory, json }) => {
                let survey = Survey::open(&directory)?;
                let found = walk(&survey, true, |_| Ok(()))?;
                show(&survey, &found, json)?;
                if !found.damage.is_empty() {
                    bail!("{}: damaged", directory.display());
                }
                Ok(())
            }
            Self::Export(export) => match export.run() {
                // Whoever read it, as `head` does, has seen enough.
                Err(error) if is_closed(&error) => Ok(()),
                outcome => outcome,
            },
        }
    }
}

fn is_closed(error: &anyhow::Error) -> bool {
    error.downcast_ref::<io::Error>().is_some_and(|error| error.kind() == io::ErrorKind::BrokenPipe)
}

/// Goes over all segments.
fn walk(survey: &Survey, verify: bool, mut each: impl FnMut(&FrameSurvey<'_>) -> io::Result<()>) -> io::Result<Found> {
    let segments = survey.segments()?;
    let mut meter = Meter::new(segments.iter().map(|(_, bytes)| bytes).sum());
    let mut found = Found::default();
    for (sequence, bytes) in segments {
        let begun = meter.done;
        let walked = survey.walk(sequence, verify, &mut |frame| {
            meter.add(frame.bytes);
            found.count(&frame);
            each(&frame)
        })?;
        meter.done = begun + bytes;
        if let Some(segment) = walked {
            let unreadable = (!segment.is_readable && segment.bytes > 0).then_some(0..segment.bytes);
            let damage = segment.damage.iter().cloned().chain(unreadable);
            found.damage.extend(damage.map(|range| (segment.path.clone(), range)));
            found.segments.push(segment);
        }
    }
    meter.end();
    Ok(found)
}

fn show(survey: &Survey, found: &Found, json: bool) -> anyhow::Result<()> {
    let quarantine = survey.quarantine()?;
    let mut output = io::stdout().lock();
    let outcome = if json {
        writeln!(output, "{}", found.to_json(survey, &quarantine))
    } else {
        found.print(survey, &quarantine, &mut output)
    };
    match outcome {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        outcome => Ok(outcome?),
    }
}

// === impl Found ===

impl Found {
    fn count(&mut self, frame: &FrameSurvey<'_>) {
        let lane = self.lanes.entry((frame.topic.to_owned(), frame.partition)).or_default();
        let left = u64::from(frame.count - frame.done);
        lane.records += u64::from(frame.count);
        lane.left += left;
        if left > 0 {
            lane.bytes_left += frame.bytes * left / u64::from(frame.count);
            lane.oldest_ms = Some(lane.oldest_ms.unwrap_or(i64::MAX).min(frame.timestamp_ms));
        }
    }

    fn bytes(&self) -> u64 {
        self.segments.iter().map(|segment| segment.bytes).sum()
    }

    fn left(&self) -> u64 {
        self.lanes.values().map(|lane| lane.left).sum()
    }

    fn oldest_ms(&self) -> Option<i64> {
        self.lanes.values().filter_map(|lane| lane.oldest_ms).min()
    }

    fn to_json(&self, survey: &Survey, quarantine: &[(PathBuf, u64)]) -> Value {
        let lanes = self.lanes.iter().map(|((topic, partition), lane)| {
            json!({
                "topic": topic,
                "partition": partition,
                "records": lane.records,
                "records_left": lane.left,
                "bytes_left": lane.bytes_left,
                "oldest_ms": lane.oldest_ms,
            })
        });
        let segments = self.segments.iter().map(|segment| {
            json!({
                "file": segment.path,
                "sequence": segment.sequence,
                "bytes": segment.bytes,
                "unfinished_bytes": segment.unfinished,
                "readable": segment.is_readable,
            })
        });
        let damage =
            self.damage.iter().map(|(file, range)| json!({"file": file, "from": range.start, "to": range.end}));
        json!({
            "bytes": self.bytes(),
            "records_left": self.left(),
            "oldest_ms": self.oldest_ms(),
            "checkpoint": survey.has_checkpoint,
            "lanes": lanes.collect::<Vec<_>>(),
            "segments": segments.collect::<Vec<_>>(),
            "damage": damage.collect::<Vec<_>>(),
            "quarantine": quarantine.iter().map(|(file, bytes)| json!({"file": file, "bytes": bytes})).collect::<Vec<_>>(),
        })
    }

    fn print(&self, survey: &Survey, quarantine: &[(PathBuf, u64)], output: &mut dyn Write) -> io::Result<()> {
        writeln!(output, "{} in {}", size(self.bytes()), count(self.segments.len() as u64, "segment"))?;
        match self.oldest_ms() {
            Some(oldest) => {
                writeln!(output, "{} left, the oldest received {} ago", count(self.left(), "record"), age(oldest))?
            }
            None => writeln!(output, "nothing left: everything is delivered")?,
        }
        if !survey.has_checkpoint {
            writeln!(output, "no checkpoint: nothing is known to be delivered")?;
        }
        let width = self.lanes.keys().map(|(topic, _)| topic.len() + 8).max().unwrap_or(0).max(16);
        if !self.lanes.is_empty() {
            writeln!(
                output,
                "\n{:<width$} {:>12} {:>12} {:>10} {:>8}",
                "lane", "records", "left", "bytes left", "oldest"
            )?;
        }
        for ((topic, partition), lane) in &self.lanes {
            let name = partition.map_or_else(|| topic.clone(), |partition| format!("{topic}/{partition}"));
            let oldest = lane.oldest_ms.map_or_else(|| "-".to_owned(), age);
            let (records, left, bytes) = (lane.records, lane.left, size(lane.bytes_left));
            writeln!(output, "{name:<width$} {records:>12} {left:>12} {bytes:>10} {oldest:>8}")?;
        }
        for segment in self.segments.iter().filter(|segment| segment.unfinished > 0) {
            let (file, bytes) = (segment.path.display(), size(segment.unfinished));
            writeln!(output, "\n{file}: {bytes} of an unfinished write at its end")?;
        }
        for (file, range) in &self.damage {
            writeln!(output, "\n{}: damaged from byte {} to {}", file.display(), range.start, range.end)?;
        }
        if !quarantine.is_empty() {
            let bytes = quarantine.iter().map(|(_, bytes)| bytes).sum();
            writeln!(output, "\n{} with {} in quarantine", count(quarantine.len() as u64, "file"), size(bytes))?;
        }
        Ok(())
    }
}

// === impl Export ===

impl Export {
    fn run(&self) -> anyhow::Result<()> {
        let survey = Survey::open(&self.directory)?;
        let mut output = BufWriter::new(io::stdout().lock());
        let (mut body, mut damaged) = (Vec::new(), 0_u64);
        let found = walk(&survey, false, |frame| {
            if self.topic.as_deref().is_some_and(|topic| topic != frame.topic)
                || (!self.all && frame.done == frame.count)
            {
                return Ok(());
            }
            let sound = frame.records(&mut body, &mut |record, done| {
                if done && !self.all {
                    return Ok(());
                }
                if self.raw {
                    output.write_all(record.value)?;
                } else {
                    serde_json::to_writer(&mut output, &object(frame, record, done))?;
                }
                output.write_all(b"\n")
            })?;
            damaged += if sound { 0 } else { u64::from(frame.count) };
            Ok(())
        })?;
        output.flush()?;
        if damaged > 0 || !found.damage.is_empty() {
            bail!("{}: damaged; what could be read was exported", self.directory.display());
        }
        Ok(())
    }
}

/// A record as JSON.
fn object(frame: &FrameSurvey<'_>, record: &Record<'_>, done: bool) -> Value {
    let mut object = Map::new();
    object.insert("topic".into(), frame.topic.into());
    object.insert("partition".into(), frame.partition.into());
    object.insert("id".into(), format!("{:032x}", record.id).into());
    object.insert("timestamp_ms".into(), record.timestamp_ms.into());
    if let PartitionChoice::Key(key) = record.choice {
        insert(&mut object, "key", key);
    }
    let headers = Headers::from_bytes(record.headers).iter().map(|(name, value)| {
        let mut header = Map::new();
        insert(&mut header, "name", name);
        insert(&mut header, "value", value);
        Value::Object(header)
    });
    object.insert("headers".into(), headers.collect());
    insert(&mut object, "value", record.value);
    if frame.is_guard {
        object.insert("may_be_delivered".into(), true.into());
    }
    if done {
        object.insert("delivered".into(), true.into());
    }
    Value::Object(object)
}

/// Text as it is; other bytes as base64, under a name that says so.
fn insert(object: &mut Map<String, Value>, name: &str, bytes: &[u8]) {
    match std::str::from_utf8(bytes) {
        Ok(text) => object.insert(name.to_owned(), text.into()),
        Err(_) => object.insert(format!("{name}_base64"), STANDARD.encode(bytes).into()),
    };
}

// === impl Meter ===

impl Meter {
    fn new(total: u64) -> Self {
        // On the same terminal, results would run into it.
        let shown = io::stderr().is_terminal() && !io::stdout().is_terminal();
        Self { shown, total, done: 0, next: Instant::now() + METER_EVERY }
    }

    fn add(&mut self, bytes: u64) {
        self.done += bytes;
        if self.shown && Instant::now() >= self.next {
            self.next = Instant::now() + METER_EVERY;
            eprint!("\rtidegate: {} of {} ", size(self.done), size(self.total));
        }
    }

    fn end(&self) {
        if self.shown {
            eprint!("\r{:<60}\r", "");
        }
    }
}

/// A size for people: `1.5GiB`.
fn size(bytes: u64) -> String {
    let units = [("GiB", 1_u64 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)];
    match units.into_iter().find(|(_, factor)| bytes >= *factor) {
        Some((unit, factor)) => format!("{}.{}{unit}", bytes / factor, bytes % factor * 10 / factor),
        None => format!("{bytes}B"),
    }
}

fn count(number: u64, what: &str) -> String {
    format!("{number} {what}{}", if number == 1 { "" } else { "s" })
}

/// How long ago something was, in the largest unit that fits.
fn age(timestamp_ms: i64) -> String {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let then = Duration::from_millis(u64::try_from(timestamp_ms).unwrap_or(0));
    let seconds = now.saturating_sub(then).as_secs();
    match seconds {
        0..120 => format!("{seconds}s"),
        120..7_200 => format!("{}min", seconds / 60),
        7_200..172_800 => format!("{}h", seconds / 3_600),
        _ => format!("{}d", seconds / 86_400),
    }
}
