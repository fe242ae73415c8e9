//! The network namespace in which clusters and their pods' addresses live.
//!
//! EndpointSlices refuse 127.0.0.0/8, so pods need other addresses; in a namespace of our own these can all be local,
//! and nothing that a test sends to a pod can leave this machine. A process that only holds the namespace open is
//! started once per test process; each test's thread joins it.

use std::fs::File;
use std::os::fd::AsFd;
use std::process::Command;
use std::sync::OnceLock;
use std::time::Duration;

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use crate::bed::process::Process;
use crate::bed::{WorkDir, wait_for};

/// Pods of the clusters: 10.244.0.0/16 of the first, 10.245.0.0/16 of the second.
const POD_NETWORK: &str = "10.244.0.0/15";
/// IPv6 addresses of pods, for slices that tests write themselves.
const POD_NETWORK_6: &str = "fd00:10:244::/48";

struct Holder {
    process: Process,
    _directory: WorkDir,
}

/// Moves the calling thread into the namespace; threads and processes that it starts later are in it as well.
/// Panics, with the remedy, where namespaces are not allowed.
pub fn enter() {
    static HOLDER: OnceLock<Holder> = OnceLock::new();
    let holder = HOLDER.get_or_init(hold);
    let path = format!("/proc/{}/ns/net", holder.process.id());
    let link = File::open(&path).unwrap_or_else(|e| panic!("{path}: {e}"));
    move_into_link_name_space(link.as_fd(), Some(LinkNameSpaceType::Network)).expect(NOT_ALLOWED);
}

const NOT_ALLOWED: &str =
    "a network namespace of our own needs root, or: unshare --map-root-user --net cargo test --test traffic";

fn hold() -> Holder {
    super::cluster::programs();
    let directory = WorkDir::new("netns");
    let script = format!(
        "ip link set lo up && ip route add local {POD_NETWORK} dev lo && ip route add local {POD_NETWORK_6} dev lo \
         && echo up && exec sleep infinity"
    );
    let mut command = Command::new("unshare");
    command.args(["--net", "sh", "-c", &script]);
    let mut process = Process::start(&command, directory.path(), "netns");
    wait_for(Duration::from_secs(10), "a network namespace", || {
        if process.exited().is_some() {
            panic!("{NOT_ALLOWED}\n{}", process.stderr());
        }
        process.stdout().starts_with(b"up").then_some(())
    });
    Holder { process, _directory: directory }
}
