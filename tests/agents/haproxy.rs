//! The real HAProxy, fed over its runtime socket, with the configuration of `deploy/haproxy`.

use std::collections::BTreeSet;
use std::io::{Read as _, Write as _};
use std::net::SocketAddr;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::Command;
use std::time::Instant;

use crate::bed::process::Process;
use crate::bed::{WorkDir, free_port, poll, require_gateways, wait_until};
use crate::load::{Killed, Load};
use crate::pods::Pod;
use crate::support::{Agent, CLIENTS, Origin, SOON, quantile, runtime, sample};

/// A pool of the tests and the name that its backend has.
pub(crate) const POOL: &str = "vm/shop";
const BACKEND: &str = "vm_shop";

/// HAProxy with the files that the samples name, all in one directory.
pub(crate) struct Haproxy {
    process: Option<Process>,
    pub(crate) listener: SocketAddr,
    socket: PathBuf,
    pub(crate) files: WorkDir,
}

impl Haproxy {
    /// Writes its files and starts it; `backends` is what `tidegate.cfg` has at first.
    pub(crate) fn start(backends: &str) -> Self {
        require_gateways();
        let files = WorkDir::new("haproxy");
        let directory = files.path().display().to_string();
        let port = free_port();
        let config = sample(
            "haproxy/haproxy.cfg",
            &[
                ("/run/haproxy/admin.sock", &format!("{directory}/admin.sock")),
                ("127.0.0.1:8080", &format!("127.0.0.1:{port}")),
                ("/etc/haproxy", &directory),
                ("east_shop_checkout_http", BACKEND),
            ],
        );
        files.write("haproxy.cfg", config);
        files.write("tidegate.cfg", backends);
        files.write("tidegate-hosts.map", "");
        for template in ["tidegate.cfg.j2", "tidegate-hosts.map.j2"] {
            files.write(template, sample(&format!("haproxy/{template}"), &[]));
        }
        let socket = files.path().join("admin.sock");
        let listener = SocketAddr::from(([127, 0, 0, 1], port));
        let mut haproxy = Self { process: None, listener, socket, files };
        haproxy.run();
        haproxy
    }

    /// Starts it again.
    pub(crate) fn run(&mut self) {
        let mut command = Command::new("haproxy");
        let file = |name: &str| self.files.path().join(name);
        command.arg("-W").arg("-f").arg(file("haproxy.cfg")).arg("-f").arg(file("tidegate.cfg"));
        self.process = Some(Process::start(&command, self.files.path(), "haproxy"));
        wait_until(SOON, "HAProxy", || self.pid().is_some());
    }

    pub(crate) fn kill(&mut self) {
        self.process.take().unwrap().kill9();
    }

    /// As `systemctl reload haproxy` does.
    pub(crate) fn reload(&mut self) {
        let before = self.pid();
        self.process.as_mut().unwrap().signal("USR2");
        wait_until(SOON, "another worker", || self.pid().is_some_and(|pid| Some(pid) != before));
    }

    pub(crate) fn ask(&self, command: &str) -> std::io::Result<String> {
        let mut stream = UnixStream::connect(&self.socket)?;
        stream.set_read_timeout(Some(SOON))?;
        writeln!(stream, "{command}")?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        Ok(answer)
    }

    /// The worker that answers.
    pub(crate) fn pid(&self) -> Option<u32> {
        let info = self.ask("show info").ok()?;
        info.lines().find_map(|line| line.strip_prefix("Pid: ")?.parse().ok())
    }

