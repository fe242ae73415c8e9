//! A gateway under test: its configuration in parts, its pools in a file that tests rewrite.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::net::SocketAddr;
use std::time::Duration;

use serde_json::Value;

use crate::backend::Backend;
use crate::bed::{Tidegate, WorkDir, free_port, http, poll, wait_until};
use crate::curl::{Answer, curl};

/// Generous: other suites may have the processors.
pub(crate) const SOON: Duration = Duration::from_secs(20);

/// What a gateway is started with.
pub(crate) struct Setup {
    keys: String,
    listener: String,
    sections: String,
    pools: Pools,
    discovery: String,
    address: SocketAddr,
}

/// Pools of the file, endpoints as TOML.
type Pools = BTreeMap<String, Vec<String>>;

/// A running gateway.
pub(crate) struct Gateway {
    pub(crate) tidegate: Tidegate,
    /// Its first listener.
    pub(crate) address: SocketAddr,
    pools: Pools,
    files: WorkDir,
    config: String,
}

/// An endpoint of a pool's file.
pub(crate) fn endpoint(address: SocketAddr, further: &str) -> String {
    format!("{{ address = \"{}\", port = {}{further} }}", address.ip(), address.port())
}

// === impl Setup ===

impl Setup {
    /// With one listener on loopback, without routes and pools.
    pub(crate) fn new() -> Self {
        Self {
            keys: String::new(),
            listener: String::new(),
            sections: String::new(),
            pools: Pools::new(),
            discovery: String::new(),
            address: SocketAddr::from(([127, 0, 0, 1], free_port())),
        }
    }

    /// With the first back end as pool `stable` and the others as `canary`, and routes that split between them: `/shares` by share,
    /// `/canary` by a header, `/sticky` by a cookie.
    pub(crate) fn splitting(backends: &[Backend]) -> Self {
        let split = |name: &str, rest: &str| format!("name = \"{name}\"\npath_prefix = \"/{name}\"\n{rest}");
        let shares = "split = [{ pool = \"stable\", share = 90 }, { pool = \"canary\", share = 10 }]";
        let header = "split = [{ pool = \"canary\", share = 0, match = { header = \"X-Canary\", value = \"yes\" } }, \
                      { pool = \"stable\", share = 100 }]";
        let cookie = "split_by = \"cookie:user\"\n\
                      split = [{ pool = \"stable\", share = 50 }, { pool = \"canary\", share = 50 }]";
        Self::new()
            .pool("stable", &backends[..1])
            .pool("canary", &backends[1..])
            .route(&split("shares", shares))
            .route(&split("canary", header))
            .route(&split("sticky", cookie))
    }

    /// With the pool `web` of these back ends, and one route to it.
    pub(crate) fn over(backends: &[Backend]) -> Self {
        Self::new().pool("web", backends)
    }

    /// Listening at this address, which another may have as well.
    pub(crate) fn at(mut self, address: SocketAddr) -> Self {
        self.address = address;
        self
    }

    /// Where it will listen.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Further keys of `[gateway]`.
    pub(crate) fn keys(mut self, keys: &str) -> Self {
        let _ = writeln!(self.keys, "{keys}");
        self
    }

    /// Further keys of the listener.
    pub(crate) fn listener(mut self, keys: &str) -> Self {
        let _ = writeln!(self.listener, "{keys}");
        self
    }

    /// A pool of back ends by HTTP.
    pub(crate) fn pool(self, id: &str, backends: &[Backend]) -> Self {
        let endpoints = backends.iter().map(|backend| endpoint(backend.http, "")).collect();
        self.endpoints(id, endpoints)
    }

    /// A pool of back ends by gRPC.
    pub(crate) fn grpc_pool(self, id: &str, backends: &[Backend]) -> Self {
        let endpoints = backends.iter().map(|backend| endpoint(backend.grpc, "")).collect();
        self.endpoints(id, endpoints).section(&format!("[[gateway.pool]]\nid = \"{id}\"\nprotocol = \"http2\"\n"))
    }

