//! The directory of topics: how many partitions each has, who leads them, and the creation of those that are missing.
//! One thread asks Kafka, as librdkafka's metadata calls block; workers read what it found without a lock of their own.

use std::collections::{HashMap, HashSet};
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicBool, AtomicIsize, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use arc_swap::{ArcSwap, ArcSwapOption};
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::config::ClientConfig;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::producer::{BaseProducer, Producer as _};

use super::config::KafkaConfig;
use super::health::{Context, Health, Trouble};
use crate::record::config::CreateTopic;
use crate::record::sink::Failure;
use crate::record::topic::TopicName;

/// How long one question to Kafka may take.
const ASK: Duration = Duration::from_secs(2);
/// Between tries for a topic that is not there, or a Kafka that is away.
const RETRY: Duration = Duration::from_millis(250);
/// Between looks at partition counts and leaders.
const REFRESH: Duration = Duration::from_secs(30);
/// Wishes that may wait; a worker that finds the queue full asks again at its next tick.
const WISHES: usize = 1024;

/// One topic as all workers see it.
#[derive(Debug)]
pub(super) struct Topic {
    /// Its name.
    pub name: TopicName,
    create: ArcSwapOption<CreateTopic>,
    /// The leader of each partition, -1 for none; empty while the topic is not known.
    leaders: ArcSwap<Vec<i32>>,
    asked: AtomicBool,
    /// How often Kafka has told of its partitions.
    looks: AtomicU64,
    trouble: Mutex<Option<(Failure, Trouble)>>,
    pub(super) counts: TopicCounts,
}

/// What a topic's records came to, over all workers.
#[derive(Debug, Default)]
pub(super) struct TopicCounts {
    pub(super) delivered: AtomicU64,
    pub(super) failed: AtomicU64,
    /// Below zero for a moment where records are settled in the turn in which they came: each worker adds its own at
    /// the turn's end.
    pub(super) unsettled: AtomicIsize,
}

/// One topic's state, for `/debug/log`.
#[derive(Clone, Debug, serde::Serialize)]
pub struct TopicReport {
    /// The topic.
    pub topic: String,
    /// Its partitions; 0 while it is not known.
    pub partitions: usize,
    /// Records confirmed since the start.
    pub delivered_total: u64,
    /// Records refused or not confirmed since the start.
    pub failed_total: u64,
    /// Records taken and not settled.
    pub in_flight: usize,
    /// The last error, if any.
    pub last_error: Option<String>,
    /// When it was seen, in seconds of the Unix epoch.
    pub last_error_at: Option<u64>,
}

/// All topics. Cheap to clone; the thread ends when the last one is dropped.
#[derive(Clone)]
pub struct Directory {
    shared: Arc<Shared>,
    wishes: SyncSender<Arc<Topic>>,
    health: Arc<Health>,
}

struct Shared {
    topics: Mutex<HashMap<TopicName, Arc<Topic>>>,
    /// Workers' eventfds, written when something was found.
    wakers: Mutex<Vec<Weak<OwnedFd>>>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

// === impl Topic ===

impl Topic {
    /// The leader of each partition; empty while the topic is not known.
    pub(super) fn leaders(&self) -> Arc<Vec<i32>> {
        self.leaders.load_full()
    }

    /// How often Kafka has told of its partitions so far.
    pub(super) fn looks(&self) -> u64 {
        self.looks.load(Ordering::Acquire)
    }

    fn found(&self, leaders: Vec<i32>) {
        if **self.leaders.load() != leaders {
            self.leaders.store(Arc::new(leaders));
        }
        self.looks.fetch_add(1, Ordering::AcqRel);
    }

    /// Creates it with these counts, if it is missing: a reload may ask for it where nobody did before.
    pub(super) fn create_with(&self, create: CreateTopic) {
        if self.create.load().as_deref() != Some(&create) {
            self.create.store(Some(Arc::new(create)));
        }
    }

    /// Why the topic is not known, as a record's failure.
    pub(super) fn failure(&self) -> Failure {
        match &*self.trouble.lock().unwrap_or_else(PoisonError::into_inner) {
            Some((failure, _)) => *failure,
            None => Failure::TimedOut,
        }
    }

