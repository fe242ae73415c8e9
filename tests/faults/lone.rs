//! One Tidegate with a spool, and one client that pushes one record after the other: for steps that are counted.

use crate::bed::{Consumed, Kafka, Reply, RespClient, Tidegate, WorkDir, consume, free_port, poll, unique, wait_until};
use crate::checker::{Found, Verdict, check};
use crate::history::{Fate, History, Sent};
use crate::random::Random;
use crate::record::{self, Name};
use crate::shim::Shim;
use crate::support::Setup;
use std::collections::{BTreeMap, HashSet};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// For whatever should come soon, on a machine that is busy with other tests.
pub(crate) const SOON: Duration = Duration::from_secs(60);
/// Stands in the configuration for the brokers.
const BROKERS: &str = "brokers.invalid:1";

/// Whether Tidegate can reach Kafka.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum KafkaIs {
    There,
    Away,
}

/// The process was killed, or ended itself, while something was asked of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Dead;

/// One Tidegate, its disk and its client.
pub(crate) struct Lone<'a> {
    kafka: &'a Kafka,
    topic: String,
    config: String,
    spool: PathBuf,
    pub(crate) shim: Shim,
    pub(crate) tidegate: Tidegate,
    run: u64,
    life: u32,
    client: Option<RespClient>,
    history: History,
    causes: BTreeMap<String, u64>,
}

impl<'a> Lone<'a> {
    /// Makes the files and starts the process. `route` and `spool` are further lines of these sections; `prepare` is
    /// called with the spool's directory and the shim before the start.
    pub(crate) fn spawn(
        kafka: &'a Kafka,
        kafka_is: KafkaIs,
        route: &str,
        spool: &str,
        prepare: impl FnOnce(&Path, &Shim),
    ) -> Self {
        let topic = unique("lone");
        kafka.create_topic(&topic, 1, 1, &[]);
        let directory = WorkDir::new("lone");
        let spool_directory = directory.path().join("spool");
        let setup = Setup::new(BROKERS).log("shutdown_timeout_seconds = 10\nthreads = 1");
        let setup = setup.route(&format!("key = {topic:?}\ntopic = {topic:?}\n{route}"));
        let config = format!("{}[log.spool]\ndirectory = {spool_directory:?}\n{spool}\n", setup.text());
        let shim = Shim::new(&directory);
        prepare(&spool_directory, &shim);
        let environment = shim.environment(&spool_directory);
        let tidegate = Tidegate::spawn_in(directory, &with_brokers(&config, kafka, kafka_is), environment);
        Self {
            kafka,
            topic,
            config,
            spool: spool_directory,
            shim,
            tidegate,
            run: u64::from(std::process::id()),
            life: 0,
            client: None,
            history: History::default(),
            causes: BTreeMap::new(),
        }
    }

    /// The spool's directory.
    pub(crate) fn spool(&self) -> &Path {
        &self.spool
    }

    /// Pushes a record and says whether it was acknowledged.
    pub(crate) fn push(&mut self, size: usize) -> Result<bool, Dead> {
        let name = Name { client: 0, life: self.life, key: 0, number: self.history.sent.len() as u64 };
        let value = record::write(self.run, name, size, &mut Random::new(name.number));
        let (_, checksum) = record::read(self.run, &value).expect("a record just written");
        self.connect()?;
        self.history.sent.push(Sent { name, checksum, at: Instant::now(), fate: Fate::Unknown });
        let Some(client) = &mut self.client else { return Err(Dead) };
        let bytes = crate::bed::resp::encode([b"LPUSH", self.topic.as_bytes(), &value]);
        let reply: io::Result<Reply> = client.try_send_raw(&bytes).and_then(|()| client.try_read());
        let Ok(reply) = reply else {
            self.client = None;
            return Err(Dead);
        };
        let place = self.history.sent.len() as u64;
        let fate = match reply {
            Reply::Integer(_) => Fate::Acknowledged(place),
            reply => Fate::Refused(reply.error().to_owned()),
        };
        let acknowledged = matches!(fate, Fate::Acknowledged(_));
        self.history.sent.last_mut().expect("one just pushed").fate = fate;
        Ok(acknowledged)
    }