    /// A pool of endpoints as they stand in the file.
    pub(crate) fn endpoints(mut self, id: &str, endpoints: Vec<String>) -> Self {
        self.pools.insert(id.to_owned(), endpoints);
        self
    }

    /// Further sections: routes, and what pools are run by.
    pub(crate) fn section(mut self, text: &str) -> Self {
        let _ = writeln!(self.sections, "{text}");
        self
    }

    /// A route with these keys.
    pub(crate) fn route(self, keys: &str) -> Self {
        self.section(&format!("[[gateway.route]]\n{keys}\n"))
    }

    /// Further sections of discovery: other sources.
    pub(crate) fn source(mut self, text: &str) -> Self {
        let _ = writeln!(self.discovery, "{text}");
        self
    }

    /// Starts it and waits until it is ready.
    pub(crate) fn start(self) -> Gateway {
        let mut gateway = self.start_unready();
        gateway.wait_ready();
        gateway
    }

    /// Starts it and waits until its admin port answers.
    pub(crate) fn start_unready(mut self) -> Gateway {
        if self.pools.is_empty() && self.discovery.is_empty() {
            // Pools must be able to come from somewhere, even if no route needs one.
            self.pools.insert("none".to_owned(), Vec::new());
        }
        let files = WorkDir::new("gateway");
        let address = self.address;
        let path = files.path().join("pools.toml");
        let mut config = format!("[admin]\nlisten = \"127.0.0.1:{}\"\n[discovery]\n", free_port());
        let _ = writeln!(config, "listen = \"127.0.0.1:{}\"\n{}", free_port(), self.discovery);
        if !self.pools.is_empty() {
            let _ = writeln!(config, "[[discovery.source]]\nkind = \"file\"\npath = {path:?}");
        }
        // One thread, so that what is dealt out is dealt out by one; tests of several say so.
        let threads = if self.keys.contains("threads = ") { "" } else { "threads = 1\n" };
        let _ = writeln!(config, "[gateway]\n{threads}{}", self.keys);
        let _ = writeln!(config, "[[gateway.listener]]\nlisten = \"{address}\"\n{}", self.listener);
        config.push_str(&self.sections);
        write_pools(&files, &self.pools);
        let mut tidegate = Tidegate::spawn(&config);
        tidegate.wait_listening();
        Gateway { tidegate, address, pools: self.pools, files, config }
    }
}

fn write_pools(files: &WorkDir, pools: &Pools) {
    let pool = |(id, endpoints): (&String, &Vec<String>)| {
        format!("[[pool]]\nid = \"{id}\"\nendpoints = [{}]\n", endpoints.join(", "))
    };
    let text: String = pools.iter().map(pool).collect();
    files.write("pools.new", text);
    // In one step, as a mounted ConfigMap is replaced.
    std::fs::rename(files.path().join("pools.new"), files.path().join("pools.toml")).expect("a rename");
}

// === impl Gateway ===

impl Gateway {
    /// Waits until it says that it is ready.
    pub(crate) fn wait_ready(&mut self) {
        let tidegate = &mut self.tidegate;
        let ready = poll(SOON, || {
            if let Some(status) = tidegate.exited() {
                panic!("tidegate ended while it started: {status}\n{}\n{}", tidegate.log(), self.config);
            }
            (tidegate.get("/readyz/gateway").status == 200).then_some(())
        });
        let why = || self.tidegate.get("/readyz/gateway").text();
        ready.unwrap_or_else(|| panic!("not ready: {}\n{}", why(), self.tidegate.log()));
    }

    /// The URL of a path, by HTTP.
    pub(crate) fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    /// curl to this path, with further arguments.
    pub(crate) fn curl(&self, path: &str, arguments: &[&str]) -> Answer {
        let url = self.url(path);
        curl(&[arguments, &[&url]].concat())
    }

    /// curl to a path, as a browser would that asks for this host.
    pub(crate) fn curl_host(&self, host: &str, path: &str, arguments: &[&str]) -> Answer {
        let host = format!("Host: {host}");
        self.curl(path, &[&["-H", &host], arguments].concat())
    }

