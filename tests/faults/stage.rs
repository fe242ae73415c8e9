//! Plays a scenario on real processes.

use crate::bed::{Kafka, KafkaOptions, Reply, RespClient, Tidegate, WorkDir, consume, poll, unique, wait_until};
use crate::checker::{Found, Verdict, check};
use crate::client::{self, Shared};
use crate::fault::{Lane, Planned, Topic};
use crate::history::{Fate, History, Sent};
use crate::random::Random;
use crate::record::{self, Name};
use crate::scenario::Scenario;
use crate::shim::Shim;
use crate::support::Setup;
use std::collections::{BTreeMap, HashSet};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// How long all may take to go well again once every fault is over.
const RECOVERY: Duration = Duration::from_secs(40);

/// Longer than a broker's session, which is three seconds.
const SESSIONS: Duration = Duration::from_secs(5);

/// What a run came to.
pub(crate) struct Outcome {
    /// What the checker says.
    pub(crate) verdict: Verdict,
    /// What clients were told.
    pub(crate) history: History,
    /// The files of its directory stay if whoever has this panics.
    _tidegate: Tidegate,
    /// As well those of a Kafka of its own: what stands twice is explained by the batches that the brokers wrote.
    _kafka: Option<Lent>,
}

/// A Kafka for one run.
struct Lent {
    /// Present until it is given back.
    kafka: Option<Kafka>,
    /// Nothing of the run spoils it for another.
    stays_well: bool,
}

/// Single brokers that are well after a run. A start takes longer than most runs.
static WELL: Mutex<Vec<Kafka>> = Mutex::new(Vec::new());

/// Plays it. Panics where the bed fails; what Tidegate does wrong is in the verdict.
pub(crate) fn play(scenario: &Scenario) -> Outcome {
    let lent = Lent::to(scenario);
    let outcome = play_on(lent.kafka.as_ref().expect("not given back yet"), scenario);
    Outcome { _kafka: Some(lent), ..outcome }
}

/// Plays it on a Kafka that was started before.
pub(crate) fn play_on(kafka: &Kafka, scenario: &Scenario) -> Outcome {
    let stage = Stage::new(kafka, scenario);
    let directory = WorkDir::new("tidegate");
    let shim = Shim::new(&directory);
    let environment = shim.environment(&directory.path().join("spool"));
    let mut config = stage.setup.text();
    if let Some(lines) = &scenario.spool {
        config = format!("{config}[log.spool]\ndirectory = {:?}\n{lines}\n", directory.path().join("spool"));
    }
    let mut tidegate = Tidegate::spawn_in(directory, &config, environment);
    tidegate.wait_ready();
    let mut history = stage.warm_up(&tidegate);
    let pushed = stage.push_through_faults(&mut tidegate, &shim);
    history.sent.extend(pushed.sent);
    stage.verify(tidegate, History { closed: pushed.closed, ..history })
}

struct Stage<'a> {
    kafka: &'a Kafka,
    scenario: &'a Scenario,
    setup: Setup,
    topics: Vec<Topic>,
    /// The places of each topic's keys.
    keys: Vec<HashSet<u32>>,
    shared: Shared,
    causes: Mutex<BTreeMap<String, u64>>,
    deleted: Mutex<BTreeMap<usize, Instant>>,
    problems: Mutex<Vec<String>>,
}

impl Lent {
    fn to(scenario: &Scenario) -> Self {
        let alone = scenario.nodes == 1;
        let stays_well = alone && scenario.faults.iter().all(|planned| planned.fault.lane() != Lane::Kafka);
        let well = if alone { WELL.lock().unwrap().pop() } else { None };
        let kafka = well.unwrap_or_else(|| {
            // A deleted topic is created by the fault, and not by whoever asks for it first.
            let kafka =
                KafkaOptions::new().nodes(scenario.nodes).proxied().config("auto.create.topics.enable", "false");
            if alone { kafka.authorized() } else { kafka }.start()
        });
        Self { kafka: Some(kafka), stays_well }
    }
}

impl Drop for Lent {
    fn drop(&mut self) {
        if self.stays_well && !std::thread::panicking() {
            WELL.lock().unwrap().extend(self.kafka.take());
        }
    }
}

