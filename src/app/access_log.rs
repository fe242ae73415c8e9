//! The gateway's access log on its way to Kafka: a thread that takes records from the gateway's queue and hands them to a sink of
//! the log plane, under the route that its key has. It waits for nobody that the gateway waits for: while the sink has no room,
//! the queue fills, and the gateway drops and counts.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::RecvTimeoutError;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::Context;

use crate::base::budget::Budget;
use crate::delivery::KafkaSinkFactory;
use crate::gateway::Records;
use crate::record::config::Accept;
use crate::record::route::{Route, RouteTable};
use crate::record::sink::{Destination, Record, RecordSink};

/// Between looks at what the sink has to do while no record comes.
const TICK: Duration = Duration::from_millis(20);
/// Records of one batch.
const BATCH: usize = 512;
/// For what is not confirmed at the end.
const PATIENCE: Duration = Duration::from_secs(5);

/// Bytes of records on their way, beside the log plane's own: the gateway's requests must not take the applications' room.
pub(super) const BUDGET: usize = 32 << 20;

/// What the log plane lends.
#[derive(Clone)]
pub(super) struct Sinks {
    pub(super) factory: KafkaSinkFactory,
    /// The one that `factory` gives back to.
    pub(super) budget: Budget,
}

/// The running thread.
pub(super) struct Writer {
    stopping: Arc<AtomicBool>,
    thread: JoinHandle<()>,
}

// === impl Writer ===

impl Writer {
    /// Starts it.
    pub(super) fn start(records: Records, key: &str, sinks: Sinks, routes: &RouteTable) -> anyhow::Result<Self> {
        let route = routes.find(key.as_bytes(), Accept::List);
        let route =
            route.map_err(|_| anyhow::anyhow!("gateway.access_log.key: no [[log.route]] takes {key:?}: add one"))?;
        let (route, key) = (route.clone(), key.to_owned());
        let stopping = Arc::new(AtomicBool::new(false));
        let told = stopping.clone();
        let work = move || match write(&records, &key, &sinks, &route, &told) {
            Ok(()) => {}
            Err(error) => tracing::error!(%error, "the access log is not written"),
        };
        let thread = std::thread::Builder::new().name("gateway-log".to_owned()).spawn(work)?;
        Ok(Self { stopping, thread })
    }

    /// Ends once all that the gateway handed over is confirmed, or patience ends.
    pub(super) async fn stop(self) {
        self.stopping.store(true, Ordering::Release);
        let joined = tokio::task::spawn_blocking(move || self.thread.join());
        if !matches!(joined.await, Ok(Ok(()))) {
            tracing::error!("the access log's end was a panic");
        }
    }
}

fn write(records: &Records, key: &str, sinks: &Sinks, route: &Arc<Route>, stopping: &AtomicBool) -> anyhow::Result<()> {
    let mut sink = sinks.factory.build()?;
    let mut place: Option<Destination> = None;
    let mut until: Option<Instant> = None;
    loop {
        let mut open = true;
        match records.recv_timeout(TICK) {
            Ok(first) => {
                let more = std::iter::from_fn(|| records.try_recv().ok()).take(BATCH - 1);
                for line in std::iter::once(first).chain(more) {
                    let to = match place {
                        Some(to) => to,
                        None => {
                            let topic = route.topic(key.as_bytes(), 0, "gateway", &line).context("its topic")?;
                            *place.insert(sink.destination(&topic, route)?)
                        }
                    };
                    let record = Record::plain(&line);
                    while !sinks.budget.try_take(record.cost()) {
                        if stopping.load(Ordering::Acquire) && expired(&mut until) {
                            return Ok(());
                        }
                        // Room comes with confirmations.
                        turn(&mut sink);
                        sink.wait(TICK);
                    }
                    route.with_choice(key.as_bytes(), 0, &line, |choice| sink.append(to, choice, record, None));
                }
            }
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => open = false,
        }
        turn(&mut sink);
        if stopping.load(Ordering::Acquire) || !open {
            if sink.unsettled() == 0 || expired(&mut until) {
                return Ok(());
            }
            sink.wait(TICK);
        }
    }
}

/// Whether the time for the end is over, which begins with the first call.
fn expired(until: &mut Option<Instant>) -> bool {
    Instant::now() > *until.get_or_insert_with(|| Instant::now() + PATIENCE)
}

fn turn(sink: &mut impl RecordSink) {
    let now = Instant::now();
    sink.flush(now);
    sink.outcomes(now, &mut |_, _| {});
    sink.tick(now);
}
