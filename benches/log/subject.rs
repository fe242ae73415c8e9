//! The servers under test, and one measurement of one of them.

use crate::bed::{RedisServer, RespClient, Tidegate, free_port, poll};
use crate::client::{Client, Load, Outcome};
use crate::system::{self, Pinning};
use crate::wire::Access;
use rdkafka::config::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use std::net::SocketAddr;
use std::time::Duration;

/// A key, the topic that it is routed to, and when Tidegate acknowledges.
pub(crate) struct Route {
    pub(crate) topic: &'static str,
    pub(crate) partitions: i32,
    pub(crate) acknowledge: &'static str,
}

/// All routes of a bench; the key of each is its topic's name.
pub(crate) const ROUTES: [Route; 5] = [
    Route { topic: "bench-1", partitions: 1, acknowledge: "kafka" },
    Route { topic: "bench-4", partitions: 4, acknowledge: "kafka" },
    Route { topic: "bench-e", partitions: 1, acknowledge: "enqueue" },
    Route { topic: "bench-s1", partitions: 1, acknowledge: "spool" },
    Route { topic: "bench-s4", partitions: 4, acknowledge: "spool" },
];

/// Starts Tidegate, pinned, over this Kafka.
pub(crate) fn tidegate(bootstrap: &str, compression: &str, threads: usize, pinning: Pinning) -> Tidegate {
    tidegate_with(bootstrap, compression, threads, pinning, "", "")
}

/// As [`tidegate`], with a spool in its own directory.
pub(crate) fn tidegate_with_spool(bootstrap: &str, pinning: Pinning) -> Tidegate {
    tidegate_with(bootstrap, "none", 1, pinning, "", SPOOL)
}

/// As [`tidegate`], with further lines of `[log]`, and sections.
pub(crate) fn tidegate_with(
    bootstrap: &str,
    compression: &str,
    threads: usize,
    pinning: Pinning,
    lines: &str,
    sections: &str,
) -> Tidegate {
    let tidegate = Tidegate::start(&config(bootstrap, compression, threads, lines, sections));
    pinning.place(tidegate.pid(), threads > 1);
    tidegate
}

/// A configuration with a spool, for a Kafka that may be away.
pub(crate) fn config_with_spool(bootstrap: &str) -> String {
    config(bootstrap, "none", 1, "", SPOOL)
}

const SPOOL: &str = "[log.spool]\ndirectory = \"spool\"\n";

fn config(bootstrap: &str, compression: &str, threads: usize, lines: &str, sections: &str) -> String {
    let routes: String = ROUTES
        .iter()
        .filter(|route| route.acknowledge != "spool" || sections.contains("[log.spool]"))
        .map(|Route { topic, acknowledge, .. }| {
            format!("[[log.route]]\nkey = \"{topic}\"\ntopic = \"{topic}\"\nacknowledge = \"{acknowledge}\"\n")
        })
        .collect();
    let brokers = bootstrap.replace(',', "\", \"");
    format!(
        "[admin]\nlisten = \"127.0.0.1:{}\"\n[log]\nlisten = [\"127.0.0.1:{}\"]\nthreads = {threads}\n{lines}\n\
         [log.kafka]\nbrokers = [\"{brokers}\"]\ncompression = \"{compression}\"\n{sections}{routes}",
        free_port(),
        free_port(),
    )
}

/// Starts redis-server, pinned, without persistence.
pub(crate) fn redis(pinning: Pinning) -> RedisServer {
    redis_with(pinning, &[])
}

/// As [`redis`], with further arguments.
pub(crate) fn redis_with(pinning: Pinning, args: &[&str]) -> RedisServer {
    let mut redis = RedisServer::start_with(args);
    pinning.place(redis.process().id(), false);
    redis
}

/// What is measured: a process, and a key that is pushed to.
pub(crate) struct Subject<'a> {
    pub(crate) name: String,
    /// Where it is asked, and where the load goes.
    address: SocketAddr,
    load_address: SocketAddr,
    access: Access,
    pid: u32,
    key: &'static str,
    place: Place<'a>,
}

/// Where the records go.
enum Place<'a> {
    List,
    Topic { tidegate: &'a Tidegate, kafka: &'a BaseConsumer, route: &'static Route },
}

/// The figures of one run.
#[derive(Clone, Copy, Default)]
pub(crate) struct Figures {
    /// Records a second.
    pub(crate) rate: f64,
    /// Processor time of the process a record, in µs.
    pub(crate) cpu: f64,
    /// In ms.
    pub(crate) p50: f64,
    pub(crate) p99: f64,
    pub(crate) p999: f64,
    /// Records a batch; 0 for redis-server.
    pub(crate) batch: f64,
}

/// A client that can be asked for end offsets.
pub(crate) fn offsets(bootstrap: &str) -> BaseConsumer {
    ClientConfig::new().set("bootstrap.servers", bootstrap).create().unwrap()
}

/// How many records have come to a topic.
pub(crate) fn topic_end(kafka: &BaseConsumer, topic: &str, partitions: i32) -> u64 {
    let end = |partition| {
        let (_, end) = kafka.fetch_watermarks(topic, partition, Duration::from_secs(10)).unwrap();
        u64::try_from(end).unwrap()
    };
    (0..partitions).map(end).sum()
}

// === impl Subject ===

