//! Envoy with `deploy/envoy/hosts.yaml`: listeners, routes, clusters and endpoints over one stream.

use std::net::SocketAddr;
use std::process::Command;
use std::time::Duration;

use serde_json::Value;

use crate::bed::process::Process;
use crate::bed::{WorkDir, free_port, http, poll, require_gateways};
use crate::gateway::Gateway;
use crate::plane::SOON;

/// A running Envoy.
pub(crate) struct Envoy {
    process: Process,
    admin: SocketAddr,
    listener: SocketAddr,
    files: WorkDir,
}

/// Where it writes down requests, in its own directory.
const ACCESS_LOG: &str = "access.log";

/// The keys of `[discovery]` that give Envoy a listener, and where that is.
pub(crate) fn listener() -> (String, SocketAddr) {
    let address = SocketAddr::from(([127, 0, 0, 1], free_port()));
    (format!("envoy_listeners = [\"{address}\"]\nenvoy_access_log = \"{ACCESS_LOG}\""), address)
}

impl Envoy {
    /// Starts it over a server whose configuration gives it this listener.
    pub(crate) fn start(server: SocketAddr, listener: SocketAddr, kind: &str) -> Self {
        let home = require_gateways().home("envoy");
        let program = std::fs::read_to_string(home.join("program")).unwrap();
        let mut text =
            std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/deploy/envoy/hosts.yaml")).unwrap();
        let admin = free_port();
        for (sample, own) in [
            ("port_value: 8500 ", format!("port_value: {} ", server.port())),
            ("port_value: 9901 ", format!("port_value: {admin} ")),
            ("api_type: DELTA_GRPC", format!("api_type: {kind}")),
            // A peer on loopback needs no token.
            ("      initial_metadata:\n      - { key: authorization, value: Bearer TOKEN }\n", String::new()),
        ] {
            assert!(text.contains(sample), "the sample has no {sample:?}");
            text = text.replace(sample, &own);
        }
        let files = WorkDir::new("envoy");
        let config = files.write("envoy.yaml", &text);
        let mut command = Command::new(program.trim());
        command.arg("-c").arg(&config).args(["--disable-hot-restart", "--concurrency", "1", "-l", "warning"]);
        command.args(["--file-flush-interval-msec", "100"]).current_dir(files.path());
        let process = Process::start(&command, files.path(), "envoy");
        Self { process, admin: SocketAddr::from(([127, 0, 0, 1], admin)), listener, files }
    }

    /// What its admin interface says.
    pub(crate) fn admin(&self, path: &str) -> String {
        http::get(self.admin, path).map(|answer| answer.text()).unwrap_or_default()
    }

    /// The sum of its counters of this name.
    pub(crate) fn stat(&self, name: &str) -> u64 {
        let text = self.admin(&format!("/stats?filter={name}"));
        text.lines().filter_map(|line| line.rsplit_once(": ")?.1.parse::<u64>().ok()).sum()
    }

    /// Waits until it answers for a host with this status.
    pub(crate) fn wait_status(&self, host: &str, path: &str, status: u16) {
        wait_status(self, host, path, status);
    }

    /// Its resident memory.
    pub(crate) fn memory(&self) -> u64 {
        let text = std::fs::read_to_string(format!("/proc/{}/status", self.process.id())).unwrap();
        let line = text.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
        line.trim().strip_suffix(" kB").unwrap().trim().parse::<u64>().unwrap() * 1024
    }

    /// The dump of its configuration.
    pub(crate) fn dump(&self) -> Value {
        serde_json::from_str(&self.admin("/config_dump")).unwrap_or_default()
    }
}

/// Waits until a gateway answers for a host and path with this status.
pub(crate) fn wait_status(gateway: &dyn Gateway, host: &str, path: &str, status: u16) {
    let mut last = None;
    let reached = poll(SOON, || {
        last = Some(ask(gateway, host, path));
        (last.as_ref()?.0 == status).then_some(())
    });
    reached.unwrap_or_else(|| panic!("{host}{path}: not {status} but {last:?}\n{}", gateway.log()));
}

/// One request for a host: status and body; 0 where there is no answer.
pub(crate) fn ask(gateway: &dyn Gateway, host: &str, path: &str) -> (u16, String) {
    let patience = Duration::from_secs(20);
    let exchange = || -> std::io::Result<(u16, String)> {
        use std::io::{Read as _, Write as _};
        let mut stream = std::net::TcpStream::connect_timeout(&gateway.address(), patience)?;
        stream.set_read_timeout(Some(patience))?;
        write!(stream, "GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n")?;
        let mut text = String::new();
        stream.read_to_string(&mut text)?;
        let status = text.get(9..12).and_then(|code| code.parse().ok()).unwrap_or_default();
        Ok((status, text.split_once("\r\n\r\n").map(|(_, body)| body.to_owned()).unwrap_or_default()))
    };
    exchange().unwrap_or_else(|error| (0, error.to_string()))
}

impl Gateway for Envoy {
    fn address(&self) -> SocketAddr {
        self.listener
    }

    fn name(&self) -> &'static str {
        "edge-1"
    }

    fn sent_to(&self, id: &str) -> Option<String> {
        // In its own format the user agent is one field, and the last one is the endpoint.
        let (id, path) = (format!("\"{id}\""), self.files.path().join(ACCESS_LOG));
        let found = || {
            let log = std::fs::read_to_string(&path).ok()?;
            let line = log.lines().rfind(|line| line.contains(&id))?;
            line.trim_end_matches('"').rsplit('"').next().map(str::to_owned)
        };
        poll(Duration::from_secs(5), found)
    }

    fn log(&self) -> String {
        let log = self.process.stderr();
        let tail: Vec<&str> = log.lines().rev().take(30).collect();
        tail.into_iter().rev().collect::<Vec<_>>().join("\n")
    }
}
