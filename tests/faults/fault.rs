//! The faults, and how each is brought about and taken back.

use crate::bed::{After, Direction, Kafka, Tidegate, admin, poll, wait_until};
use crate::shim::{ALL, Action, Kind, Shim};
use rustix::io::Errno;
use std::collections::BTreeMap;
use std::fmt;
use std::time::{Duration, Instant};

/// How long Tidegate may take to end when it is asked to, and to listen again.
const END: Duration = Duration::from_secs(20);

/// Something that goes wrong. Nodes and topics are numbered from 1 and 0.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Fault {
    /// The broker is killed, and starts again afterwards.
    KillBroker { node: usize },
    /// The broker stands still with its connections open, and goes on afterwards.
    FreezeBroker { node: usize },
    /// All brokers but the first stand still: the cluster loses its quorum.
    FreezeMost,
    /// The broker ends in order and starts again.
    RestartBroker { node: usize },
    /// Every partition of the topic gets another leader.
    MoveLeaders { topic: usize },
    /// Writing the topic needs every replica, and one broker is killed.
    TooFewReplicas { topic: usize, node: usize },
    /// The topic is deleted and created anew.
    RecreateTopic { topic: usize },
    /// The right to write the topic is revoked, and given back.
    RevokeRight { topic: usize },
    /// The broker takes only small batches for the topic.
    SmallBatches { topic: usize },
    /// All connections to the broker are reset.
    Cut { node: usize },
    /// All connections to the broker end after so many further bytes in this direction.
    CutWithin { node: usize, direction: Direction, bytes: usize },
    /// No connection to the broker: those there are end, new ones are refused.
    Unreachable { node: usize },
    /// Everything takes longer, both ways.
    Latency { node: usize, added: Duration },
    /// What goes in this direction is lost; connections stay open.
    OneWayLoss { node: usize, direction: Direction },
    /// What goes in this direction waits.
    Stall { node: usize, direction: Direction },
    /// Tidegate stands still, and goes on afterwards.
    FreezeTidegate,
    /// Tidegate is asked to end, and is started again.
    EndTidegate,
    /// Tidegate is killed, and is started again.
    KillTidegate,
    /// Tidegate cannot open files or connections.
    NoFiles,
    /// Tidegate's wall clock jumps.
    ClockJump { seconds: i64 },
    /// The spool's disk has no room.
    DiskFull,
    /// So many writes to it fail with EIO.
    WritesFail { times: u64 },
    /// So many syncs fail with EIO.
    SyncsFail { times: u64 },
    /// Nothing can be changed there.
    ReadOnly,
    /// Every write writes half.
    ShortWrites,
}

/// What a fault happens to. Two faults of one lane never overlap; those of different lanes do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Lane {
    /// Brokers and what they keep.
    Kafka,
    /// The way to the brokers.
    Network,
    /// The process under test.
    Tidegate,
    /// Its clock.
    Clock,
    /// The spool's disk.
    Disk,
}

/// A fault with its time.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Planned {
    /// When it comes, after the clients' start.
    pub(crate) at: Duration,
    /// How long it stays.
    pub(crate) lasts: Duration,
    /// What it is.
    pub(crate) fault: Fault,
}

/// A topic as faults need to know it.
#[derive(Clone, Debug)]
pub(crate) struct Topic {
    /// Its name in Kafka.
    pub(crate) name: String,
    /// How many partitions it has.
    pub(crate) partitions: i32,
    /// How many replicas each has.
    pub(crate) replicas: i32,
}