impl<'a> Subject<'a> {
    pub(crate) fn redis(redis: &mut RedisServer) -> Self {
        let (address, pid) = (redis.address(), redis.process().id());
        let (name, access) = ("redis-server".to_owned(), Access::default());
        Self { name, address, load_address: address, access, pid, key: ROUTES[0].topic, place: Place::List }
    }

    /// As [`Subject::redis`], by another name.
    pub(crate) fn redis_as(name: &str, redis: &mut RedisServer) -> Self {
        Self { name: name.to_owned(), ..Self::redis(redis) }
    }

    /// Tidegate into the topic of `ROUTES[route]`.
    pub(crate) fn tidegate(name: &str, tidegate: &'a Tidegate, kafka: &'a BaseConsumer, route: usize) -> Self {
        let route = &ROUTES[route];
        Self {
            name: name.to_owned(),
            address: tidegate.redis_addr(),
            load_address: tidegate.redis_addr(),
            access: Access::default(),
            pid: tidegate.pid(),
            key: route.topic,
            place: Place::Topic { tidegate, kafka, route },
        }
    }

    /// The load of this subject comes in here and like this.
    pub(crate) fn by(mut self, name: &str, address: SocketAddr, access: Access) -> Self {
        name.clone_into(&mut self.name);
        (self.load_address, self.access) = (address, access);
        self
    }

    /// One run. Ends the bench if a reply is an error or a record has not arrived.
    pub(crate) fn measure(&self, load: Load) -> Figures {
        let client = Client::connect(self.load_address, &self.access, self.key, load);
        let client = client.unwrap_or_else(|e| panic!("{}: {e}", self.name));
        let (stored, [delivered, batched, batches]) = (self.stored(), self.counters());
        let cpu = system::cpu_time(self.pid);
        let Outcome { records, elapsed, latencies } = client.run().unwrap_or_else(|e| panic!("{}: {e}", self.name));
        // With `enqueue` replies run ahead of Kafka; what is left to do belongs to the cost.
        let arrived = poll(Duration::from_secs(20), || (self.stored() == stored + records).then_some(()));
        let cpu = system::cpu_time(self.pid) - cpu;
        assert!(arrived.is_some(), "{}: of {records} records {} arrived", self.name, self.stored() - stored);
        // Kafka has the last records a little before Tidegate hears of it.
        let mut after = self.counters();
        let counted = poll(Duration::from_secs(5), || {
            after = self.counters();
            (!self.is_tidegate() || after[0] - delivered == records as f64).then_some(())
        });
        assert!(counted.is_some(), "{}: of {records} records {} were counted", self.name, after[0] - delivered);
        self.forget();
        let quantile = |share| latencies.quantile(share).as_secs_f64() * 1e3;
        Figures {
            rate: records as f64 / elapsed.as_secs_f64(),
            cpu: cpu.as_secs_f64() * 1e6 / records as f64,
            p50: quantile(0.5),
            p99: quantile(0.99),
            p999: quantile(0.999),
            batch: (after[1] - batched) / (after[2] - batches).max(1.0),
        }
    }

    fn is_tidegate(&self) -> bool {
        matches!(self.place, Place::Topic { .. })
    }

    /// How many records the list, or the topic by its end offsets, has.
    fn stored(&self) -> u64 {
        match &self.place {
            Place::List => {
                u64::try_from(RespClient::connect(self.address).command(["LLEN", self.key]).integer()).unwrap()
            }
            Place::Topic { kafka, route, .. } => topic_end(kafka, route.topic, route.partitions),
        }
    }

    /// Records delivered, records in batches, batches.
    fn counters(&self) -> [f64; 3] {
        let Place::Topic { tidegate, .. } = &self.place else { return [0.0; 3] };
        let metrics = tidegate.metrics();
        let sum =
            |name: &str| metrics.iter().filter(|(series, _)| series.starts_with(name)).map(|(_, value)| value).sum();
        ["tidegate_log_records_delivered_total", "tidegate_log_batch_records_sum", "tidegate_log_batch_records_count"]
            .map(sum)
    }

    /// Empties the list: it must not eat the memory.
    fn forget(&self) {
        if let Place::List = self.place {
            RespClient::connect(self.address).command(["DEL", self.key]).integer();
        }
    }
}

/// Measures all subjects in turn, A B A B, and gives the median of each figure for each.
pub(crate) fn alternate(subjects: &[Subject<'_>], load: Load, rounds: usize) -> Vec<Figures> {
    let mut runs: Vec<Vec<Figures>> = subjects.iter().map(|_| Vec::new()).collect();
    for _ in 0..rounds {
        for (subject, runs) in subjects.iter().zip(&mut runs) {
            runs.push(subject.measure(load));
        }
    }
    runs.iter().map(|runs| Figures::median(runs)).collect()
}

// === impl Figures ===

impl Figures {
    /// The median of each figure of several runs.
    pub(crate) fn median(runs: &[Self]) -> Self {
        let of = |figure: fn(&Self) -> f64| {
            let mut values: Vec<f64> = runs.iter().map(figure).collect();
            values.sort_by(f64::total_cmp);
            values[values.len() / 2]
        };
        Self {
            rate: of(|run| run.rate),
            cpu: of(|run| run.cpu),
            p50: of(|run| run.p50),
            p99: of(|run| run.p99),
            p999: of(|run| run.p999),
            batch: of(|run| run.batch),
        }
    }
}
