//! Two services, as the simulated API server tells of them: `web` in HTTP/1.1 and `rpc` in h2c. Their four endpoints are one
//! back end at four addresses; of these some are ready.

use std::net::Ipv4Addr;
use std::sync::{Mutex, MutexGuard};

use serde_json::json;

/// Where the back end listens.
pub(crate) const ADDRESSES: [Ipv4Addr; 4] = [
    Ipv4Addr::new(127, 0, 0, 1),
    Ipv4Addr::new(127, 0, 0, 2),
    Ipv4Addr::new(127, 0, 0, 3),
    Ipv4Addr::new(127, 0, 0, 4),
];

/// Both services.
pub(crate) struct Services(Vec<Mutex<Service>>);

/// One of them.
pub(crate) struct Service {
    name: &'static str,
    port: u16,
    app_protocol: Option<&'static str>,
    /// By the order of [`ADDRESSES`].
    ready: [bool; ADDRESSES.len()],
}

// === impl Services ===

impl Services {
    pub(crate) fn new(web: u16, rpc: u16) -> Self {
        let ready = [true; ADDRESSES.len()];
        let web = Service { name: "web", port: web, app_protocol: None, ready };
        let rpc = Service { name: "rpc", port: rpc, app_protocol: Some("kubernetes.io/h2c"), ready };
        Self(vec![Mutex::new(web), Mutex::new(rpc)])
    }

    pub(crate) fn get(&self, number: usize) -> MutexGuard<'_, Service> {
        self.0[number].lock().unwrap()
    }

    pub(crate) fn all(&self) -> impl Iterator<Item = MutexGuard<'_, Service>> {
        self.0.iter().map(|service| service.lock().unwrap())
    }
}

// === impl Service ===

impl Service {
    /// Two of the four, other ones at each turn: everybody leaves and comes back in two turns.
    pub(crate) fn swap(&mut self, turn: usize) {
        for (at, ready) in self.ready.iter_mut().enumerate() {
            *ready = (at + turn) % ADDRESSES.len() < 2;
        }
    }

    /// All four.
    pub(crate) fn restore(&mut self) {
        self.ready = [true; ADDRESSES.len()];
    }

    /// The slice as of now.
    pub(crate) fn object(&self, version: &str) -> String {
        let endpoints = ADDRESSES.iter().zip(self.ready).filter(|(_, ready)| *ready);
        let endpoints: Vec<_> =
            endpoints.map(|(address, _)| json!({"addresses": [address], "conditions": {"ready": true}})).collect();
        json!({
            "kind": "EndpointSlice", "apiVersion": "discovery.k8s.io/v1",
            "metadata": {
                "name": format!("{}-1", self.name), "namespace": "bench", "resourceVersion": version,
                "labels": {"kubernetes.io/service-name": self.name},
            },
            "addressType": "IPv4", "endpoints": endpoints,
            "ports": [{"name": "http", "port": self.port, "protocol": "TCP", "appProtocol": self.app_protocol}],
        })
        .to_string()
    }
}
