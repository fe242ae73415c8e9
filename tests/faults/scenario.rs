//! What a run consists of, drawn from a seed or put together by a test.

use crate::bed::Direction;
use crate::client::Plan;
use crate::fault::{Fault, Lane, Planned};
use crate::random::Random;
use std::fmt;
use std::time::Duration;

/// A topic, its route and what the route asks for.
#[derive(Clone, Debug)]
pub(crate) struct Route {
    /// Partitions of the topic.
    pub(crate) partitions: i32,
    /// Lines of the route's section beside key and topic.
    pub(crate) lines: String,
    /// How many keys it has.
    pub(crate) keys: u32,
}

/// A run before it is played.
#[derive(Clone, Debug)]
pub(crate) struct Scenario {
    /// Where it was drawn from, or any number.
    pub(crate) seed: u64,
    /// Brokers.
    pub(crate) nodes: usize,
    /// Routes, each with a topic.
    pub(crate) routes: Vec<Route>,
    /// Lines of `[log.spool]` beside its directory; `None`: there is none.
    pub(crate) spool: Option<String>,
    /// The limit on unacknowledged records, in MiB.
    pub(crate) memory: u64,
    /// Further lines of `[log]`.
    pub(crate) log: String,
    /// Lines of `[log.kafka]`.
    pub(crate) kafka: String,
    /// Clients; their keys are numbered over all routes.
    pub(crate) clients: Vec<Plan>,
    /// Faults, in order of time.
    pub(crate) faults: Vec<Planned>,
    /// How long clients push at least; they go on until every fault is over.
    pub(crate) lasts: Duration,
}

const MILLI: Duration = Duration::from_millis(1);

impl Scenario {
    /// One topic with two partitions, four clients of different kinds, no fault. Replies are held for so long.
    pub(crate) fn quiet(nodes: usize, hold: Duration) -> Self {
        let mut random = Random::new(1);
        let lines = format!("hold_ms = {}", hold.as_millis());
        let clients =
            [(1, 200), (1, 1000), (4, 1000), (16, 6000)].into_iter().zip(0..).map(|((depth, size), client)| {
                let plan = plan(&mut random, client, vec![0, 1]);
                Plan { depth, size, pause: MILLI * 10, ..plan }
            });
        let clients = clients.collect();
        Self {
            seed: 0,
            nodes,
            routes: vec![Route { partitions: 2, lines, keys: 2 }],
            spool: None,
            memory: 64,
            log: String::new(),
            kafka: String::new(),
            clients,
            faults: Vec::new(),
            lasts: Duration::from_secs(2),
        }
    }

    /// Adds a fault.
    pub(crate) fn with(mut self, at: u64, lasts: u64, fault: Fault) -> Self {
        self.faults.push(Planned { at: MILLI * narrow(at), lasts: MILLI * narrow(lasts), fault });
        self
    }

    /// Adds a spool, and these lines to each route.
    pub(crate) fn spooled(mut self, lines: &str) -> Self {
        self.spool = Some("spool_after_ms = 200".to_owned());
        self.routes.iter_mut().for_each(|route| route.lines = format!("{}\n{lines}", route.lines));
        self
    }

    /// What Tidegate may take beside the limit on records, in bytes: its code and connections, librdkafka's buffers, and
    /// with a spool what waits for the disk and what is being replayed.
    pub(crate) fn beside(&self) -> u64 {
        if self.spool.is_some() { 160 << 20 } else { 64 << 20 }
    }

    /// The scenario of this seed.
    pub(crate) fn draw(seed: u64) -> Self {
        let mut random = Random::new(seed);
        let nodes = if random.percent(30) { 3 } else { 1 };
        let mut shape = random.part(1);
        let has_spool = shape.percent(60);
        let spool = has_spool.then(|| format!("spool_after_ms = {}", shape.pick(&[50, 300, 1000])));
        let routes: Vec<Route> = (0..shape.count(1..=3)).map(|_| route(&mut shape, has_spool)).collect();
        let keys: u32 = routes.iter().map(|route| route.keys).sum();
        let mut load = random.part(2);
        let clients = (0..u32::try_from(load.within(4..=16)).expect("a few"))
            .map(|client| {
                let own = (0..load.count(1..=3)).map(|_| narrow(load.within(0..=u64::from(keys) - 1))).collect();
                plan(&mut load, client, own)
            })
            .collect();
        let mut faults = faults(&mut random.part(3), nodes, &routes, has_spool);
        faults.sort_by_key(|planned| planned.at);
        Self {
            seed,
            nodes,
            routes,
            spool,
            memory: *shape.pick(&[8, 32, 64]),
            log: format!("threads = {}\n", shape.within(1..=2)),
            kafka: format!("compression = {:?}\n", shape.pick(&["none", "lz4", "zstd"])),
            clients,
            faults,
            lasts: Duration::from_secs(7),
        }
    }
}

fn route(random: &mut Random, has_spool: bool) -> Route {
    let partition_by = random.pick(&["none", "connection", "key"]);
    let on_refusal = if random.percent(20) { "close" } else { "error" };
    let hold = random.pick(&[500, 1500, 4000]);
    let acknowledge = if has_spool && random.percent(40) { "spool" } else { "kafka" };
    Route {
        partitions: i32::try_from(random.within(1..=4)).expect("a few"),
        lines: format!(
            "partition_by = {partition_by:?}\non_refusal = {on_refusal:?}\nhold_ms = {hold}\nacknowledge = {acknowledge:?}"
        ),
        keys: narrow(random.within(1..=3)),
    }
}

