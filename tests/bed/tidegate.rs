//! The program under test, as a process.

use super::http::{self, Response};
use super::process::Process;
use super::wait::{poll, wait_for, wait_until};
use super::workdir::{WorkDir, tail};
use std::collections::BTreeMap;
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus};
use std::time::Duration;

/// The variable that names another program to test.
pub const PROGRAM: &str = "TIDEGATE_BIN";
/// How long a start may take.
const START: Duration = Duration::from_secs(20);

/// A running `tidegate run`; it is killed when this value goes.
pub struct Tidegate {
    process: Process,
    redis: Option<SocketAddr>,
    admin: Option<SocketAddr>,
    environment: Vec<(String, String)>,
    resolver: Option<PathBuf>,
    directory: WorkDir,
}

impl Tidegate {
    /// Starts it with this configuration and waits until `/readyz/log` says that it is ready or, without an admin
    /// listener, until the log listener accepts.
    pub fn start(config: &str) -> Self {
        let mut tidegate = Self::spawn(config);
        tidegate.wait_ready();
        tidegate
    }

    /// Starts it and waits only until its listeners accept: for tests in which Kafka is down.
    pub fn start_unready(config: &str) -> Self {
        let mut tidegate = Self::spawn(config);
        tidegate.wait_listening();
        tidegate
    }

    /// Starts it and does not wait.
    pub fn spawn(config: &str) -> Self {
        Self::spawn_in(WorkDir::new("tidegate"), config, Vec::new())
    }

    /// As [`Tidegate::spawn`], in this directory and with these variables in its environment, at each restart too.
    pub fn spawn_in(directory: WorkDir, config: &str, environment: Vec<(String, String)>) -> Self {
        Self::spawn_with(directory, config, environment, None)
    }

    /// As [`Tidegate::spawn_in`], with names looked up as this file says, which stands in the place of
    /// `/etc/resolv.conf`: in a mount namespace of its own, which needs root.
    pub fn spawn_resolving(directory: WorkDir, config: &str, resolver: PathBuf) -> Self {
        Self::spawn_with(directory, config, Vec::new(), Some(resolver))
    }

    fn spawn_with(
        directory: WorkDir,
        config: &str,
        environment: Vec<(String, String)>,
        resolver: Option<PathBuf>,
    ) -> Self {
        directory.write("tidegate.toml", config);
        let (redis, admin) = addresses(config);
        let process = launch(directory.path(), &environment, resolver.as_deref());
        Self { process, redis, admin, environment, resolver, directory }
    }

    /// Starts it again, after its end, with the same configuration and directory, and waits until it is ready.
    pub fn restart(&mut self) {
        self.relaunch();
        self.wait_ready();
    }

    /// As [`Tidegate::restart`], and waits only until its listeners accept.
    pub fn restart_unready(&mut self) {
        self.relaunch();
        self.wait_listening();
    }

    /// Starts it again, after its end, with the same configuration and directory, and does not wait.
    pub fn relaunch(&mut self) {
        assert!(self.process.exited().is_some(), "it is running");
        self.process = launch(self.directory.path(), &self.environment, self.resolver.as_deref());
    }

    /// Starts the program with these arguments beside this one, in its directory: for commands that go on.
    pub fn beside(&self, args: &[&str]) -> Process {
        let mut command = Command::new(program());
        command.args(args);
        Process::start(&command, self.directory.path(), args.first().unwrap_or(&"tidegate"))
    }

    /// Runs the program with these arguments to its end: for `check-config` and refused configurations.
    pub fn run_to_end(args: &[&str]) -> std::process::Output {
        let directory = WorkDir::new("tidegate");
        let mut command = Command::new(program());
        command.args(args);
        let mut process = Process::start(&command, directory.path(), "tidegate");
        let status = process.wait(START);
        std::process::Output { status, stdout: process.stdout(), stderr: process.stderr().into_bytes() }
    }