    /// Its memory.
    pub(crate) fn rss_bytes(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.pid().unwrap())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
        line.trim().trim_end_matches("kB").trim().parse::<u64>().unwrap() * 1024
    }

    /// A backend's servers by name, those in maintenance too, each with its administrative state and weight.
    pub(crate) fn servers(&self, backend: &str) -> Vec<(String, u32, u32)> {
        let text = self.ask(&format!("show servers state {backend}")).unwrap_or_default();
        // A backend that is not there is told in words.
        let lines = text.lines().filter(|line| line.starts_with(|it: char| it.is_ascii_digit()) && line.len() > 2);
        let server = |line: &str| {
            let fields: Vec<&str> = line.split(' ').collect();
            (fields[3].to_owned(), fields[6].parse().unwrap(), fields[7].parse().unwrap())
        };
        lines.map(server).collect()
    }

    /// Waits until the backend has exactly these, all of which take requests.
    pub(crate) fn wait_servers(&self, wanted: &[SocketAddr]) {
        let name = |at: &SocketAddr| (format!("{}_{}", at.ip(), at.port()), 0, 256);
        let wanted: BTreeSet<_> = wanted.iter().map(name).collect();
        let equal = || (self.servers(BACKEND).into_iter().collect::<BTreeSet<_>>() == wanted).then_some(());
        poll(SOON, equal).unwrap_or_else(|| panic!("{:?} and not {wanted:?}", self.servers(BACKEND)));
    }

    /// Starts the agent with the sample's file; with `render`, its templates too.
    pub(crate) fn agent(&self, servers: &[SocketAddr], render: bool) -> Agent {
        self.agent_with(servers, render, &[])
    }

    /// As [`Haproxy::agent`], with something of the file replaced.
    pub(crate) fn agent_with(&self, servers: &[SocketAddr], render: bool, replaced: &[(&str, &str)]) -> Agent {
        let directory = self.files.path().display().to_string();
        let urls: Vec<String> = servers.iter().map(|at| format!("\"http://{at}\"")).collect();
        let pid = self.process.as_ref().unwrap().id();
        let mut text = sample(
            "haproxy/agent.toml",
            &[
                ("\"http://127.0.0.1:8500\"", &urls.join(", ")),
                ("/run/haproxy", &directory),
                ("/etc/haproxy", &directory),
                ("/etc/tidegate", &directory),
                ("/var/lib/tidegate", &directory),
                ("[\"systemctl\", \"reload\", \"haproxy\"]", &format!("[\"kill\", \"-USR2\", \"{pid}\"]")),
            ],
        );
        for (sample, own) in replaced {
            assert!(text.contains(sample), "no {sample:?}");
            text = text.replace(sample, own);
        }
        if !render {
            text.truncate(text.find("[[template]]").unwrap());
        }
        Agent::start(&["sync", "haproxy"], text, &self.files)
    }
}

/// What `tidegate.cfg` has for the pool of the tests before anything is known.
pub(crate) fn backend() -> String {
    format!("backend {BACKEND}\n    balance roundrobin\n")
}

/// Waits until each pod has answered clients.
pub(crate) fn wait_answered(load: &Load, pods: &[Pod]) {
    wait_until(SOON, "an answer of each new pod", || pods.iter().all(|pod| load.times(pod.address).is_some()));
}

#[test]
fn every_pod_is_replaced_ten_times_and_no_request_is_lost_and_nothing_reloaded() {
    let runtime = runtime();
    let start = || -> Vec<Pod> { (0..3).map(|_| Pod::start(runtime.handle())).collect() };
    let addresses = |pods: &[Pod]| pods.iter().map(|pod| pod.address).collect::<Vec<_>>();
    let mut pods = start();
    let origin = Origin::start(&[(POOL, addresses(&pods)), ("vm/without-a-backend", vec![])]);
    let haproxy = Haproxy::start(&backend());
    let agent = haproxy.agent(&[origin.address], false);
    haproxy.wait_servers(&addresses(&pods));
    let pid = haproxy.pid();
    let load = Load::start(runtime.handle(), haproxy.listener, "shop.example", CLIENTS);
    wait_answered(&load, &pods);
    let (mut firsts, mut lasts) = (Vec::new(), Vec::new());
    for _ in 0..10 {
        let new = start();
        let old = std::mem::replace(&mut pods, new);
        let began = Instant::now();
        origin.set(&[(POOL, addresses(&pods))]);
        wait_answered(&load, &pods);
        // The old ones are deleted only when nothing is on them any more: then they end, as after their grace period.
        haproxy.wait_servers(&addresses(&pods));
        for pod in old {
            lasts.push(load.times(pod.address).unwrap().1.saturating_duration_since(began));
            assert!(pod.served() > 0);
            pod.end();
        }
        firsts.extend(pods.iter().map(|pod| load.times(pod.address).unwrap().0.duration_since(began)));
    }
    let tally = load.stop();
    println!(
        "from the file to the first request on the new: p50 {:?}, p99 {:?}; to the last on the old: p50 {:?}, p99 {:?}",
        quantile(&mut firsts, 50),
        quantile(&mut firsts, 99),
        quantile(&mut lasts, 50),
        quantile(&mut lasts, 99)
    );
    assert!(tally.failures.is_empty(), "{:?}", tally.failures);
    assert_eq!(tally.resent, 0, "no connection of a client was closed");
    assert!(tally.ok > 5_000 && tally.posts > 1_000, "{tally:?}");
    assert_eq!((haproxy.pid(), agent.metric("tidegate_haproxy_processes_total")), (pid, 1.0), "nothing was reloaded");
    origin.wait_served("haproxy-1", POOL, 3);
    let said = agent.process.stderr();
    assert_eq!(said.matches("vm/without-a-backend").count(), 1, "said once: {said}");
}

