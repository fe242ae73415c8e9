//! Replay: what is in the spool goes to Kafka, in order within a lane, with a producer and a thread of its own.
//!
//! ```text
//! spool ──frames──▶ lane (waiting) ──group──▶ librdkafka ──reports──▶ spool (done)
//!           ▲            one group a lane            │
//!           └── window, pace, lanes that pause ◀─────┘
//! ```
//!
//! What holds:
//! - One group of a lane is on its way at a time, and the next begins where it ended; after a failure the lane is read
//!   again from its first record that is not done. So order within a lane holds, as Kafka refuses the rest of a group
//!   with its first part: see [`times`], and the producer for a partition's first record.
//! - What is held in memory is bounded by [`window`], whatever the backlog. A lane that fails pauses ([`throttle`]) and one
//!   whose broker does not answer gives its room in the window back: neither keeps the others from going on.
//! - A lane without a partition is replayed in its place among the topic's other lanes: the spool sees to it.
//! - What its topic never takes leaves its lane as a dead letter, where its route has a topic for them ([`letters`]); a
//!   record whose own time Kafka does not take goes without it, and says it in a header; records of a partition that is
//!   gone for good go to others. In each case the record is done only when Kafka has confirmed it.
//! - While Kafka answers nobody, one small group a second asks whether it does again ([`super::breaker`]).

mod lane;
mod letters;
mod pace;
mod part;
mod progress;
mod report;
mod routes;
mod settle;
mod throttle;
mod times;
mod turn;
mod window;

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::sync_channel;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rdkafka::error::KafkaError;
use rustix::event::{EventfdFlags, eventfd};

use super::config::KafkaConfig;
use super::failover::FailoverShared;
use super::topics::Directory;
use crate::base::scheduling::yield_to_nobody;
use crate::spool;
pub use report::BacklogReport;
pub use routes::ReplayRoutes;
use turn::Replayer;

/// How long a stop waits for what is on its way: each report that still comes is one record not sent twice.
const LAST_REPORTS: Duration = Duration::from_secs(1);

/// The thread that replays, and what it tells.
pub struct Backlog {
    stop: Arc<AtomicBool>,
    told: Arc<Mutex<BacklogReport>>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

// === impl Backlog ===

impl Backlog {
    /// Starts the thread. `record_size` is the largest record of any route, in bytes; `rate` the most bytes a second;
    /// `routes` say what becomes of records that their topics do not take.
    ///
    /// # Errors
    /// librdkafka does not take the configuration, or a descriptor or thread cannot be had.
    pub fn start(
        config: &KafkaConfig,
        record_size: usize,
        directory: Directory,
        shared: FailoverShared,
        routes: ReplayRoutes,
        replay: spool::Replay,
        rate: Option<u64>,
    ) -> Result<Self, KafkaError> {
        let no = |what: &str, error: &dyn std::fmt::Display| KafkaError::ClientCreation(format!("no {what}: {error}"));
        let wake = eventfd(0, EventfdFlags::NONBLOCK | EventfdFlags::CLOEXEC).map_err(|error| no("eventfd", &error))?;
        let wake = Arc::new(wake);
        directory.wake(&wake);
        let (stop, told) = (Arc::new(AtomicBool::new(false)), Arc::new(Mutex::default()));
        let parts = turn::Parts {
            config: config.producer(record_size),
            stalls_after: config.stalls_after(),
            directory,
            shared,
            routes,
            rate,
            wake,
            stop: stop.clone(),
            told: told.clone(),
        };
        let (started, outcome) = sync_channel(1);
        let thread = std::thread::Builder::new().name("replay".into()).spawn(move || {
            yield_to_nobody();
            match Replayer::new(parts, replay, Instant::now()) {
                Ok(mut replayer) => {
                    // What an earlier process left is known before anybody can ask.
                    replayer.report();
                    // The starter waits for this and is there.
                    _ = started.send(Ok(()));
                    replayer.run();
                }
                Err(error) => _ = started.send(Err(error)),
            }
        });
        let thread = thread.map_err(|error| no("thread", &error))?;
        outcome.recv().map_err(|error| no("replay", &error))??;
        Ok(Self { stop, told, thread: Mutex::new(Some(thread)) })
    }

    /// How far it is.
    pub fn report(&self) -> BacklogReport {
        self.told.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Asks it to end: nothing more is sent.
    pub fn ask_to_stop(&self) {
        self.stop.store(true, Ordering::Release);
    }

    /// Ends it; blocks a second at most while what is on its way is reported.
    pub fn stop(&self) {
        self.ask_to_stop();
        let thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner).take();
        if thread.is_some_and(|thread| thread.join().is_err()) {
            tracing::error!("replay ended in a panic");
        }
    }
}

impl Drop for Backlog {
    fn drop(&mut self) {
        self.stop();
    }
}