    /// Waits until it is ready, as [`Tidegate::start`] does.
    pub fn wait_ready(&mut self) {
        match self.admin {
            Some(admin) => self.wait("200 from /readyz/log", || {
                http::get(admin, "/readyz/log").is_ok_and(|answer| answer.status == 200)
            }),
            None => self.wait_listening(),
        }
    }

    /// Waits until its listeners accept.
    pub fn wait_listening(&mut self) {
        for address in [self.redis, self.admin].into_iter().flatten() {
            self.wait("a listener", || TcpStream::connect(address).is_ok());
        }
    }

    fn wait(&mut self, what: &str, condition: impl Fn() -> bool) {
        let process = &mut self.process;
        wait_until(START, what, || {
            if let Some(status) = process.exited() {
                panic!("tidegate ended while it started: {status}\n{}", process.stderr());
            }
            condition()
        });
    }

    /// Its first TCP listener for Redis.
    pub fn redis_addr(&self) -> SocketAddr {
        self.redis.expect("a TCP address in [log] listen")
    }

    /// Its admin listener.
    pub fn admin_addr(&self) -> SocketAddr {
        self.admin.expect("an address in [admin] listen")
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.process.id()
    }

    /// The directory with its configuration and log.
    pub fn directory(&self) -> &Path {
        self.directory.path()
    }

    /// What it has logged so far.
    pub fn log(&self) -> String {
        self.process.stderr()
    }

    /// Its resident memory.
    pub fn rss_bytes(&self) -> u64 {
        self.memory("VmRSS:")
    }

    /// The most that its resident memory ever was.
    pub fn peak_rss_bytes(&self) -> u64 {
        self.memory("VmHWM:")
    }

    fn memory(&self, field: &str) -> u64 {
        let status = self.proc_file("status");
        let kilobytes = status
            .lines()
            .find_map(|line| line.strip_prefix(field))
            .and_then(|rest| rest.trim().strip_suffix("kB")?.trim().parse::<u64>().ok());
        kilobytes.unwrap_or_else(|| panic!("{field} of a running process")) * 1024
    }

    /// The processor time it has used, in user and kernel mode.
    pub fn cpu_time(&self) -> Duration {
        let stat = self.proc_file("stat");
        // The program's name comes second, in parentheses, and may hold anything.
        let after_name = stat.rsplit_once(')').expect("a process's stat").1;
        let fields: Vec<&str> = after_name.split_whitespace().collect();
        let ticks: u64 = [11, 12].iter().filter_map(|&field| fields.get(field)?.parse::<u64>().ok()).sum();
        // Linux reports a hundred ticks a second to programs, whatever its own clock is.
        Duration::from_millis(ticks * 10)
    }

    fn proc_file(&self, name: &str) -> String {
        let path = format!("/proc/{}/{name}", self.pid());
        std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{path}: {e}"))
    }

    /// Asks it to end.
    pub fn sigterm(&mut self) {
        self.process.signal("TERM");
    }

    /// Sends any signal by name (`HUP`, `STOP`, `CONT`).
    pub fn signal(&mut self, signal: &str) {
        self.process.signal(signal);
    }

    /// Kills it and waits for its end.
    pub fn kill9(&mut self) {
        self.process.kill9();
    }

    /// Its status once it has ended; panics after the deadline.
    pub fn wait_exit(&mut self, deadline: Duration) -> ExitStatus {
        self.process.wait(deadline)
    }

    /// Asks it to end; its status, and its metrics as they stood when it answered last: it counts until then.
    pub fn end(&mut self, deadline: Duration) -> (ExitStatus, BTreeMap<String, f64>) {
        let told = |it: &Self| http::get(it.admin_addr(), "/metrics").ok().map(|answer| parse_metrics(&answer.text()));
        let mut metrics = told(self).unwrap_or_default();
        self.sigterm();
        let status = poll(deadline, || {
            if let Some(now) = told(self) {
                metrics = now;
            }
            self.exited()
        });
        (status.unwrap_or_else(|| panic!("not ended within {deadline:?}\n{}", self.log())), metrics)
    }

