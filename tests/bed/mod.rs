//! The test bed: real components for the suites, and what it takes to start, disturb and read them.
//!
//! A test target includes it with `#[path = "../bed/mod.rs"] mod bed;`. Nothing here is skipped when a component is
//! missing: [`require`] installs it, or fails the test with the reason.
//!
//! Every child process ends with the test process, however that ends (see [`process`]), every server listens on
//! loopback only, and every log file of a failing test is printed (see [`WorkDir`]).

#![allow(
    dead_code,
    unreachable_pub,
    unused_imports,
    reason = "each test target compiles the bed as a module of its own and uses its part of it"
)]

pub mod admin;
pub mod certificates;
pub mod consume;
pub mod driver;
pub mod http;
pub mod kafka;
mod kafka_conf;
mod kafka_node;
mod kafka_wire;
pub mod ports;
pub mod process;
pub mod proxy;
pub mod redis;
pub mod resp;
pub mod tidegate;
pub mod wait;
pub mod workdir;

pub use consume::{Consumed, consume, consume_at_least};
pub use driver::{Driver, Mode, record};
pub use kafka::{Kafka, KafkaOptions};
pub use ports::free_port;
pub use proxy::{After, Direction, FaultProxy};
pub use redis::RedisServer;
pub use resp::{Reply, RespClient};
pub use tidegate::Tidegate;
pub use wait::{poll, wait_for, wait_until};
pub use workdir::WorkDir;

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

/// Where the installed components are: the directory of each, by name.
pub struct Installed(BTreeMap<String, PathBuf>);

impl Installed {
    /// The directory of one component (`kafka`, `python`, `go`, `java`, `node`).
    pub fn home(&self, component: &str) -> &Path {
        self.0.get(component).unwrap_or_else(|| panic!("install.sh named no directory for {component}"))
    }
}

/// Installs what is missing, once per process, and says where it all is. Panics with the installer's output if
/// something cannot be had.
pub fn require() -> &'static Installed {
    static INSTALLED: OnceLock<Result<Installed, String>> = OnceLock::new();
    complete(INSTALLED.get_or_init(|| install("log")))
}

/// As [`require`], with what only the whole client matrix needs.
pub fn require_all() -> &'static Installed {
    static INSTALLED: OnceLock<Result<Installed, String>> = OnceLock::new();
    complete(INSTALLED.get_or_init(|| install("matrix")))
}

/// As [`require`], for the Kubernetes control plane, which only the suites over it need: its first build takes minutes.
pub fn require_kube() -> &'static Path {
    static INSTALLED: OnceLock<Result<Installed, String>> = OnceLock::new();
    complete(INSTALLED.get_or_init(|| install("kube"))).home("kube")
}

/// As [`require`], for the gateways that the traffic plane is proved against.
pub fn require_gateways() -> &'static Installed {
    static INSTALLED: OnceLock<Result<Installed, String>> = OnceLock::new();
    complete(INSTALLED.get_or_init(|| install("gateways")))
}

/// As [`require`], for what stands before and behind the built-in gateway.
pub fn require_gateway() -> &'static Path {
    gateway_set().home("gateway")
}

/// As [`require`], for the Gateway API's own definitions.
pub fn require_gateway_api() -> &'static Path {
    gateway_set().home("gateway_api")
}

fn gateway_set() -> &'static Installed {
    static INSTALLED: OnceLock<Result<Installed, String>> = OnceLock::new();
    complete(INSTALLED.get_or_init(|| install("gateway")))
}

fn complete(installed: &Result<Installed, String>) -> &Installed {
    match installed {
        Ok(installed) => installed,
        Err(why) => panic!("the test bed is not complete:\n{why}"),
    }
}

fn install(set: &str) -> Result<Installed, String> {
    let mut child = Command::new(source("bed/install.sh"))
        .arg(set)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|e| format!("install.sh does not start: {e}"))?;
    // An installation can take a minute. Its progress goes past the test harness, which would show it only afterwards.
    let mut said = String::new();
    if let Some(stderr) = child.stderr.take() {
        for line in BufReader::new(stderr).lines().map_while(Result::ok) {
            let _ = writeln!(std::io::stderr(), "{line}");
            said.push_str(&line);
            said.push('\n');
        }
    }
    let mut answer = String::new();
    if let Some(mut stdout) = child.stdout.take() {
        stdout.read_to_string(&mut answer).map_err(|e| e.to_string())?;
    }
    let status = child.wait().map_err(|e| e.to_string())?;
    if !status.success() {
        return Err(format!("install.sh: {status}\n{said}"));
    }
    Ok(Installed(
        answer
            .lines()
            .filter_map(|line| line.split_once('='))
            .map(|(name, home)| (name.to_owned(), PathBuf::from(home)))
            .collect(),
    ))
}

/// A file under `tests/` of this checkout.
pub fn source(path: &str) -> PathBuf {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/tests")).join(path)
}

/// A name that no other test has: for topics and keys on a broker that tests share.
pub fn unique(prefix: &str) -> String {
    static NEXT: AtomicU64 = AtomicU64::new(1);
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    format!("{prefix}-{}-{number}", std::process::id())
}