impl Fault {
    /// What it happens to.
    pub(crate) fn lane(&self) -> Lane {
        match self {
            Self::KillBroker { .. }
            | Self::FreezeBroker { .. }
            | Self::FreezeMost
            | Self::RestartBroker { .. }
            | Self::MoveLeaders { .. }
            | Self::TooFewReplicas { .. }
            | Self::RecreateTopic { .. }
            | Self::RevokeRight { .. }
            | Self::SmallBatches { .. } => Lane::Kafka,
            Self::Cut { .. }
            | Self::CutWithin { .. }
            | Self::Unreachable { .. }
            | Self::Latency { .. }
            | Self::OneWayLoss { .. }
            | Self::Stall { .. } => Lane::Network,
            Self::FreezeTidegate | Self::EndTidegate | Self::KillTidegate | Self::NoFiles => Lane::Tidegate,
            Self::ClockJump { .. } => Lane::Clock,
            Self::DiskFull | Self::WritesFail { .. } | Self::SyncsFail { .. } | Self::ReadOnly | Self::ShortWrites => {
                Lane::Disk
            }
        }
    }

    /// Whether it is over as soon as it has come.
    pub(crate) fn is_instant(&self) -> bool {
        matches!(
            self,
            Self::MoveLeaders { .. } | Self::RestartBroker { .. } | Self::Cut { .. } | Self::CutWithin { .. }
        )
    }

    /// Brings about a fault of Kafka's, lets it last, and takes it back. Says when a deleted topic was there again.
    pub(crate) fn befall_kafka(&self, kafka: &Kafka, topics: &[Topic], mut last: impl FnMut()) -> Option<Instant> {
        match *self {
            Self::KillBroker { node } => {
                kafka.kill9(node);
                last();
                kafka.restart(node);
            }
            Self::FreezeBroker { node } => {
                kafka.freeze(node);
                last();
                kafka.thaw(node);
            }
            Self::FreezeMost => {
                (2..=kafka.nodes()).for_each(|node| kafka.freeze(node));
                last();
                (2..=kafka.nodes()).for_each(|node| kafka.thaw(node));
            }
            Self::RestartBroker { node } => {
                kafka.stop_node(node);
                kafka.restart(node);
            }
            Self::MoveLeaders { topic } => {
                let Topic { name, partitions, .. } = &topics[topic];
                // Each try names another order of the replicas; a cluster that was just disturbed may not take the first.
                let mut first = 0;
                poll(Duration::from_secs(10), || {
                    first += 1;
                    kafka.move_leaders(name, *partitions, first).then_some(())
                });
            }
            Self::TooFewReplicas { topic, node } => {
                let Topic { name, replicas, .. } = &topics[topic];
                kafka.alter_topic(name, &[("min.insync.replicas", &replicas.to_string())]);
                kafka.kill9(node);
                last();
                kafka.restart(node);
                kafka.alter_topic(name, &[]);
            }
            Self::RecreateTopic { topic } => {
                let Topic { name, partitions, replicas } = &topics[topic];
                kafka.delete_topic(name);
                wait_until(END, "the topic to be gone", || admin::partitions(&kafka.bootstrap(), name) == 0);
                last();
                kafka.create_topic(name, *partitions, *replicas, &[]);
                return Some(Instant::now());
            }
            Self::RevokeRight { topic } => {
                kafka.deny_writing(&topics[topic].name);
                last();
                kafka.allow_writing(&topics[topic].name);
            }
            Self::SmallBatches { topic } => {
                kafka.alter_topic(&topics[topic].name, &[("max.message.bytes", "2000")]);
                last();
                kafka.alter_topic(&topics[topic].name, &[]);
            }
            _ => unreachable!("not of this lane"),
        }
        None
    }

    /// As [`Fault::befall_kafka`], for the network.
    pub(crate) fn befall_network(&self, kafka: &Kafka, mut last: impl FnMut()) {
        match *self {
            Self::Cut { node } => kafka.proxy(node).cut(),
            Self::CutWithin { node, direction, bytes } => kafka.proxy(node).cut_after(direction, bytes, After::Pass),
            Self::Unreachable { node } => {
                kafka.proxy(node).down();
                last();
                kafka.proxy(node).heal();
            }
            Self::Latency { node, added } => {
                kafka.proxy(node).delay(Direction::ToServer, added);
                kafka.proxy(node).delay(Direction::ToClient, added);
                last();
                kafka.proxy(node).heal();
            }
            Self::OneWayLoss { node, direction } => {
                kafka.proxy(node).swallow(direction);
                last();
                kafka.proxy(node).heal();
            }
            Self::Stall { node, direction } => {
                kafka.proxy(node).stall(direction);
                last();
                kafka.proxy(node).heal();
            }
            _ => unreachable!("not of this lane"),
        }
    }