    /// Its status if it has ended.
    pub fn exited(&mut self) -> Option<ExitStatus> {
        self.process.exited()
    }

    /// `GET` on its admin listener.
    pub fn get(&self, path: &str) -> Response {
        http::get(self.admin_addr(), path).unwrap_or_else(|e| {
            let log = tail(&self.directory.path().join("tidegate.log"), 20);
            panic!("GET {path}: {e}\n{log}")
        })
    }

    /// Its metrics: each series as it stands in the text (`name` or `name{label="value"}`) with its value.
    pub fn metrics(&self) -> BTreeMap<String, f64> {
        parse_metrics(&self.get("/metrics").text())
    }

    /// The sum of all series of one metric; 0 if there is none yet.
    pub fn metric(&self, name: &str) -> f64 {
        self.metric_with(name, "")
    }

    /// The sum of the series of one metric that have this label, written `label="value"`.
    pub fn metric_with(&self, name: &str, label: &str) -> f64 {
        self.metrics()
            .iter()
            .filter(|(series, _)| {
                series.strip_prefix(name).is_some_and(|rest| rest.is_empty() || rest.starts_with('{'))
                    && series.contains(label)
            })
            .map(|(_, value)| value)
            .sum()
    }

    /// Waits until the sum of a metric's series fulfils the condition, and gives it.
    pub fn wait_metric(&self, name: &str, deadline: Duration, condition: impl Fn(f64) -> bool) -> f64 {
        wait_for(deadline, name, || Some(self.metric(name)).filter(|value| condition(*value)))
    }
}

/// The program under test: cargo's, or the one that `TIDEGATE_BIN` names. So a bench whose clients were built in one
/// profile can measure the build of another.
pub fn program() -> PathBuf {
    std::env::var_os(PROGRAM).map_or_else(|| env!("CARGO_BIN_EXE_tidegate").into(), PathBuf::from)
}

fn launch(directory: &Path, environment: &[(String, String)], resolver: Option<&Path>) -> Process {
    let mut command = match resolver {
        None => Command::new(program()),
        Some(file) => {
            let mut command = Command::new("unshare");
            let script = "mount --bind \"$1\" /etc/resolv.conf && shift && exec \"$@\"";
            command.args(["--mount", "sh", "-c", script, "sh"]).arg(file).arg(program());
            command
        }
    };
    command.args(["run", "--config"]);
    command.arg(directory.join("tidegate.toml"));
    // A relative path in a configuration, as of a spool, means this directory.
    command.current_dir(directory);
    command.envs(environment.iter().map(|(name, value)| (name, value)));
    Process::start(&command, directory, "tidegate")
}

/// The first TCP address of `[log] listen` and the one of `[admin] listen`. A configuration that cannot be parsed has
/// neither: a test may want to see it refused.
fn addresses(config: &str) -> (Option<SocketAddr>, Option<SocketAddr>) {
    let config: toml::Table = config.parse().unwrap_or_default();
    let listen = |section: &str| config.get(section)?.get("listen").cloned();
    let redis = listen("log").and_then(|addresses| {
        let addresses = addresses.as_array()?;
        addresses.iter().find_map(|address| address.as_str()?.parse().ok())
    });
    let admin = listen("admin").and_then(|address| address.as_str()?.parse().ok());
    (redis, admin)
}

/// The samples of Prometheus's text format; timestamps are not expected.
pub fn parse_metrics(text: &str) -> BTreeMap<String, f64> {
    text.lines()
        .filter(|line| !line.starts_with('#') && !line.trim().is_empty())
        .map(|line| {
            // A label's value may contain blanks; the value of the sample does not.
            let (series, value) = line.trim_end().rsplit_once(' ').expect("series and value");
            let value = value.parse().unwrap_or_else(|_| panic!("no number: {line}"));
            (series.to_owned(), value)
        })
        .collect()
}
