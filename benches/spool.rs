//! What a record costs in the spool alone: CPU of the whole process, per record written and made durable, and per record
//! read back and confirmed. `cargo bench --bench spool [-- DIRECTORY]`; without one, a temporary directory.
#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a bench ends at the first failure, and prints")]

use std::fs;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::event::{EventfdFlags, eventfd};
use tidegate::record::partition::PartitionChoice;
use tidegate::record::topic::TopicName;
use tidegate::spool::{Progress, Record, Replay, Spool, SpoolConfig};

/// Bytes of a record's value.
const SIZE: usize = 512;
/// Records in all, of each run.
const RECORDS: u64 = 1_000_000;
/// Chunks that are on their way to the disk at once, as with as many workers that wait for their turn.
const CHUNKS: u64 = 16;

fn main() {
    // Cargo adds options of its own.
    let given = std::env::args().skip(1).find(|argument| !argument.starts_with('-'));
    let place = tempfile::tempdir().unwrap();
    let directory = given.map_or_else(|| place.path().to_owned(), PathBuf::from).join("spool-bench");
    println!("{RECORDS} records of {SIZE} bytes in {}", directory.display());
    println!(
        "{:>16} {:>14} {:>14} {:>14} {:>14}",
        "records a chunk", "write CPU µs", "write /s", "read CPU µs", "read /s"
    );
    for chunk in [1, 64, 1024] {
        let config = SpoolConfig {
            directory: directory.clone(),
            max_size: 64 << 30,
            spool_after: Duration::ZERO,
            replay_rate: None,
        };
        fs::create_dir_all(directory.parent().unwrap()).unwrap();
        let (spool, mut replay) = Spool::open(&config).unwrap();
        // A sync for each record takes as long as the disk does.
        let records = if chunk == 1 { RECORDS / 10 } else { RECORDS };
        let (write_cpu, write_time) = measure(|| write(&spool, records, chunk));
        let (read_cpu, read_time) = measure(|| read(&mut replay, records));
        #[expect(clippy::cast_precision_loss, reason = "results are for people")]
        let (micros, rate) = (
            |time: Duration| time.as_secs_f64() * 1e6 / records as f64,
            |time: Duration| records as f64 / time.as_secs_f64(),
        );
        println!(
            "{chunk:>16} {:>14.3} {:>14.0} {:>14.3} {:>14.0}",
            micros(write_cpu),
            rate(write_time),
            micros(read_cpu),
            rate(read_time)
        );
        spool.close();
        fs::remove_dir_all(&directory).unwrap();
    }
}

/// Appends records, `chunk` of them a turn, and waits until all are durable.
fn write(spool: &Spool, records: u64, chunk: u64) {
    let lane = spool.lane(&TopicName::new("logs.bench").unwrap(), Some(0));
    let mut writer = spool.writer(Arc::new(eventfd(0, EventfdFlags::NONBLOCK).unwrap()));
    let value = vec![b'x'; SIZE];
    let (mut submitted, mut durable) = (0, 0);
    for first in (0..records).step_by(usize::try_from(chunk).unwrap()) {
        for id in first..records.min(first + chunk) {
            let id = u128::from(id);
            let choice = PartitionChoice::Sticky;
            writer.append(&lane, &Record { id, timestamp_ms: 1_000, choice, headers: &[], value: &value }).unwrap();
        }
        writer.submit();
        submitted += 1;
        while submitted - durable >= CHUNKS {
            writer.wait(Duration::from_secs(10));
            writer.outcomes(|_, outcome| {
                outcome.unwrap();
                durable += 1;
            });
        }
    }
    while durable < submitted {
        writer.wait(Duration::from_secs(10));
        writer.outcomes(|_, outcome| {
            outcome.unwrap();
            durable += 1;
        });
    }
}

/// Reads and confirms everything, looking at each value as who delivers it does.
fn read(replay: &mut Replay, records: u64) {
    let (mut seen, mut frames) = (0, Vec::new());
    while seen < records {
        if replay.next(&mut |_| true, &mut frames, 1 << 20).unwrap() == Progress::Tail {
            replay.wait(Duration::from_secs(1));
        }
        for frame in frames.drain(..) {
            assert!(frame.records().all(|item| item.record.value.len() == SIZE));
            seen += u64::from(frame.left());
            replay.done(frame.lane(), frame.id(), 0..frame.count());
            replay.recycle(frame);
        }
    }
}

/// CPU of the process, and time, of a piece of work.
fn measure(work: impl FnOnce()) -> (Duration, Duration) {
    let (cpu, begun) = (cpu_time(), Instant::now());
    work();
    (cpu_time() - cpu, begun.elapsed())
}

/// What the process's threads have used so far, in user and kernel mode; the spool's live as long as it is open.
fn cpu_time() -> Duration {
    let threads = fs::read_dir("/proc/self/task").unwrap();
    let of_thread = |path: PathBuf| {
        let text = fs::read_to_string(path.join("schedstat")).unwrap_or_default();
        text.split_whitespace().next().and_then(|nanos| nanos.parse().ok()).unwrap_or(0)
    };
    Duration::from_nanos(threads.map(|thread| of_thread(thread.unwrap().path())).sum())
}