impl<'a> Stage<'a> {
    fn new(kafka: &'a Kafka, scenario: &'a Scenario) -> Self {
        let mut setup = Setup::new(&kafka.proxied_bootstrap())
            .log(&format!("memory_limit = \"{}MiB\"\nmax_frame_size = \"4MiB\"", scenario.memory))
            .log("shutdown_timeout_seconds = 6")
            .log(&scenario.log)
            .kafka(&scenario.kafka);
        if let Ok(facilities) = std::env::var("TIDEGATE_FAULT_DEBUG") {
            setup = setup.kafka(&format!("properties.debug = {facilities:?}"));
        }
        let replicas = i32::try_from(scenario.nodes).expect("a few");
        let mut topics = Vec::new();
        let mut keys = Vec::new();
        let mut names = Vec::new();
        for route in &scenario.routes {
            let name = unique("fault");
            kafka.create_topic(&name, route.partitions, replicas, &[]);
            setup = setup.route(&format!("key = \"{name}-*\"\ntopic = {name:?}\n{}", route.lines));
            let first = u32::try_from(names.len()).expect("a few");
            keys.push((first..first + route.keys).collect());
            names.extend((0..route.keys).map(|key| format!("{name}-{key}")));
            topics.push(Topic { name, partitions: route.partitions, replicas });
        }
        // The run's number tells its records from those of another one on the same Kafka.
        let run = scenario.seed << 32 | u64::from(std::process::id());
        let shared = Shared { run, keys: names, ..Shared::default() };
        Self {
            kafka,
            scenario,
            setup,
            topics,
            keys,
            shared,
            causes: Mutex::default(),
            deleted: Mutex::default(),
            problems: Mutex::default(),
        }
    }

    /// One record of each key: a broker that has just started gives out no producer id for a while.
    fn warm_up(&self, tidegate: &Tidegate) -> History {
        let mut client = RespClient::connect(tidegate.redis_addr());
        let mut life = 0;
        let mut history = History::default();
        for (place, key) in self.shared.keys.iter().enumerate() {
            let mut number = 0;
            wait_until(RECOVERY, "the first record", || {
                let key_place = u32::try_from(place).expect("a few");
                let name = Name { client: u32::MAX, life, key: key_place, number };
                number += 1;
                let value = record::write(self.shared.run, name, 0, &mut Random::new(number));
                let (_, checksum) = record::read(self.shared.run, &value).expect("a record just written");
                let at = Instant::now();
                client.send([b"LPUSH", key.as_bytes(), &value]);
                let fate = match client.try_read() {
                    Ok(Reply::Integer(_)) => Fate::Acknowledged(0),
                    Ok(reply) => Fate::Refused(reply.error().to_owned()),
                    // Some routes close the connection in place of an error.
                    Err(_) => {
                        client = RespClient::connect(tidegate.redis_addr());
                        life += 1;
                        Fate::Unknown
                    }
                };
                let acknowledged = fate == Fate::Acknowledged(0);
                history.sent.push(Sent { name, checksum, at, fate });
                acknowledged
            });
        }
        history
    }

    /// Runs the clients and the faults, until all is well again.
    fn push_through_faults(&self, tidegate: &mut Tidegate, shim: &Shim) -> History {
        let server = tidegate.redis_addr();
        let start = Instant::now();
        let progress: Vec<AtomicU64> = self.scenario.clients.iter().map(|_| AtomicU64::new(0)).collect();
        // A panic among the faults must not leave the clients pushing for ever.
        let stopped = StopsAtDrop(&self.shared.stop);
        std::thread::scope(|scope| {
            let clients: Vec<_> = self
                .scenario
                .clients
                .iter()
                .zip(&progress)
                .map(|(plan, progress)| scope.spawn(move || client::run(server, plan.clone(), &self.shared, progress)))
                .collect();
            std::thread::scope(|lanes| {
                let stopped = StopsAtDrop(&self.shared.stop);
                lanes.spawn(|| {
                    self.befall(Lane::Kafka, start, |planned, last| {
                        let back = planned.fault.befall_kafka(self.kafka, &self.topics, last);
                        if let (Some(back), crate::fault::Fault::RecreateTopic { topic }) = (back, &planned.fault) {
                            self.deleted.lock().unwrap().insert(*topic, back);
                        }
                    })
                });
                lanes.spawn(|| {
                    self.befall(Lane::Network, start, |planned, last| {
                        planned.fault.befall_network(self.kafka, last);
                    })
                });
                lanes.spawn(|| self.befall(Lane::Clock, start, |planned, last| planned.fault.befall_clock(shim, last)));
                lanes.spawn(|| self.befall(Lane::Disk, start, |planned, last| planned.fault.befall_disk(shim, last)));
                self.befall(Lane::Tidegate, start, |planned, last| {
                    planned.fault.befall_tidegate(tidegate, |metrics| self.note_causes(metrics), last);
                });
                std::mem::forget(stopped);
            });
            self.wait(start + self.scenario.lasts);
            (1..=self.kafka.nodes()).for_each(|node| self.kafka.proxy(node).heal());
            self.await_recovery(&progress);
            drop(stopped);
            let mut history = History::default();
            for client in clients {
                match client.join() {
                    Ok(sent) => history.sent.extend(sent),
                    Err(panic) => std::panic::resume_unwind(panic),
                }
            }
            history.closed = self.shared.closed.load(Ordering::Relaxed);
            history
        })
    }

