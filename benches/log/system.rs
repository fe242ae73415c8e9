//! What the operating system knows of a process, and on which cores it lets it run.

use rustix::process::{Pid, Resource, Rlimit};
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};
use std::collections::BTreeMap;
use std::fs;
use std::time::Duration;

/// Which cores the parts of a measurement have.
#[derive(Clone, Copy)]
pub(crate) enum Pinning {
    /// The server under test has the first core alone; client and sink share the second.
    Split { server: usize, others: usize },
    /// As the scheduler likes.
    Free,
}

impl Pinning {
    /// Takes the first two cores that this process may use, and moves this process, and so all that it starts later, to
    /// the second.
    pub(crate) fn choose(wanted: bool) -> Self {
        let Ok(allowed) = sched_getaffinity(None) else { return Self::Free };
        let mut cores = (0..CpuSet::MAX_CPU).filter(|core| allowed.is_set(*core));
        match (wanted, cores.next(), cores.next()) {
            (true, Some(server), Some(others)) => {
                sched_setaffinity(None, &only(&[others])).unwrap();
                Self::Split { server, others }
            }
            _ => Self::Free,
        }
    }

    /// Gives a server under test its core, or both cores where it is to use both.
    pub(crate) fn place(self, pid: u32, both: bool) {
        let Self::Split { server, others } = self else { return };
        let cores = if both { only(&[server, others]) } else { only(&[server]) };
        // A thread that starts meanwhile is met in the second pass.
        for thread in threads(pid).into_iter().chain(threads(pid)) {
            let _ = sched_setaffinity(Pid::from_raw(thread), &cores);
        }
    }
}

impl std::fmt::Display for Pinning {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Split { server, others } => write!(
                f,
                "the server under test, all its threads, has core {server} alone; the client, and the mock cluster or Kafka, share core {others}"
            ),
            Self::Free => f.write_str("none: the scheduler places everything"),
        }
    }
}

fn only(cores: &[usize]) -> CpuSet {
    let mut set = CpuSet::new();
    cores.iter().for_each(|core| set.set(*core));
    set
}

/// A thousand connections need more than the usual 1024 files, here and in the servers that this process starts.
pub(crate) fn allow_many_files() {
    let limit = rustix::process::getrlimit(Resource::Nofile);
    let _ = rustix::process::setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit });
}

fn threads(pid: u32) -> Vec<i32> {
    let entries = fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect()
}

/// The processor time of all threads of a process, user and system, in the kernel's own resolution.
pub(crate) fn cpu_time(pid: u32) -> Duration {
    cpu_by_thread(pid).values().sum()
}

/// The same by the threads' names.
pub(crate) fn cpu_by_thread(pid: u32) -> BTreeMap<String, Duration> {
    let mut times = BTreeMap::new();
    for thread in threads(pid) {
        let file = |name: &str| fs::read_to_string(format!("/proc/{pid}/task/{thread}/{name}")).ok();
        let (Some(name), Some(stat)) = (file("comm"), file("schedstat")) else { continue };
        let nanos = stat.split(' ').next().and_then(|nanos| nanos.parse().ok()).unwrap_or(0);
        *times.entry(name.trim().to_owned()).or_default() += Duration::from_nanos(nanos);
    }
    times
}

/// Resident memory in MB: now, and the most it ever was.
pub(crate) fn memory(pid: u32) -> (f64, f64) {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let field = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name)).unwrap();
        line.trim().trim_end_matches(" kB").parse::<f64>().unwrap() * 1024.0 / 1e6
    };
    (field("VmRSS:"), field("VmHWM:"))
}

/// Cores, processor and kernel.
pub(crate) fn machine() -> String {
    let cpuinfo = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let field =
        |name: &str| cpuinfo.lines().find(|line| line.starts_with(name))?.split_once(": ").map(|(_, text)| text);
    let cores = cpuinfo.lines().filter(|line| line.starts_with("processor")).count();
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let busy = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    let busy = busy.split(' ').next().unwrap_or_default();
    let model = field("model name").unwrap_or("unknown processor");
    format!("{cores} cores, {model}, Linux {}; load average at the start {busy}", kernel.trim())
}