    pub(super) fn set_trouble(&self, failure: Failure, text: String) {
        let trouble = Trouble { at: std::time::SystemTime::now(), text };
        *self.trouble.lock().unwrap_or_else(PoisonError::into_inner) = Some((failure, trouble));
    }

    fn report(&self) -> TopicReport {
        let trouble = self.trouble.lock().unwrap_or_else(PoisonError::into_inner).clone();
        TopicReport {
            topic: self.name.to_string(),
            partitions: self.leaders.load().len(),
            delivered_total: self.counts.delivered.load(Ordering::Relaxed),
            failed_total: self.counts.failed.load(Ordering::Relaxed),
            in_flight: usize::try_from(self.counts.unsettled.load(Ordering::Relaxed)).unwrap_or_default(),
            last_error_at: trouble.as_ref().map(|(_, trouble)| trouble.seconds()),
            last_error: trouble.map(|(_, trouble)| trouble.text),
        }
    }
}

// === impl Directory ===

impl Directory {
    /// Starts the thread that asks Kafka.
    ///
    /// # Errors
    /// librdkafka does not take the configuration, or the thread cannot be started.
    pub fn start(config: &KafkaConfig, health: Arc<Health>) -> Result<Self, KafkaError> {
        let client: BaseProducer<Context> = config.client().create_with_context(Context(health.clone()))?;
        let (wishes, wanted) = sync_channel(WISHES);
        let shared = Arc::new(Shared { topics: Mutex::default(), wakers: Mutex::default(), thread: Mutex::default() });
        let asker = Asker {
            client,
            admin: None,
            config: config.client(),
            shared: Arc::downgrade(&shared),
            health: health.clone(),
            pending: Vec::new(),
            refreshed: Instant::now(),
            created: HashSet::new(),
            max_created: config.max_created_topics,
        };
        let thread = std::thread::Builder::new()
            .name("topics".into())
            .spawn(move || asker.run(&wanted))
            .map_err(|error| KafkaError::ClientCreation(format!("no thread: {error}")))?;
        *shared.thread.lock().unwrap_or_else(PoisonError::into_inner) = Some(thread);
        Ok(Self { shared, wishes, health })
    }

    /// The topic of this name, looked for in Kafka if nobody has asked for it yet.
    pub(super) fn topic(&self, name: &TopicName, create: Option<CreateTopic>) -> Arc<Topic> {
        let mut topics = self.shared.topics.lock().unwrap_or_else(PoisonError::into_inner);
        let topic = topics.entry(name.clone()).or_insert_with(|| {
            Arc::new(Topic {
                name: name.clone(),
                create: ArcSwapOption::from(create.map(Arc::new)),
                leaders: ArcSwap::default(),
                asked: AtomicBool::new(false),
                looks: AtomicU64::new(0),
                trouble: Mutex::default(),
                counts: TopicCounts::default(),
            })
        });
        let topic = topic.clone();
        drop(topics);
        self.ask(&topic);
        topic
    }

    /// Asks again, where the queue was full before.
    pub(super) fn ask(&self, topic: &Arc<Topic>) {
        if !topic.asked.swap(true, Ordering::AcqRel) && self.wishes.try_send(topic.clone()).is_err() {
            topic.asked.store(false, Ordering::Release);
        }
    }

    /// Looks for a topic again that may not be what it was.
    pub(super) fn look_again(&self, topic: &Arc<Topic>) {
        topic.asked.store(false, Ordering::Release);
        self.ask(topic);
    }

    /// Writes `waker`, an eventfd, whenever something was found.
    pub(super) fn wake(&self, waker: &Arc<OwnedFd>) {
        self.shared.wakers.lock().unwrap_or_else(PoisonError::into_inner).push(Arc::downgrade(waker));
    }

    /// What is known of the connection to Kafka.
    pub fn health(&self) -> &Arc<Health> {
        &self.health
    }

