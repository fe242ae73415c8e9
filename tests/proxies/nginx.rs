//! nginx with `deploy/openresty/tidegate.lua`, from the configuration beside it.

use std::net::SocketAddr;
use std::process::Command;
use std::time::Duration;

use serde_json::Value;

use crate::bed::process::Process;
use crate::bed::{WorkDir, free_port, http, poll, require_gateways};
use crate::gateway::Gateway;

/// Generous: other suites may have the processors.
const SOON: Duration = Duration::from_secs(60);

/// A running nginx with two workers.
pub(crate) struct Nginx {
    process: Process,
    all_hosts: SocketAddr,
    one_pool: SocketAddr,
    files: WorkDir,
}

impl Nginx {
    /// Starts it over these servers, with a state file.
    pub(crate) fn start(servers: &[SocketAddr]) -> Self {
        require_gateways();
        let deploy = concat!(env!("CARGO_MANIFEST_DIR"), "/deploy/openresty");
        let mut text = std::fs::read_to_string(format!("{deploy}/nginx.conf")).unwrap();
        let files = WorkDir::new("nginx");
        let home = files.path().to_str().unwrap();
        let (all_hosts, one_pool) = (free_port(), free_port());
        let servers: Vec<String> = servers.iter().map(|it| format!("\"http://{it}\"")).collect();
        for (sample, own) in [
            ("worker_processes auto;", "worker_processes 2; user root; daemon off;".to_owned()),
            ("/run/nginx.pid", format!("{home}/pid")),
            ("/var/log/nginx/error.log", format!("{home}/error.log warn")),
            ("\"http://127.0.0.1:8500\"", servers.join(", ")),
            ("/etc/nginx/tidegate/?.lua", format!("{deploy}/?.lua")),
            ("-- state_file = \"/var/lib/nginx/tidegate.pools\"", format!("state_file = \"{home}/state\"")),
            ("listen 8080", format!("listen 127.0.0.1:{all_hosts}")),
            ("listen 8081", format!("listen 127.0.0.1:{one_pool}")),
            (
                "access_log off;",
                format!(
                    "log_format sent '$http_x_request $upstream_addr'; access_log {home}/access.log sent; keepalive_requests 1000000; client_body_temp_path {home}/b; proxy_temp_path {home}/p; \
                 fastcgi_temp_path {home}/f; uwsgi_temp_path {home}/u; scgi_temp_path {home}/s;"
                ),
            ),
        ] {
            assert!(text.contains(sample), "the sample has no {sample:?}");
            text = text.replace(sample, &own);
        }
        files.write("nginx.conf", text);
        let address = |port| SocketAddr::from(([127, 0, 0, 1], port));
        let process = launch(&files);
        let nginx = Self { process, all_hosts: address(all_hosts), one_pool: address(one_pool), files };
        nginx.wait_up();
        nginx
    }

    fn wait_up(&self) {
        poll(SOON, || self.try_status().map(drop)).unwrap_or_else(|| panic!("nginx does not answer\n{}", self.log()));
    }

    fn try_status(&self) -> Option<Value> {
        serde_json::from_slice(&http::get(self.one_pool, "/tidegate-status").ok()?.body).ok()
    }

    /// A pool as it sees it; null for none.
    pub(crate) fn pool(&self, id: &str) -> Value {
        let answer = http::get(self.one_pool, &format!("/tidegate-status?pool={id}")).unwrap();
        serde_json::from_slice(&answer.body).unwrap_or_default()
    }

    /// Waits until its status is as wanted.
    pub(crate) fn wait(&self, what: &str, wanted: impl Fn(&Value) -> bool) {
        let mut last = Value::Null;
        let reached = poll(SOON, || {
            last = self.try_status()?;
            wanted(&last).then_some(())
        });
        reached.unwrap_or_else(|| panic!("not {what}: {last}\n{}", self.log()));
    }

    /// Lets it read its configuration anew. Gives the process ids of the workers that are to end.
    pub(crate) fn reload(&mut self) -> Vec<String> {
        let before = self.workers();
        self.process.signal("HUP");
        before
    }

    /// Its workers, those that are ending among them.
    pub(crate) fn workers(&self) -> Vec<String> {
        let id = self.process.id();
        let children = std::fs::read_to_string(format!("/proc/{id}/task/{id}/children")).unwrap_or_default();
        children.split_whitespace().map(str::to_owned).collect()
    }

    /// Ends it and starts it again: its memory is gone, its state file is not.
    pub(crate) fn restart(&mut self) {
        self.process.terminate(SOON);
        self.process = launch(&self.files);
        self.wait_up();
    }

    /// The main process, with its workers' memory in bytes: each worker's own and the shared dict once.
    pub(crate) fn memory(&self) -> u64 {
        let of = |pid: &str| {
            let text = std::fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).unwrap_or_default();
            let line = text.lines().find_map(|line| line.strip_prefix("Pss:").map(str::to_owned));
            line.and_then(|it| it.trim().strip_suffix(" kB")?.trim().parse::<u64>().ok()).unwrap_or_default() * 1024
        };
        self.workers().iter().map(|pid| of(pid)).sum::<u64>() + of(&self.process.id().to_string())
    }
}

fn launch(files: &WorkDir) -> Process {
    let mut command = Command::new("nginx");
    command.arg("-c").arg(files.path().join("nginx.conf")).arg("-e").arg(files.path().join("start.log"));
    Process::start(&command, files.path(), "nginx")
}

impl Gateway for Nginx {
    fn address(&self) -> SocketAddr {
        self.all_hosts
    }

    fn name(&self) -> &'static str {
        "edge-1"
    }

    fn sent_to(&self, id: &str) -> Option<String> {
        let log = std::fs::read_to_string(self.files.path().join("access.log")).ok()?;
        let line = log.lines().find_map(|line| line.strip_prefix(id)?.strip_prefix(' '))?;
        line.rsplit(", ").next().map(str::to_owned)
    }

    fn log(&self) -> String {
        let log = std::fs::read_to_string(self.files.path().join("error.log")).unwrap_or_default();
        let tail: Vec<&str> = log.lines().rev().take(30).collect();
        format!("{}{}", self.process.stderr(), tail.into_iter().rev().collect::<Vec<_>>().join("\n"))
    }
}
