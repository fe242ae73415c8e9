//! Following records in the terminal: topics of Kafka by [`follow`], or what a running Tidegate takes in by [`live`], through
//! [`filter`], to [`print`].

pub mod filter;
pub mod follow;
pub mod live;
pub mod print;

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

pub use filter::{FieldFilter, Filter};
pub use follow::{Event, Follower, KafkaAccess, Selection, Start};
pub use live::LiveOptions;
pub use print::Printer;
use tokio::sync::oneshot;

/// How long one wait for a record is; a stop is seen after it.
const TURN: Duration = Duration::from_millis(100);
/// How long a stop waits for the thread that follows. It may be inside librdkafka while Kafka is away.
const STOP_WAIT: Duration = Duration::from_millis(500);

/// What `tidegate tail` is asked for.
#[derive(Clone, Debug)]
pub struct TailOptions {
    /// The topic to follow.
    pub topic: String,
    /// From the oldest record; else from now on.
    pub from_beginning: bool,
    /// Only records that contain this text.
    pub grep: Option<String>,
    /// Only JSON records that have all these values.
    pub fields: Vec<FieldFilter>,
    /// End after this many records.
    pub count: Option<u64>,
}

/// Why following ended.
#[derive(Debug, thiserror::Error)]
pub enum TailError {
    /// librdkafka refused to make a consumer: the properties of `[log.kafka]` are no consumer's.
    #[error("Kafka's client: {0}")]
    Client(#[from] rdkafka::error::KafkaError),
    /// The output failed otherwise than by its reader going away.
    #[error("standard output: {0}")]
    Output(io::Error),
    /// The server's address is none.
    #[error("{0:?} is no address of an admin server: write http://HOST:PORT")]
    Server(String),
    /// The token has characters that none has.
    #[error("the token file holds no token: one line of visible characters is expected")]
    Token,
    /// The server answered, and not with what was asked for.
    #[error("the server refused with {0}: {1}")]
    Refused(u16, String),
    /// A thread or a signal handler could not be had.
    #[error("this machine gives no thread or signal: {0}")]
    System(#[from] io::Error),
}

/// Follows a topic until Ctrl-C, SIGTERM, the wanted count, or until nobody reads standard output.
pub fn run(kafka: &KafkaAccess, options: TailOptions) -> Result<(), TailError> {
    let start = if options.from_beginning { Start::Beginning } else { Start::Now };
    let follower = Follower::new(kafka, Selection::Topic(options.topic), start)?;
    let filter = Filter { grep: options.grep, fields: options.fields };
    let view = LiveView { follower, filter, printer: Printer::values(), count: options.count, quiet: false };
    until_ended(|| view.spawn())
}

/// Follows what a running Tidegate takes in, until Ctrl-C, SIGTERM, the wanted count, or until nobody reads standard
/// output.
pub fn run_live(options: LiveOptions) -> Result<(), TailError> {
    until_ended(|| live::spawn(options))
}

fn until_ended(start: impl FnOnce() -> Result<RunningView, TailError>) -> Result<(), TailError> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let mut terminate = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate())?;
        let mut running = start()?;
        tokio::select! {
            outcome = running.ended() => outcome,
            _ = tokio::signal::ctrl_c() => running.stop().await,
            _ = terminate.recv() => running.stop().await,
        }
    })
}

/// Records on their way from Kafka to standard output.
pub struct LiveView {
    /// Where records come from.
    pub follower: Follower,
    /// Which are shown.
    pub filter: Filter,
    /// How they are shown.
    pub printer: Printer,
    /// End after this many.
    pub count: Option<u64>,
    /// Say nothing on stderr about topics and Kafka coming and going.
    pub quiet: bool,
}

/// A live view on its thread.
pub struct RunningView {
    stop: Arc<AtomicBool>,
    outcome: oneshot::Receiver<Result<(), TailError>>,
}

// === impl LiveView ===

impl LiveView {
    /// Starts it on a thread of its own, because librdkafka's consumer blocks.
    pub fn spawn(mut self) -> Result<RunningView, TailError> {
        let stop = Arc::new(AtomicBool::new(false));
        let (sender, outcome) = oneshot::channel();
        let stopped = Arc::clone(&stop);
        thread::Builder::new().name("tail".to_owned()).spawn(move || {
            let ended = self.follow(&stopped);
            // Nobody waits any more where a stop was not in time.
            let _ = sender.send(ended);
        })?;
        Ok(RunningView { stop, outcome })
    }

    fn follow(&mut self, stop: &AtomicBool) -> Result<(), TailError> {
        let mut left = self.count.unwrap_or(u64::MAX);
        while left > 0 && !stop.load(Ordering::Relaxed) {
            let written = match self.follower.next(TURN) {
                Some(Event::Record(record)) if self.filter.takes(&record.value) => {
                    left -= 1;
                    self.printer.print(&record)
                }
                Some(Event::Record(_)) => Ok(()),
                Some(event) if self.quiet => {
                    tracing::debug!(?event, "live view");
                    Ok(())
                }
                Some(event) => {
                    eprintln!("tidegate: {event}");
                    Ok(())
                }
                None => self.printer.flush(),
            };
            if is_closed(&written) {
                return Ok(());
            }
            written.map_err(TailError::Output)?;
        }
        let flushed = self.printer.flush();
        if is_closed(&flushed) { Ok(()) } else { flushed.map_err(TailError::Output) }
    }
}

// === impl RunningView ===

impl RunningView {
    /// Waits until it ends by itself.
    pub async fn ended(&mut self) -> Result<(), TailError> {
        // The thread sends before it ends, unless it panicked, and that has been printed.
        (&mut self.outcome).await.unwrap_or(Ok(()))
    }

    /// Asks it to end and waits a moment for that.
    pub async fn stop(&mut self) -> Result<(), TailError> {
        self.stop.store(true, Ordering::Relaxed);
        tokio::time::timeout(STOP_WAIT, self.ended()).await.unwrap_or(Ok(()))
    }
}

/// Whether the reader of standard output went away, as `head` does: the quiet end of a pipe.
fn is_closed(written: &io::Result<()>) -> bool {
    matches!(written, Err(error) if error.kind() == io::ErrorKind::BrokenPipe)
}