    /// Every topic's state, by name.
    pub fn report(&self) -> Vec<TopicReport> {
        let topics = self.shared.topics.lock().unwrap_or_else(PoisonError::into_inner);
        let mut reports: Vec<_> = topics.values().map(|topic| topic.report()).collect();
        drop(topics);
        reports.sort_by(|one, other| one.topic.cmp(&other.topic));
        reports
    }
}

/// The thread's side.
struct Asker {
    client: BaseProducer<Context>,
    admin: Option<AdminClient<Context>>,
    config: ClientConfig,
    shared: Weak<Shared>,
    health: Arc<Health>,
    pending: Vec<Arc<Topic>>,
    refreshed: Instant,
    created: HashSet<TopicName>,
    max_created: usize,
}

/// What a look for a topic came to.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Found {
    /// Every partition with its leader.
    Whole,
    /// Something new, but a partition has no leader.
    Part,
    /// No more than was known.
    Nothing,
}

// === impl Asker ===

impl Asker {
    fn run(mut self, wanted: &Receiver<Arc<Topic>>) {
        loop {
            // Until Kafka was seen, and while topics are missing, the pause is short.
            let calm = self.pending.is_empty() && self.health.seen();
            let pause = if calm { REFRESH.saturating_sub(self.refreshed.elapsed()) } else { RETRY };
            match wanted.recv_timeout(pause.max(Duration::from_millis(1))) {
                Ok(topic) if self.pending.iter().any(|pending| Arc::ptr_eq(pending, &topic)) => {}
                Ok(topic) => self.pending.push(topic),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return,
            }
            for topic in wanted.try_iter() {
                // One that is looked for again may be looked for still.
                if self.pending.iter().all(|pending| !Arc::ptr_eq(pending, &topic)) {
                    self.pending.push(topic);
                }
            }
            self.client.poll(Duration::ZERO);
            if !self.health.seen() {
                self.look_for_kafka();
            }
            self.find_pending();
            if self.refreshed.elapsed() >= REFRESH {
                self.refresh();
            }
        }
    }

    fn look_for_kafka(&self) {
        // Asks for brokers alone: no topic comes into being by it.
        if self.client.client().fetch_cluster_id(ASK).is_some() {
            self.health.mark_seen();
        }
    }

    fn find_pending(&mut self) {
        let mut news = false;
        for topic in std::mem::take(&mut self.pending) {
            let found = self.find(&topic);
            news |= found != Found::Nothing;
            if found != Found::Whole && Arc::strong_count(&topic) > 1 {
                self.pending.push(topic);
            }
        }
        if news {
            self.wake();
        }
    }

    fn find(&mut self, topic: &Topic) -> Found {
        match self.look_up(topic.name.as_str(), topic.create.load().is_some()) {
            Ok(leaders) => {
                // Just created, some partitions have no leader yet; it must not be 30 s before they are used.
                let whole = leaders.iter().all(|leader| *leader >= 0);
                let news = **topic.leaders.load() != leaders;
                topic.found(leaders);
                match (whole, news) {
                    (true, _) => Found::Whole,
                    (false, true) => Found::Part,
                    (false, false) => Found::Nothing,
                }
            }
            Err(error) => {
                let code = error.rdkafka_error_code();
                let missing =
                    matches!(code, Some(RDKafkaErrorCode::UnknownTopicOrPartition | RDKafkaErrorCode::UnknownTopic));
                let failure = match code {
                    _ if missing => Failure::UnknownTopic,
                    Some(RDKafkaErrorCode::TopicAuthorizationFailed) => Failure::NotAuthorized,
                    _ => Failure::TimedOut,
                };
                topic.set_trouble(failure, error.to_string());
                if missing && let Some(create) = topic.create.load_full() {
                    self.create(topic, *create);
                }
                Found::Nothing
            }
        }
    }

    /// The leaders of a topic's partitions. Where the broker creates topics by itself, this makes it do so, unless we are
    /// to create it: it would come into being with the broker's counts, not the route's.
    fn look_up(&mut self, name: &str, is_ours_to_create: bool) -> Result<Vec<i32>, KafkaError> {
        let metadata = if is_ours_to_create {
            self.admin()?.inner().fetch_metadata(Some(name), ASK)?
        } else {
            self.client.client().fetch_metadata(Some(name), ASK)?
        };
        self.health.mark_seen();
        let topic = metadata.topics().iter().find(|topic| topic.name() == name);
        match topic.map(|topic| (topic.error(), topic.partitions())) {
            Some((Some(error), _)) => Err(KafkaError::MetadataFetch(error.into())),
            Some((None, partitions)) if !partitions.is_empty() => Ok(leaders(partitions)),
            _ => Err(KafkaError::MetadataFetch(RDKafkaErrorCode::UnknownTopicOrPartition)),
        }
    }