    /// As [`Fault::befall_kafka`], for the process under test. `before_end` gets the metrics of each
    /// life that ends.
    pub(crate) fn befall_tidegate(
        &self,
        tidegate: &mut Tidegate,
        mut before_end: impl FnMut(&BTreeMap<String, f64>),
        mut last: impl FnMut(),
    ) {
        match *self {
            Self::FreezeTidegate => {
                tidegate.signal("STOP");
                last();
                tidegate.signal("CONT");
            }
            Self::EndTidegate => {
                let (status, metrics) = tidegate.end(END);
                before_end(&metrics);
                assert_eq!(status.code(), Some(0), "asked to end, it ended with {status}: {}", tidegate.log());
                last();
                tidegate.restart_unready();
            }
            Self::KillTidegate => {
                before_end(&tidegate.metrics());
                tidegate.kill9();
                last();
                tidegate.restart_unready();
            }
            Self::NoFiles => {
                let before = limit_files(tidegate.pid(), 3);
                last();
                limit_files(tidegate.pid(), before);
            }
            _ => unreachable!("not of this lane"),
        }
    }

    /// As [`Fault::befall_kafka`], for the clock.
    pub(crate) fn befall_clock(&self, shim: &Shim, mut last: impl FnMut()) {
        let Self::ClockJump { seconds } = *self else { unreachable!("not of this lane") };
        shim.set_clock(seconds);
        last();
        shim.set_clock(0);
    }
}

impl Fault {
    /// As [`Fault::befall_kafka`], for the spool's disk. What fails a number of times may do so later, or never.
    pub(crate) fn befall_disk(&self, shim: &Shim, mut last: impl FnMut()) {
        let growing = [Kind::Write, Kind::Create, Kind::MakeDirectory];
        let fail = |error: Errno| Action::Fail(error.raw_os_error());
        match *self {
            Self::DiskFull => shim.arm(fail(Errno::NOSPC), &growing, 1, None),
            Self::WritesFail { times } => shim.arm(fail(Errno::IO), &[Kind::Write], 1, Some(times)),
            Self::SyncsFail { times } => shim.arm(fail(Errno::IO), &[Kind::Sync], 1, Some(times)),
            Self::ReadOnly => shim.arm(fail(Errno::ROFS), ALL, 1, None),
            Self::ShortWrites => shim.arm(Action::WriteHalf, &[Kind::Write], 1, None),
            _ => unreachable!("not of this lane"),
        }
        last();
        shim.disarm();
    }
}

/// Sets how many files a process may have open, so that it can open no further one; gives what it was.
fn limit_files(pid: u32, most: u64) -> u64 {
    use rustix::process::{Pid, Resource, Rlimit, prlimit};
    let pid = Pid::from_raw(pid.cast_signed()).expect("a process id");
    // The hard limit stays, so that the soft one can be raised again.
    let limit = |current| Rlimit { current: Some(current), maximum: None };
    let before = rustix::process::getrlimit(Resource::Nofile);
    let set = Rlimit { maximum: before.maximum, ..limit(most) };
    prlimit(Some(pid), Resource::Nofile, set).expect("a limit").current.unwrap_or(u64::MAX)
}

impl fmt::Display for Planned {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:>6} ms", self.at.as_millis())?;
        if self.fault.is_instant() {
            write!(f, "               ")?;
        } else {
            write!(f, " for {:>5} ms  ", self.lasts.as_millis())?;
        }
        write!(f, "{:?}", self.fault)
    }
}