    /// Gives a pool these endpoints, and waits until the gateway knows.
    pub(crate) fn set_pool(&mut self, id: &str, backends: &[&Backend]) {
        self.set_endpoints(id, backends.iter().map(|backend| endpoint(backend.http, "")).collect());
    }

    /// Gives a pool these endpoints, as they stand in the file, and waits until the gateway knows.
    pub(crate) fn set_endpoints(&mut self, id: &str, endpoints: Vec<String>) {
        let mut wanted: Vec<u64> = endpoints.iter().map(|it| port_of(it)).collect();
        wanted.sort_unstable();
        self.pools.insert(id.to_owned(), endpoints);
        write_pools(&self.files, &self.pools);
        wait_until(SOON, "the new endpoints in /debug/pools", || {
            let known = self.endpoints_of(id);
            let ready = known.iter().filter(|it| it["state"] != "draining");
            let mut ports: Vec<u64> = ready.filter_map(|it| it["port"].as_u64()).collect();
            ports.sort_unstable();
            ports == wanted
        });
    }

    /// What the gateway thinks of all its pools.
    pub(crate) fn debug(&self) -> Value {
        let answer = self.tidegate.get("/debug/pools");
        serde_json::from_slice(&answer.body).unwrap_or_else(|e| panic!("{e}: {}", answer.text()))
    }

    /// A pool as the gateway sees it.
    pub(crate) fn debug_pool(&self, id: &str) -> Value {
        let debug = self.debug();
        let pools = debug["gateway"]["pools"].as_array().or_else(|| debug["pools"].as_array()).cloned();
        let pools = pools.unwrap_or_else(|| panic!("no pools in {debug}"));
        pools.into_iter().find(|pool| pool["id"] == id).unwrap_or_default()
    }

    /// What is thought of one endpoint of a pool (`serving`, `unhealthy`, `ejected`, `draining` …).
    pub(crate) fn state_of(&self, id: &str, address: SocketAddr) -> String {
        let endpoints = self.endpoints_of(id);
        let it = endpoints.iter().find(|it| it["address"] == address.ip().to_string() && it["port"] == address.port());
        it.and_then(|it| it["state"].as_str()).unwrap_or("absent").to_owned()
    }

    fn endpoints_of(&self, id: &str) -> Vec<Value> {
        self.debug_pool(id)["endpoints"].as_array().cloned().unwrap_or_default()
    }

    /// Rewrites part of its configuration and reloads it.
    pub(crate) fn reload(&mut self, from: &str, to: &str) {
        self.rewrite(from, to);
        self.tidegate.signal("HUP");
    }

    /// The same by the admin address; gives the status and the answer.
    pub(crate) fn reload_now(&mut self, from: &str, to: &str) -> (u16, Value) {
        self.rewrite(from, to);
        let answer = http::request(self.tidegate.admin_addr(), "POST", "/v1/reload", "", "").expect("an answer");
        (answer.status, serde_json::from_slice(&answer.body).unwrap_or_else(|e| panic!("{e}: {}", answer.text())))
    }

    fn rewrite(&mut self, from: &str, to: &str) {
        assert!(self.config.contains(from), "{from:?} is not in the configuration");
        self.config = self.config.replace(from, to);
        std::fs::write(self.tidegate.directory().join("tidegate.toml"), &self.config).expect("a file");
    }

    /// Requests by their code, of all routes and pools.
    pub(crate) fn requests_with(&self, label: &str) -> f64 {
        self.tidegate.metric_with("tidegate_gateway_requests_total", label)
    }

    /// The failures with a reason, of `tidegate_gateway_failures_total`.
    pub(crate) fn failures(&self, reason: &str) -> f64 {
        self.tidegate.metric_with("tidegate_gateway_failures_total", &format!("reason=\"{reason}\""))
    }
}

fn port_of(endpoint: &str) -> u64 {
    let port = endpoint.split("port = ").nth(1).unwrap_or_default();
    let digits: String = port.chars().take_while(char::is_ascii_digit).collect();
    digits.parse().expect("a port")
}
