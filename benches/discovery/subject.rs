//! Tidegate over a feed, and what it has at the end.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use serde_json::Value;

use crate::bed::{Tidegate, WorkDir, free_port, http, wait_until};
use crate::feed::{Feed, Kind};
use crate::services::Services;

pub(crate) struct Subject {
    pub(crate) tidegate: Tidegate,
    pub(crate) address: SocketAddr,
    pub(crate) feed: Feed,
    _files: WorkDir,
}

impl Subject {
    /// Starts a feed of these services and Tidegate over it, and waits until it has them all.
    pub(crate) fn start(kind: Kind, services: &Services) -> Self {
        let feed = Feed::start(kind, services);
        let files = WorkDir::new("discovery");
        let kubeconfig = files.write("kubeconfig", feed.kubeconfig());
        let (admin, port) = (free_port(), free_port());
        let tidegate = Tidegate::start_unready(&format!(
            "[admin]\nlisten = \"127.0.0.1:{admin}\"\n[discovery]\nlisten = \"127.0.0.1:{port}\"\n\
             max_requests_per_second_per_client = 1000000\n[[discovery.source]]\nkind = \"kubernetes\"\n\
             cluster = \"east\"\nkubeconfig = {kubeconfig:?}\ntraffic_policies = false\n"
        ));
        wait_until(Duration::from_secs(120), "all pools", || {
            tidegate.get("/readyz/discovery").status == 200
                && tidegate.metric("tidegate_discovery_pools") == services.len() as f64
        });
        Self { tidegate, address: ([127, 0, 0, 1], port).into(), feed, _files: files }
    }

    /// Every pool, endpoint by endpoint, is what the feed says.
    pub(crate) fn check(&self, services: &Services) {
        let answer = http::get(self.address, "/v1/delta").unwrap();
        assert_eq!(answer.status, 200, "{}", answer.head);
        let all: Value = serde_json::from_slice(&answer.body).unwrap();
        let line = |it: &Value| format!("{} {}", it["address"].as_str().unwrap(), it["state"].as_str().unwrap());
        let of_pool = |pool: &Value| {
            let mut lines: Vec<String> = pool["endpoints"].as_array().unwrap().iter().map(line).collect();
            lines.sort();
            (pool["id"].as_str().unwrap().to_owned(), lines)
        };
        let found: BTreeMap<String, Vec<String>> = all["changed"].as_array().unwrap().iter().map(of_pool).collect();
        let wanted: BTreeMap<String, Vec<String>> =
            services.all().map(|service| (service.pool(), service.endpoints())).collect();
        for (id, endpoints) in &wanted {
            assert_eq!(found.get(id), Some(endpoints), "{id}");
        }
        assert_eq!(found.len(), wanted.len(), "pools that nobody has written");
    }
}