fn plan(random: &mut Random, client: u32, keys: Vec<u32>) -> Plan {
    Plan {
        client,
        random: random.part(u64::from(client) + 100),
        keys,
        depth: *random.pick(&[1, 1, 4, 16, 48]),
        size: *random.pick(&[200, 1000, 6000]),
        pause: MILLI * narrow(random.within(2..=40)),
    }
}

/// Some faults of each lane, one after the other within the lane.
fn faults(random: &mut Random, nodes: usize, routes: &[Route], has_spool: bool) -> Vec<Planned> {
    let mut all = Vec::new();
    // Lanes that take part, each with its chance.
    let disk = if has_spool { 40 } else { 0 };
    let lanes = [(Lane::Kafka, 75), (Lane::Network, 50), (Lane::Tidegate, 50), (Lane::Clock, 20), (Lane::Disk, disk)];
    for (lane, chance) in lanes {
        let mut random = random.part(lane as u64);
        if !random.percent(chance) {
            continue;
        }
        let mut at = random.within(300..=1500);
        while at < 6000 {
            let fault = fault(&mut random, lane, nodes, routes.len());
            let lasts = if fault.is_instant() { 0 } else { random.within(50..=4500) };
            let planned = Planned { at: MILLI * narrow(at), lasts: MILLI * narrow(lasts), fault };
            all.push(planned);
            at += lasts + random.within(400..=2500);
        }
    }
    all
}

fn fault(random: &mut Random, lane: Lane, nodes: usize, topics: usize) -> Fault {
    let node = random.count(1..=nodes);
    let topic = random.count(0..=topics - 1);
    let direction = *random.pick(&[Direction::ToServer, Direction::ToClient]);
    match lane {
        Lane::Kafka if nodes > 1 => match random.within(0..=9) {
            0 | 1 => Fault::KillBroker { node },
            2 => Fault::FreezeBroker { node },
            3 => Fault::RestartBroker { node },
            4 | 5 => Fault::MoveLeaders { topic },
            6 => Fault::TooFewReplicas { topic, node },
            7 => Fault::FreezeMost,
            8 => Fault::RecreateTopic { topic },
            _ => Fault::SmallBatches { topic },
        },
        Lane::Kafka => match random.within(0..=7) {
            0 | 1 => Fault::KillBroker { node },
            2 | 3 => Fault::FreezeBroker { node },
            4 => Fault::RestartBroker { node },
            5 => Fault::RecreateTopic { topic },
            6 => Fault::RevokeRight { topic },
            _ => Fault::SmallBatches { topic },
        },
        Lane::Network => match random.within(0..=6) {
            0 => Fault::Cut { node },
            1 | 2 => Fault::CutWithin { node, direction, bytes: random.count(0..=5000) },
            3 => Fault::Unreachable { node },
            4 => Fault::Latency { node, added: MILLI * narrow(random.within(20..=700)) },
            5 => Fault::OneWayLoss { node, direction },
            _ => Fault::Stall { node, direction },
        },
        Lane::Tidegate => match random.within(0..=5) {
            0 | 1 => Fault::FreezeTidegate,
            2 => Fault::EndTidegate,
            3 | 4 => Fault::KillTidegate,
            _ => Fault::NoFiles,
        },
        Lane::Disk => match random.within(0..=5) {
            0 | 1 => Fault::DiskFull,
            2 => Fault::WritesFail { times: random.within(1..=30) },
            3 => Fault::SyncsFail { times: random.within(1..=30) },
            4 => Fault::ReadOnly,
            _ => Fault::ShortWrites,
        },
        Lane::Clock => {
            let size = i64::try_from(random.within(1..=100_000)).expect("a day");
            Fault::ClockJump { seconds: if random.percent(50) { size } else { -size } }
        }
    }
}

fn narrow(number: u64) -> u32 {
    u32::try_from(number).expect("a small number")
}

impl fmt::Display for Scenario {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let spool = self.spool.as_deref().unwrap_or("none");
        writeln!(f, "{} broker(s), {} clients, {} MiB, spool: {spool}", self.nodes, self.clients.len(), self.memory)?;
        for route in &self.routes {
            let lines = route.lines.replace('\n', ", ");
            writeln!(f, "  topic of {} partitions and {} keys: {lines}", route.partitions, route.keys)?;
        }
        for client in &self.clients {
            let Plan { client, keys, depth, size, pause, .. } = client;
            writeln!(
                f,
                "  client {client}: keys {keys:?}, {depth} at a time, records to {size} bytes, pauses {pause:?}"
            )?;
        }
        self.faults.iter().try_for_each(|planned| writeln!(f, "  {planned}"))
    }
}

#[test]
fn a_seed_draws_the_same_scenario_each_time_and_another_seed_another() {
    let text = |seed| Scenario::draw(seed).to_string();
    assert_eq!(text(4), text(4));
    assert_ne!(text(4), text(5));
}

#[test]
fn faults_of_one_lane_do_not_overlap() {
    for seed in 0..200 {
        let faults = Scenario::draw(seed).faults;
        for (place, one) in faults.iter().enumerate() {
            let next = faults[place + 1..].iter().find(|other| other.fault.lane() == one.fault.lane());
            assert!(next.is_none_or(|next| next.at >= one.at + one.lasts), "seed {seed}: {one} {next:?}");
        }
    }
}
