//! A Tidegate whose pools are a file, agents beside it, and a server that answers badly in its place.

use std::fmt::Write as _;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use serde_json::Value;

use crate::bed::process::Process;
use crate::bed::{Tidegate, WorkDir, free_port, http, poll, wait_until};

/// Generous: other suites may have the processors.
pub(crate) const SOON: Duration = Duration::from_secs(40);
/// Clients of the suites.
pub(crate) const CLIENTS: usize = 200;

/// Tidegate with pools of a file.
pub(crate) struct Origin {
    pub(crate) tidegate: Tidegate,
    pub(crate) address: SocketAddr,
    file: PathBuf,
    _files: WorkDir,
}

/// A pool's endpoints, by its id.
pub(crate) type Pools<'a> = &'a [(&'a str, Vec<SocketAddr>)];

impl Origin {
    /// Starts it with these pools.
    pub(crate) fn start(pools: Pools<'_>) -> Self {
        let files = WorkDir::new("origin");
        let file = files.path().join("pools.toml");
        write(&file, pools);
        let (listen, admin) = (free_port(), free_port());
        let address = SocketAddr::from(([127, 0, 0, 1], listen));
        let text = format!(
            "[admin]\nlisten = \"127.0.0.1:{admin}\"\n[discovery]\nlisten = \"{address}\"\n\
             [[discovery.source]]\nkind = \"file\"\npath = {file:?}\n"
        );
        let mut tidegate = Tidegate::spawn_in(WorkDir::new("tidegate"), &text, Vec::new());
        tidegate.wait_listening();
        let origin = Self { tidegate, address, file, _files: files };
        origin.wait_synced();
        origin
    }

    /// Waits until its pools are told.
    pub(crate) fn wait_synced(&self) {
        wait_until(SOON, "pools of the file", || {
            http::get(self.address, "/v1/pools").is_ok_and(|answer| answer.status == 200)
        });
    }

    /// Writes other pools.
    pub(crate) fn set(&self, pools: Pools<'_>) {
        write(&self.file, pools);
    }

    /// The gateway of this name as `/v1/gateways` has it; `null` for one that was not heard of.
    pub(crate) fn gateway(&self, name: &str) -> Value {
        let answer = http::get(self.address, "/v1/gateways");
        let Ok(answer) = answer else { return Value::Null };
        let all: Value = serde_json::from_slice(&answer.body).unwrap_or_default();
        let found = all["gateways"].as_array().and_then(|all| all.iter().find(|it| it["name"] == name));
        found.cloned().unwrap_or_default()
    }

    /// Waits until a pool is published with so many endpoints.
    pub(crate) fn wait_published(&self, pool: &str, endpoints: usize) {
        wait_until(SOON, "a published pool", || self.endpoints(pool) == Some(endpoints));
    }

    fn endpoints(&self, pool: &str) -> Option<usize> {
        let answer = http::get(self.address, &format!("/v1/pools/{pool}")).ok()?;
        let body: Value = serde_json::from_slice(&answer.body).ok()?;
        Some(body["endpoints"].as_array()?.len())
    }

    /// Waits until a gateway says that it serves a pool as it is published now, with so many endpoints.
    pub(crate) fn wait_served(&self, gateway: &str, pool: &str, endpoints: usize) {
        let served = || {
            let published = self.endpoints(pool)? == endpoints;
            let now = &self.gateway(gateway)["pools"][pool]["current"];
            (published && *now == Value::Bool(true)).then_some(())
        };
        poll(SOON, served).unwrap_or_else(|| panic!("{gateway} does not serve {pool}: {}", self.gateway(gateway)));
    }
}

fn write(path: &Path, pools: Pools<'_>) {
    let mut text = String::from("# pools\n");
    for (id, endpoints) in pools {
        let _ = writeln!(text, "[[pool]]\nid = \"{id}\"\nendpoints = [");
        for at in endpoints {
            let _ = writeln!(text, "  {{ address = \"{}\", port = {} }},", at.ip(), at.port());
        }
        text.push_str("]\n");
    }
    let new = path.with_extension("new");
    std::fs::write(&new, text).unwrap();
    std::fs::rename(new, path).unwrap();
}

/// A file of `deploy/`, in which what belongs to the sample is replaced; each must be in it.
pub(crate) fn sample(path: &str, replaced: &[(&str, &str)]) -> String {
    let path = format!("{}/deploy/{path}", env!("CARGO_MANIFEST_DIR"));
    let mut text = std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{path}: {e}"));
    for (sample, own) in replaced {
        assert!(text.contains(sample), "{path} has no {sample:?}");
        text = text.replace(sample, own);
    }
    text
}

/// Starts `tidegate` with these arguments.
pub(crate) fn tidegate(args: &[&str], directory: &WorkDir, name: &str) -> Process {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tidegate"));
    command.args(args).args(["--log-level", "info"]).current_dir(directory.path());
    Process::start(&command, directory.path(), name)
}

/// An agent with a file, `agent.toml` in its directory, and an admin address.
pub(crate) struct Agent {
    pub(crate) process: Process,
    pub(crate) admin: SocketAddr,
}

impl Agent {
    /// Starts the command with this file.
    pub(crate) fn start(command: &[&str], config: String, files: &WorkDir) -> Self {
        let admin = SocketAddr::from(([127, 0, 0, 1], free_port()));
        let path = files.write("agent.toml", Self::config(admin, config)).display().to_string();
        let process = tidegate(&[command, &["--config", &path]].concat(), files, "agent");
        Self { process, admin }
    }

    fn config(admin: SocketAddr, text: String) -> String {
        text + &format!("\n[admin]\nlisten = \"{admin}\"\n")
    }

    /// Gives it another file and tells it so.
    pub(crate) fn reload(&mut self, config: String, files: &WorkDir) {
        files.write("agent.toml", Self::config(self.admin, config));
        self.process.signal("HUP");
    }

    /// The sum of a metric's series.
    pub(crate) fn metric(&self, name: &str) -> f64 {
        let text = http::get(self.admin, "/metrics").map(|answer| answer.text()).unwrap_or_default();
        let series =
            text.lines().filter(|line| line.strip_prefix(name).is_some_and(|rest| rest.starts_with([' ', '{'])));
        series.filter_map(|line| line.rsplit_once(' ')?.1.parse::<f64>().ok()).sum()
    }

    /// Whether it is ready.
    pub(crate) fn is_ready(&self) -> bool {
        http::get(self.admin, "/readyz").is_ok_and(|answer| answer.status == 200)
    }
}

/// How a server answers that is no good Tidegate.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Badly {
    /// Bytes that are no HTTP.
    Noise,
    /// 200 and a body that is no JSON.
    Garbage,
    /// 200 and JSON that is cut.
    Cut,
    /// 503, as before the first sync.
    Unsynced,
    /// 200 and no pool at all: a Tidegate with other sources.
    NoPools,
}

/// A server that answers every request badly, until it is dropped.
pub(crate) struct BadServer {
    over: Arc<AtomicBool>,
    address: SocketAddr,
    pub(crate) asked: Arc<std::sync::atomic::AtomicU64>,
    thread: Option<JoinHandle<()>>,
}

impl BadServer {
    /// Begins at this address.
    pub(crate) fn start(address: SocketAddr, badly: Badly) -> Self {
        let listener = poll(SOON, || TcpListener::bind(address).ok()).expect("the address is free again");
        let over = Arc::new(AtomicBool::new(false));
        let asked = Arc::new(std::sync::atomic::AtomicU64::new(0));
        let thread = std::thread::spawn({
            let (over, asked) = (over.clone(), asked.clone());
            move || {
                for stream in listener.incoming() {
                    if over.load(Ordering::SeqCst) {
                        return;
                    }
                    let Ok(mut stream) = stream else { continue };
                    let mut head = [0; 4096];
                    let _ = stream.set_read_timeout(Some(Duration::from_secs(1)));
                    let _ = stream.read(&mut head);
                    asked.fetch_add(1, Ordering::SeqCst);
                    let (status, body) = match badly {
                        Badly::Noise => {
                            let _ = stream.write_all(&[0, 255, 7, 13, 10, 13, 10]);
                            continue;
                        }
                        Badly::Garbage => ("200 OK", "<html>welcome</html>"),
                        Badly::Cut => ("200 OK", r#"{"index":"x:1","changed":[],"remo"#),
                        Badly::Unsynced => ("503 Service Unavailable", r#"{"error":"not in step yet"}"#),
                        Badly::NoPools => ("200 OK", r#"{"index":"x:1","changed":[],"removed":[]}"#),
                    };
                    let length = body.len();
                    let _ = write!(
                        stream,
                        "HTTP/1.1 {status}\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{body}"
                    );
                }
            }
        });
        Self { over, address, asked, thread: Some(thread) }
    }

    /// Waits until it was asked a few times more.
    pub(crate) fn wait_asked(&self) {
        let before = self.asked.load(Ordering::SeqCst);
        wait_until(SOON, "questions to a server that answers badly", || self.asked.load(Ordering::SeqCst) > before + 3);
    }
}

impl Drop for BadServer {
    fn drop(&mut self) {
        self.over.store(true, Ordering::SeqCst);
        // Wakes the one who accepts.
        let _ = std::net::TcpStream::connect(self.address);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// A runtime in the network namespace of the calling thread.
pub(crate) fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap()
}

/// The value that so many of a hundred are not above.
pub(crate) fn quantile(times: &mut [Duration], percent: usize) -> Duration {
    times.sort();
    times[(times.len() * percent / 100).min(times.len() - 1)]
}
