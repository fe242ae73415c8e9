//! `tidegate lvs-realserver` in a network namespace of its own: addresses, ARP settings and routes, for real.

use std::process::Command;

use crate::bed::process::Process;
use crate::bed::{WorkDir, wait_until};
use crate::support::SOON;

/// A namespace with a link `eth1`.
struct Namespace {
    holder: Process,
    files: WorkDir,
}

impl Namespace {
    fn new() -> Self {
        let files = WorkDir::new("realserver");
        let mut command = Command::new("unshare");
        let script = "ip link set lo up && ip link add eth1 type veth peer name eth2 && ip link set eth2 up && ip addr add 10.9.9.1/24 dev eth1 && ip link set eth1 up && echo up && exec sleep infinity";
        command.args(["--net", "sh", "-c", script]);
        let holder = Process::start(&command, files.path(), "namespace");
        wait_until(SOON, "a namespace with a link", || holder.stdout().starts_with(b"up"));
        Self { holder, files }
    }

    fn inside(&self, words: &[&str]) -> Command {
        let mut command = Command::new("nsenter");
        command.arg("--net").arg(format!("--target={}", self.holder.id())).args(words);
        command
    }

    fn say(&self, script: &str) -> String {
        let output = self.inside(&["sh", "-c", script]).output().unwrap();
        String::from_utf8_lossy(&output.stdout).trim().to_owned()
    }

    /// What a run could have changed.
    fn state(&self) -> String {
        self.say(
            "ip -o addr show dev lo; ip route show table 100; \
             cd /proc/sys/net/ipv4/conf && cat all/arp_ignore all/arp_announce lo/arp_ignore lo/arp_announce",
        )
    }

    fn start(&self, name: &str) -> Process {
        let state = self.files.path().join("state.json").display().to_string();
        let route = "10.9.8.0/24 dev eth1 table 100";
        let args =
            [env!("CARGO_BIN_EXE_tidegate"), "lvs-realserver", "10.9.9.9", "--route", route, "--state-file", &state];
        let process = Process::start(&self.inside(&args), self.files.path(), name);
        wait_until(SOON, "everything in place", || process.stdout().starts_with(b"ready"));
        process
    }
}

#[test]
fn a_real_server_gets_its_address_quiet_arp_and_routes_and_gives_them_back_whatever_happened() {
    let namespace = Namespace::new();
    // One setting is as it should be before: it is nobody's to give back.
    namespace.say("echo 2 > /proc/sys/net/ipv4/conf/lo/arp_announce");
    let before = namespace.state();
    let mut first = namespace.start("first");
    let during = namespace.state();
    assert!(during.contains("10.9.9.9/32") && during.contains("10.9.8.0/24 dev eth1"), "{during}");
    assert!(during.ends_with("1\n2\n1\n2"), "{during}");
    assert!(first.terminate(SOON), "it ends by itself");
    assert_eq!(namespace.state(), before, "everything is given back");
    assert!(!namespace.files.path().join("state.json").exists());
    // Killed, it can give nothing back; the next one does, and meanwhile changes nothing more.
    namespace.start("second").kill9();
    assert_eq!(namespace.state(), during);
    let mut third = namespace.start("third");
    assert_eq!(namespace.state(), during);
    assert!(third.terminate(SOON));
    assert_eq!(namespace.state(), before);
    // What somebody else put there stays.
    namespace.say("ip addr add 10.9.9.9/32 dev lo scope host");
    let with = namespace.state();
    assert!(namespace.start("fourth").terminate(SOON));
    assert_eq!(namespace.state(), with);
}