#[test]
fn of_killed_pods_only_requests_in_flight_fail() {
    let runtime = runtime();
    let mut pods: Vec<Pod> = (0..6).map(|_| Pod::start(runtime.handle())).collect();
    let addresses = |pods: &[Pod]| pods.iter().map(|pod| pod.address).collect::<Vec<_>>();
    let origin = Origin::start(&[(POOL, addresses(&pods))]);
    let haproxy = Haproxy::start(&backend());
    let _agent = haproxy.agent(&[origin.address], false);
    haproxy.wait_servers(&addresses(&pods));
    let load = Load::start(runtime.handle(), haproxy.listener, "shop.example", CLIENTS);
    wait_answered(&load, &pods);
    let mut killed = Killed::default();
    for _ in 0..4 {
        killed.kill(pods.pop().unwrap());
        // Requests go on to a pod that is not there before anybody has noticed.
        let before = load.ok();
        wait_until(SOON, "answers in spite of a killed pod", || load.ok() > before + 300);
        origin.set(&[(POOL, addresses(&pods))]);
        haproxy.wait_servers(&addresses(&pods));
    }
    let tally = load.stop();
    killed.assert_explains(&tally);
    assert!(tally.ok > 1_000, "{}", tally.ok);
}

#[test]
fn what_haproxy_refuses_is_not_acknowledged_and_why_is_said() {
    let runtime = runtime();
    let pod = Pod::start(runtime.handle());
    let origin = Origin::start(&[(POOL, vec![])]);
    let haproxy = Haproxy::start(&backend());
    let agent = haproxy.agent_with(&[origin.address], false, &[("check inter 2s", "no-such-word")]);
    origin.wait_served("haproxy-1", POOL, 0);
    wait_until(SOON, "a ready agent", || agent.is_ready());
    origin.set(&[(POOL, vec![pod.address])]);
    // The reason is of what was tried, and was told with what is served.
    let refused = |gateway: &serde_json::Value| gateway["error"].as_str().is_some_and(|it| it.contains("no-such-word"));
    wait_until(SOON, "the reason", || refused(&origin.gateway("haproxy-1")));
    let gateway = origin.gateway("haproxy-1");
    assert!(refused(&gateway) && gateway["pools"][POOL]["current"] == false, "{gateway}");
    drop(agent);
    let _agent = haproxy.agent(&[origin.address], false);
    origin.wait_served("haproxy-1", POOL, 1);
    haproxy.wait_servers(&[pod.address]);
    wait_until(SOON, "no reason any more", || origin.gateway("haproxy-1").get("error").is_none());
}

#[test]
fn a_server_that_does_not_answer_its_check_gets_no_requests() {
    let runtime = runtime();
    let well = Pod::start(runtime.handle());
    let dead = crate::pods::address();
    let origin = Origin::start(&[(POOL, vec![well.address, dead])]);
    let haproxy = Haproxy::start(&backend());
    let _agent = haproxy.agent(&[origin.address], false);
    haproxy.wait_servers(&[well.address, dead]);
    let down = || {
        let state = haproxy.ask(&format!("show servers state {BACKEND}")).unwrap();
        let name = format!("{}_{}", dead.ip(), dead.port());
        state.lines().any(|line| line.contains(&name) && line.split(' ').nth(5) == Some("0"))
    };
    wait_until(SOON, "a server that is down by its check", down);
    let load = Load::start(runtime.handle(), haproxy.listener, "shop.example", 20);
    wait_until(SOON, "answers", || load.ok() > 100);
    assert!(load.stop().failures.is_empty());
}

#[test]
fn what_a_person_did_by_hand_stays_until_the_endpoint_changes_and_other_servers_are_left_alone() {
    let runtime = runtime();
    let pods: Vec<Pod> = (0..2).map(|_| Pod::start(runtime.handle())).collect();
    let (one, two) = (pods[0].address, pods[1].address);
    let origin = Origin::start(&[(POOL, vec![one, two])]);
    let haproxy = Haproxy::start(&format!("{}    server by-hand {one} weight 1\n", backend()));
    let _agent = haproxy.agent(&[origin.address], false);
    wait_until(SOON, "two servers beside one by hand", || haproxy.servers(BACKEND).len() == 3);
    let name = format!("{}_{}", one.ip(), one.port());
    haproxy.ask(&format!("set server {BACKEND}/{name} state maint")).unwrap();
    // A change of the other one must not bring it back.
    origin.set(&[(POOL, vec![one])]);
    wait_until(SOON, "one server less", || haproxy.servers(BACKEND).len() == 2);
    let state =
        |name: &str| haproxy.servers(BACKEND).into_iter().find(|(it, ..)| it == name).map(|(_, state, _)| state);
    assert_eq!(state("by-hand"), Some(0));
    origin.set(&[(POOL, vec![])]);
    wait_until(SOON, "an empty pool", || haproxy.servers(BACKEND).len() == 1);
    origin.set(&[(POOL, vec![one])]);
    wait_until(SOON, "the endpoint again", || state(&name) == Some(0));
}