    /// Brings about the faults of one lane, each at its time or after the one before it.
    fn befall(&self, lane: Lane, start: Instant, mut act: impl FnMut(&Planned, &mut dyn FnMut())) {
        for planned in self.scenario.faults.iter().filter(|planned| planned.fault.lane() == lane) {
            self.wait(start + planned.at);
            if self.shared.stop.load(Ordering::Relaxed) {
                return;
            }
            let began = Instant::now();
            act(planned, &mut || self.wait(Instant::now() + planned.lasts));
            // How long it takes back is the bed's: a broker that needs longer to start than replies are held explains what is refused.
            println!("  {:?} was over after {:.1} s", planned.fault, began.elapsed().as_secs_f64());
        }
    }

    /// Every client is served again.
    fn await_recovery(&self, progress: &[AtomicU64]) {
        let count = |progress: &AtomicU64| progress.load(Ordering::Relaxed);
        let before: Vec<u64> = progress.iter().map(count).collect();
        let served = || progress.iter().zip(&before).all(|(progress, before)| count(progress) > *before);
        if poll(RECOVERY, || served().then_some(())).is_none() {
            let idle: Vec<usize> =
                (0..progress.len()).filter(|&client| count(&progress[client]) <= before[client]).collect();
            self.problems.lock().unwrap().push(format!(
                "all faults are over for {} s, and clients {idle:?} get no acknowledgement",
                RECOVERY.as_secs()
            ));
        }
    }

    /// Adds up what Tidegate has counted in this life of its process.
    fn note_causes(&self, metrics: &BTreeMap<String, f64>) {
        let mut causes = self.causes.lock().unwrap();
        for (series, &count) in metrics {
            let cause = series.strip_prefix("tidegate_log_records_duplicated_total{cause=\"");
            if let Some(cause) = cause.and_then(|rest| rest.strip_suffix("\"}")) {
                #[expect(
                    clippy::cast_possible_truncation,
                    clippy::cast_sign_loss,
                    reason = "a counter of whole numbers"
                )]
                let count = count as u64;
                *causes.entry(cause.to_owned()).or_default() += count;
            }
        }
    }

    fn verify(self, mut tidegate: Tidegate, history: History) -> Outcome {
        if let Some(status) = tidegate.exited() {
            panic!("tidegate ended by itself: {status}\n{}", tidegate.log());
        }
        let settled = |tidegate: &Tidegate| {
            ["tidegate_log_in_flight_bytes", "tidegate_spool_records_left"]
                .iter()
                .all(|name| tidegate.metric(name) == 0.0)
        };
        wait_until(RECOVERY, "all to be settled", || settled(&tidegate));
        if self.kafka.nodes() > 1 {
            // Brokers that were away are counted out, and leaders move, up to a session's time after they are back.
            poll(SESSIONS, || None::<()>);
        }
        // The gauge of what is left in the spool is written now and then: it may say nothing yet. And a leader that is new
        // shows its last records only once it knows how far the others are. What is lost stays so.
        let mut found = self.found();
        let lost = |found: &[Found]| check(self.shared.run, &history, found, BTreeMap::new()).lost;
        let first = lost(&found);
        if first > 0 {
            poll(RECOVERY / 2, || {
                found = self.found();
                (lost(&found) == 0).then_some(())
            });
            println!("{first} acknowledged records were not to be seen at first, {} later", lost(&found));
        }
        self.note_causes(&tidegate.metrics());
        let mut verdict = check(self.shared.run, &history, &found, self.causes.into_inner().unwrap());
        verdict.problems.extend(self.problems.into_inner().unwrap());
        let (peak, limit) = (tidegate.peak_rss_bytes(), (self.scenario.memory << 20) + self.scenario.beside());
        if peak > limit {
            verdict.problems.push(format!("{} MiB were resident, more than {}", peak >> 20, limit >> 20));
        }
        Outcome { verdict, history, _tidegate: tidegate, _kafka: None }
    }

    /// What the topics hold now.
    fn found(&self) -> Vec<Found> {
        let deleted = self.deleted.lock().unwrap();
        let found = self.topics.iter().zip(&self.keys).enumerate().map(|(place, (topic, keys))| Found {
            keys: keys.clone(),
            deleted: deleted.get(&place).copied(),
            scatters: self.scenario.routes[place].lines.contains("partition_by = \"none\""),
            records: consume(&self.kafka.bootstrap(), &topic.name),
        });
        found.collect()
    }

    fn wait(&self, until: Instant) {
        poll(until.saturating_duration_since(Instant::now()), || {
            self.shared.stop.load(Ordering::Relaxed).then_some(())
        });
    }
}

struct StopsAtDrop<'a>(&'a AtomicBool);

impl Drop for StopsAtDrop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}
