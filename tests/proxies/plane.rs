//! Tidegate with a file or a cluster as its source.

use std::net::SocketAddr;
use std::time::Duration;

use serde_json::Value;

use crate::backend::Backend;
use crate::bed::{Tidegate, WorkDir, free_port, http, poll};
use crate::kube::Cluster;

/// Generous: other suites may have the processors.
pub(crate) const SOON: Duration = Duration::from_secs(60);

/// A running traffic plane.
pub(crate) struct Plane {
    pub(crate) tidegate: Tidegate,
    pub(crate) address: SocketAddr,
    files: WorkDir,
}

impl Plane {
    /// Over a file with these pools.
    pub(crate) fn over_file(pools: &str, keys: &str) -> Self {
        let files = WorkDir::new("pools");
        let path = files.write("pools.toml", pools);
        Self::start(files, &format!("{keys}\n[[discovery.source]]\nkind = \"file\"\npath = {path:?}\n"))
    }

    /// Over a cluster, which it calls `east`.
    pub(crate) fn over(cluster: &Cluster, keys: &str) -> Self {
        let kubeconfig = cluster.kubeconfig();
        let source = "[[discovery.source]]\nkind = \"kubernetes\"\ncluster = \"east\"";
        Self::start(WorkDir::new("pools"), &format!("{keys}\n{source}\nkubeconfig = {kubeconfig:?}\n"))
    }

    /// Over a cluster by way of a kubeconfig of the test's own.
    pub(crate) fn over_kubeconfig(kubeconfig: &str, keys: &str) -> Self {
        let files = WorkDir::new("pools");
        let path = files.write("kubeconfig", kubeconfig);
        let source = "[[discovery.source]]\nkind = \"kubernetes\"\ncluster = \"east\"";
        Self::start(files, &format!("{keys}\n{source}\nkubeconfig = {path:?}\n"))
    }

    fn start(files: WorkDir, keys: &str) -> Self {
        let address = SocketAddr::from(([127, 0, 0, 1], free_port()));
        let admin = free_port();
        let text = format!("[admin]\nlisten = \"127.0.0.1:{admin}\"\n[discovery]\nlisten = \"{address}\"\n{keys}");
        let mut tidegate = Tidegate::spawn_in(WorkDir::new("tidegate"), &text, Vec::new());
        tidegate.wait_listening();
        let plane = Self { tidegate, address, files };
        plane.wait_synced();
        plane
    }

    /// Waits until every source has told its pools.
    pub(crate) fn wait_synced(&self) {
        let ready = || (self.tidegate.get("/readyz/discovery").status == 200).then_some(());
        poll(SOON, ready).unwrap_or_else(|| panic!("not synced:\n{}", self.tidegate.log()));
    }

    /// Writes its file anew.
    pub(crate) fn write(&self, pools: &str) {
        self.files.write("pools.new", pools);
        std::fs::rename(self.files.path().join("pools.new"), self.files.path().join("pools.toml")).unwrap();
    }

    /// `GET` of the pull API, as JSON.
    pub(crate) fn json(&self, path: &str) -> Value {
        let answer = http::get(self.address, path).unwrap_or_else(|e| panic!("GET {path}: {e}"));
        assert_eq!(answer.status, 200, "{path}: {}", answer.text());
        serde_json::from_slice(&answer.body).unwrap()
    }

    /// Waits until a pool is published as wanted.
    pub(crate) fn wait_pool(&self, id: &str, wanted: impl Fn(&Value) -> bool) {
        let mut last = None;
        let found = poll(SOON, || {
            last = http::get(self.address, &format!("/v1/pools/{id}")).ok().map(|answer| answer.text());
            wanted(&serde_json::from_str(last.as_deref()?).ok()?).then_some(())
        });
        found.unwrap_or_else(|| panic!("{id}: {last:?}\n{}", self.tidegate.log()));
    }

    /// Waits until a gateway has acknowledged what is published of a pool.
    pub(crate) fn wait_acknowledged(&self, gateway: &str, id: &str) {
        let mut last = Value::Null;
        let acknowledged = poll(SOON, || {
            last = self.json("/v1/gateways");
            let edge = last["gateways"].as_array()?.iter().find(|it| it["name"] == gateway)?;
            (edge["pools"][id]["current"] == true && edge.get("error").is_none()).then_some(())
        });
        acknowledged.unwrap_or_else(|| panic!("not acknowledged: {last}"));
    }
}

/// A file with one pool of these back ends, reached by a host.
pub(crate) fn pool_file(id: &str, host: &str, backends: &[&Backend]) -> String {
    let endpoints: Vec<String> = backends
        .iter()
        .map(|it| format!("{{ address = \"{}\", port = {} }}", it.address.ip(), it.address.port()))
        .collect();
    format!("[[pool]]\nid = \"{id}\"\nhosts = [\"{host}\"]\nendpoints = [{}]\n", endpoints.join(", "))
}