    /// A client that creates topics only where told to. Made when first needed: most clusters' topics are there.
    fn admin(&mut self) -> Result<&AdminClient<Context>, KafkaError> {
        match &mut self.admin {
            Some(admin) => Ok(admin),
            none => {
                let mut config = self.config.clone();
                config.set("allow.auto.create.topics", "false");
                Ok(none.insert(config.create_with_context(Context(self.health.clone()))?))
            }
        }
    }

    fn create(&mut self, topic: &Topic, create: CreateTopic) {
        if !self.created.contains(&topic.name) && self.created.len() >= self.max_created {
            let text = format!("not created: {} topics were, which is log.kafka.max_created_topics", self.max_created);
            topic.set_trouble(Failure::UnknownTopic, text);
            return;
        }
        let outcome = self.try_create(topic.name.as_str(), create);
        match outcome {
            Ok(()) => {
                self.created.insert(topic.name.clone());
                // It comes: a record that does not wait long enough for it is late, not lost.
                *topic.trouble.lock().unwrap_or_else(PoisonError::into_inner) = None;
                tracing::info!(topic = %topic.name, ?create, "topic created");
            }
            Err(text) => {
                tracing::warn!(topic = %topic.name, error = text, "topic not created");
                topic.set_trouble(Failure::UnknownTopic, text);
            }
        }
    }

    fn try_create(&mut self, name: &str, create: CreateTopic) -> Result<(), String> {
        let admin = self.admin().map_err(|error| error.to_string())?;
        let runtime = tokio::runtime::Builder::new_current_thread().build().map_err(|error| error.to_string())?;
        let topic = NewTopic::new(name, create.partitions, TopicReplication::Fixed(create.replication));
        let options = AdminOptions::new().operation_timeout(Some(ASK)).request_timeout(Some(ASK));
        let results = runtime.block_on(admin.create_topics([&topic], &options)).map_err(|error| error.to_string())?;
        match results.into_iter().next() {
            Some(Ok(_)) | Some(Err((_, RDKafkaErrorCode::TopicAlreadyExists))) => Ok(()),
            Some(Err((_, code))) => Err(code.to_string()),
            None => Err("Kafka did not say what became of it".into()),
        }
    }

    /// Partitions may be added, leaders move.
    fn refresh(&mut self) {
        self.refreshed = Instant::now();
        let Some(shared) = self.shared.upgrade() else { return };
        let topics: Vec<_> = shared.topics.lock().unwrap_or_else(PoisonError::into_inner).values().cloned().collect();
        drop(shared);
        if topics.is_empty() {
            return;
        }
        let Ok(metadata) = self.client.client().fetch_metadata(None, ASK) else { return };
        let by_name: HashMap<&str, Vec<i32>> = metadata
            .topics()
            .iter()
            .filter(|topic| topic.error().is_none() && !topic.partitions().is_empty())
            .map(|topic| (topic.name(), leaders(topic.partitions())))
            .collect();
        for topic in topics {
            if let Some(found) = by_name.get(topic.name.as_str()) {
                topic.found(found.clone());
            }
        }
        self.wake();
    }

    fn wake(&self) {
        let Some(shared) = self.shared.upgrade() else { return };
        shared.wakers.lock().unwrap_or_else(PoisonError::into_inner).retain(|waker| match waker.upgrade() {
            Some(waker) => {
                // A full counter is a wake-up as well.
                _ = rustix::io::write(&*waker, &1_u64.to_ne_bytes());
                true
            }
            None => false,
        });
    }
}

fn leaders(partitions: &[rdkafka::metadata::MetadataPartition]) -> Vec<i32> {
    let mut leaders = vec![-1; partitions.len()];
    for partition in partitions {
        if let Some(leader) = usize::try_from(partition.id()).ok().and_then(|id| leaders.get_mut(id)) {
            *leader = partition.leader();
        }
    }
    leaders
}
