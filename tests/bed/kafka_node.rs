//! A single broker's process and data directory, and how to tell that it is up.

use super::kafka_conf::NodePorts;
use super::process::Process;
use super::proxy::FaultProxy;
use super::wait::wait_until;
use super::workdir::tail;
use std::fs;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// How long a broker may take to come up. Two seconds is usual; other builds may hold the processors.
const START: Duration = Duration::from_secs(60);

/// One broker: where it lives and, while it runs, its process.
pub(super) struct Node {
    pub(super) directory: PathBuf,
    pub(super) ports: NodePorts,
    pub(super) proxy: Option<FaultProxy>,
    pub(super) process: Mutex<Option<Process>>,
}

impl Node {
    pub(super) fn running(&self) -> MutexGuard<'_, Option<Process>> {
        self.process.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn launch(&self, home: &Path) {
        let mut process = self.running();
        assert!(process.is_none(), "this node is running already");
        let mut command = Command::new(super::source("bed/kafka/kafka.sh"));
        command.arg("run").arg(home).arg(&self.directory);
        *process = Some(Process::start(&command, &self.directory, "stdout"));
    }

    /// Waits until this node serves and knows so many live brokers.
    pub(super) fn wait_ready(&self, brokers: usize) {
        let id = self.running().as_ref().expect("launched").id();
        wait_until(START, "a broker that serves", || {
            if let Some(status) = self.running().as_mut().and_then(Process::exited) {
                panic!("the broker ended while it started: {status}\n{}", tail(&self.directory.join("broker.log"), 20));
            }
            owns_port(id, self.ports.plain) && live_brokers(self.ports.plain).is_some_and(|live| live >= brokers)
        });
    }
}

/// A lone node's freshly formatted directory fits any port, so it is copied. The cluster id is made anew, so that a
/// client that strays to another test's broker notices.
pub(super) fn copy_template(home: &Path, sasl: bool, data: &Path) {
    let template = home.join(if sasl { "template-sasl" } else { "template-plain" });
    copy_directory(&template, data).expect("the data template can be copied");
    let meta = data.join("meta.properties");
    let text = fs::read_to_string(&meta).expect("the template has meta.properties");
    let text: String = text
        .lines()
        .map(
            |line| {
                if line.starts_with("cluster.id=") { format!("cluster.id={}\n", uuid()) } else { format!("{line}\n") }
            },
        )
        .collect();
    fs::write(meta, text).expect("meta.properties");
}

fn copy_directory(from: &Path, to: &Path) -> std::io::Result<()> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let target = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            copy_directory(&entry.path(), &target)?;
        } else {
            fs::copy(entry.path(), target)?;
        }
    }
    Ok(())
}

pub(super) fn format_cluster(home: &Path, nodes: &[Node], controllers: &str) {
    let cluster = uuid();
    let voters: Vec<String> = controllers
        .split(',')
        .enumerate()
        .map(|(index, address)| format!("{}@{address}:{}", index + 1, uuid()))
        .collect();
    let voters = voters.join(",");
    std::thread::scope(|scope| {
        for node in nodes {
            let (cluster, voters) = (&cluster, &voters);
            scope.spawn(move || {
                let mut command = Command::new(super::source("bed/kafka/kafka.sh"));
                command.arg("format").arg(home).arg(&node.directory);
                command.arg(cluster).args(["--initial-controllers", voters]);
                let mut process = Process::start(&command, &node.directory, "format-script");
                let status = process.wait(START);
                assert!(status.success(), "kafka.sh format: {}", process.stderr());
            });
        }
    });
}

/// 22 characters that Kafka reads as 16 bytes; a last one of `A` leaves no bit over.
fn uuid() -> String {
    let random = fs::read_to_string("/proc/sys/kernel/random/uuid").expect("Linux");
    let hex: String = random.chars().filter(char::is_ascii_hexdigit).take(21).collect();
    format!("{hex}A")
}

/// Whether the process itself listens on this port: another broker may sit on a port that was thought free.
fn owns_port(process: u32, port: u16) -> bool {
    let address = format!("0100007F:{port:04X}");
    // Its own table: the test's thread may be in another network namespace than the test process.
    let table = fs::read_to_string(format!("/proc/{process}/net/tcp")).unwrap_or_default();
    let inode = table.lines().find_map(|line| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        (fields.get(1) == Some(&address.as_str()) && fields.get(3) == Some(&"0A"))
            .then(|| fields.get(9).map(|inode| format!("socket:[{inode}]")))
            .flatten()
    });
    let Some(inode) = inode else { return false };
    fs::read_dir(format!("/proc/{process}/fd"))
        .into_iter()
        .flatten()
        .flatten()
        .any(|entry| fs::read_link(entry.path()).is_ok_and(|link| link.as_os_str() == &*inode))
}

/// How many live brokers the node on this port lists, by a Metadata request written by hand: a client library would
/// hide for how long it tries.
fn live_brokers(port: u16) -> Option<usize> {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).ok()?;
    stream.set_read_timeout(Some(Duration::from_secs(2))).ok()?;
    // Length, Metadata, version 1, correlation id, client id, no topics.
    stream.write_all(b"\0\0\0\x13\0\x03\0\x01\0\0\0\x01\0\x05probe\0\0\0\0").ok()?;
    let mut head = [0; 12];
    stream.read_exact(&mut head).ok()?;
    let [.., a, b, c, d] = head;
    usize::try_from(u32::from_be_bytes([a, b, c, d])).ok()
}