    /// The error of the last record, if it was refused.
    pub(crate) fn last_error(&self) -> Option<&str> {
        match &self.history.sent.last()?.fate {
            Fate::Refused(text) => Some(text),
            _ => None,
        }
    }

    fn connect(&mut self) -> Result<(), Dead> {
        if self.client.is_none() {
            let address = self.tidegate.redis_addr();
            let tidegate = &mut self.tidegate;
            let connected = poll(SOON, || match RespClient::try_connect(address) {
                Ok(client) => Some(Ok(client)),
                Err(_) => tidegate.exited().map(|_| Err(Dead)),
            });
            let mut client = connected.expect("a connection, or the process's end")?;
            client.set_deadline(SOON);
            self.client = Some(client);
            self.life += 1;
        }
        Ok(())
    }

    /// Waits until Kafka has all that was acknowledged. The gauge of what is left is written now and then: it may say
    /// nothing yet.
    pub(crate) fn drain(&mut self) -> Result<(), Dead> {
        let end = Instant::now() + SOON / 2;
        // What is still missing then is the verdict's to tell.
        self.until(|lone| {
            lone.metric("tidegate_spool_records_left") == Some(0.0) && lone.verify().lost == 0 || Instant::now() > end
        })
    }

    /// Waits until this holds, or the process is dead.
    pub(crate) fn until(&mut self, mut holds: impl FnMut(&Self) -> bool) -> Result<(), Dead> {
        let mut outcome = Ok(());
        wait_until(SOON, "something of a lone Tidegate", || {
            if self.tidegate.exited().is_some() {
                outcome = Err(Dead);
                return true;
            }
            holds(self)
        });
        outcome
    }

    /// A metric's sum, if the process answers.
    pub(crate) fn metric(&self, name: &str) -> Option<f64> {
        let text = crate::bed::http::get(self.tidegate.admin_addr(), "/metrics").ok()?.text();
        let metrics = crate::bed::tidegate::parse_metrics(&text);
        let of = |series: &str| series.strip_prefix(name).is_some_and(|rest| rest.is_empty() || rest.starts_with('{'));
        let values: Vec<f64> = metrics.iter().filter(|(series, _)| of(series)).map(|(_, value)| *value).collect();
        (!values.is_empty()).then(|| values.iter().sum())
    }

    /// Asks it to end; it may be killed meanwhile.
    pub(crate) fn end(&mut self) -> Result<(), Dead> {
        self.client = None;
        let (status, metrics) = self.tidegate.end(SOON);
        self.note_causes(metrics);
        if status.success() { Ok(()) } else { Err(Dead) }
    }

    /// Starts it again.
    pub(crate) fn restart(&mut self, kafka_is: KafkaIs) {
        self.client = None;
        let config = with_brokers(&self.config, self.kafka, kafka_is);
        fs::write(self.tidegate.directory().join("tidegate.toml"), config).expect("the configuration");
        self.tidegate.relaunch();
    }

    fn note_causes(&mut self, metrics: BTreeMap<String, f64>) {
        for (series, count) in metrics {
            if series.starts_with("tidegate_log_records_duplicated_total") {
                #[expect(
                    clippy::cast_possible_truncation,
                    clippy::cast_sign_loss,
                    reason = "a counter of whole numbers"
                )]
                let count = count as u64;
                *self.causes.entry(series).or_default() += count;
            }
        }
    }

    /// What Kafka has now.
    pub(crate) fn consumed(&self) -> Vec<Consumed> {
        consume(&self.kafka.bootstrap(), &self.topic)
    }

    /// Compares with what Kafka has now.
    pub(crate) fn verify(&self) -> Verdict {
        let found = Found { keys: HashSet::from([0]), deleted: None, scatters: false, records: self.consumed() };
        check(self.run, &self.history, &[found], self.causes.clone())
    }
}

fn with_brokers(config: &str, kafka: &Kafka, kafka_is: KafkaIs) -> String {
    let address = match kafka_is {
        KafkaIs::There => kafka.bootstrap(),
        KafkaIs::Away => format!("127.0.0.1:{}", free_port()),
    };
    config.replace(BROKERS, &address)
}
