//! Tidegate over a cluster, and what the cluster's own slices say its pools must be.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::{Value, json};

use crate::bed::process::Process;
use crate::bed::{Tidegate, WorkDir, free_port, http, poll};
use crate::kube::Cluster;
use crate::oracle::Oracle;

/// Generous: other suites may have the processors.
pub(crate) const SOON: Duration = Duration::from_secs(60);

/// A running traffic plane.
pub(crate) struct Plane {
    pub(crate) tidegate: Tidegate,
    pub(crate) address: SocketAddr,
    files: WorkDir,
}

/// What a plane is started with.
pub(crate) struct Setup {
    text: String,
    listen: SocketAddr,
    files: WorkDir,
    environment: Vec<(String, String)>,
    resolver: Option<PathBuf>,
}

impl Setup {
    /// A plane with an admin and a pull listener and these further keys of `[discovery]`.
    pub(crate) fn new(keys: &str) -> Self {
        Self::at(([127, 0, 0, 1], free_port()).into(), keys)
    }

    /// As [`Setup::new`], with the pull listener at this address.
    pub(crate) fn at(listen: SocketAddr, keys: &str) -> Self {
        let admin = free_port();
        let text = format!("[admin]\nlisten = \"127.0.0.1:{admin}\"\n[discovery]\nlisten = \"{listen}\"\n{keys}\n");
        Self { text, listen, files: WorkDir::new("pools"), environment: Vec::new(), resolver: None }
    }

    /// Where its pull listener will be.
    pub(crate) fn address(&self) -> SocketAddr {
        self.listen
    }

    /// A cluster as a source, with these further keys.
    pub(crate) fn cluster(mut self, name: &str, cluster: &Cluster, keys: &str) -> Self {
        let kubeconfig = cluster.kubeconfig();
        let _ = writeln!(
            self.text,
            "[[discovery.source]]\nkind = \"kubernetes\"\ncluster = \"{name}\"\nkubeconfig = {kubeconfig:?}\n{keys}"
        );
        self
    }

    /// As [`Setup::cluster`], with a kubeconfig of the test's own.
    pub(crate) fn kubeconfig(mut self, name: &str, kubeconfig: &str) -> Self {
        let path = self.files.write(&format!("{name}.kubeconfig"), kubeconfig);
        let _ = writeln!(
            self.text,
            "[[discovery.source]]\nkind = \"kubernetes\"\ncluster = \"{name}\"\nkubeconfig = {path:?}"
        );
        self
    }

    /// A file as a source.
    pub(crate) fn file(mut self, name: &str, content: &str) -> Self {
        let path = self.files.write(name, content);
        let _ = writeln!(self.text, "[[discovery.source]]\nkind = \"file\"\npath = {path:?}");
        self
    }

    /// Further sections.
    pub(crate) fn sections(mut self, text: &str) -> Self {
        let _ = writeln!(self.text, "{text}");
        self
    }

    /// Further variables of its environment.
    pub(crate) fn environment(mut self, environment: Vec<(String, String)>) -> Self {
        self.environment.extend(environment);
        self
    }

    /// Names are looked up as this file says, which stands in the place of `/etc/resolv.conf`.
    pub(crate) fn resolver(mut self, file: &Path) -> Self {
        self.resolver = Some(file.to_owned());
        self
    }

    /// Starts it and waits until its sources have told their pools.
    pub(crate) fn start(self) -> Plane {
        let plane = self.start_unsynced();
        plane.wait_synced();
        plane
    }

    /// Starts it and waits only until it answers.
    pub(crate) fn start_unsynced(self) -> Plane {
        let directory = WorkDir::new("tidegate");
        let mut tidegate = match self.resolver {
            Some(file) => Tidegate::spawn_resolving(directory, &self.text, file),
            None => Tidegate::spawn_in(directory, &self.text, self.environment),
        };
        tidegate.wait_listening();
        Plane { tidegate, address: self.listen, files: self.files }
    }
}

impl Plane {
    /// Waits until every source has told its pools.
    pub(crate) fn wait_synced(&self) {
        let ready = || (self.tidegate.get("/readyz/discovery").status == 200).then_some(());
        poll(SOON, ready).unwrap_or_else(|| panic!("not synced:\n{}", self.tidegate.log()));
    }

    /// `GET` of the pull API.
    pub(crate) fn get(&self, path: &str) -> http::Response {
        http::get(self.address, path).unwrap_or_else(|e| panic!("GET {path}: {e}\n{}", self.tidegate.log()))
    }

    /// A header of a `GET`'s answer.
    pub(crate) fn header(&self, path: &str, name: &str) -> String {
        let answer = self.get(path);
        answer.header(name).unwrap_or_else(|| panic!("{path}: no {name} in\n{}", answer.head)).to_owned()
    }

    /// `POST` to the pull API.
    pub(crate) fn post(&self, path: &str, body: &str) -> http::Response {
        http::request(self.address, "POST", path, "", body).unwrap_or_else(|e| panic!("POST {path}: {e}"))
    }

    /// Where a file that is a source stands.
    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.files.path().join(name)
    }

    /// Starts a command beside the plane.
    pub(crate) fn watch(&self, args: &[&str]) -> Process {
        self.tidegate.beside(args)
    }

    /// `GET` of the pull API, as JSON.
    pub(crate) fn json(&self, path: &str) -> Value {
        let answer = self.get(path);
        assert_eq!(answer.status, 200, "{path}: {}", answer.text());
        serde_json::from_slice(&answer.body).unwrap()
    }

    /// A pool's endpoints as `ADDRESS:PORT STATE`; `None` for an unknown one.
    pub(crate) fn pool(&self, id: &str) -> Option<BTreeSet<String>> {
        let answer = self.get(&format!("/v1/pools/{id}"));
        match answer.status {
            200 => Some(endpoints(&serde_json::from_slice(&answer.body).unwrap())),
            404 => None,
            status => panic!("{id}: {status} {}", answer.text()),
        }
    }

    /// Waits until a pool is as wanted.
    pub(crate) fn wait_pool(
        &self,
        id: &str,
        what: &str,
        wanted: impl Fn(Option<&BTreeSet<String>>) -> bool,
    ) -> Option<BTreeSet<String>> {
        let mut last = None;
        let found = poll(SOON, || {
            last = self.pool(id);
            wanted(last.as_ref()).then(|| last.clone())
        });
        found.unwrap_or_else(|| panic!("{id}: not {what}, but {last:?}\n{}", self.tidegate.log()))
    }

    /// Waits until all pools of a namespace are those of the oracle.
    pub(crate) fn wait_equal(&self, name: &str, cluster: &Cluster, namespace: &str) {
        let mut seen = None;
        let equal = || {
            let wanted = oracle(name, cluster, namespace);
            let found = self.pools_of(name, namespace);
            let equal = wanted.iter().all(|(id, endpoints)| found.get(id) == Some(endpoints))
                && found.iter().all(|(id, endpoints)| wanted.contains_key(id) || endpoints.is_empty());
            seen = Some((wanted, found));
            equal.then_some(())
        };
        poll(SOON, equal).unwrap_or_else(|| panic!("wanted and found differ: {seen:#?}"));
    }

    /// All pools of a namespace.
    pub(crate) fn pools_of(&self, name: &str, namespace: &str) -> BTreeMap<String, BTreeSet<String>> {
        let all = self.json(&format!("/v1/delta?prefix={name}/{namespace}/"));
        let pools = all["changed"].as_array().unwrap();
        pools.iter().map(|pool| (pool["id"].as_str().unwrap().to_owned(), endpoints(pool))).collect()
    }
}

/// A pool's endpoints as `ADDRESS:PORT STATE`.
pub(crate) fn endpoints(pool: &Value) -> BTreeSet<String> {
    let line =
        |it: &Value| format!("{}:{} {}", it["address"].as_str().unwrap(), it["port"], it["state"].as_str().unwrap());
    pool["endpoints"].as_array().unwrap().iter().map(line).collect()
}

/// A cluster's kubeconfig whose server is a proxy before it.
pub(crate) fn kubeconfig_through(cluster: &Cluster, proxy: SocketAddr) -> String {
    let text = std::fs::read_to_string(cluster.kubeconfig()).unwrap();
    text.replace(&format!("127.0.0.1:{}", cluster.port()), &proxy.to_string())
}

/// What the oracle says of a namespace's slices as they are now, as `ADDRESS:PORT STATE`.
pub(crate) fn oracle(name: &str, cluster: &Cluster, namespace: &str) -> BTreeMap<String, BTreeSet<String>> {
    let list = cluster.client().get(&format!("/apis/discovery.k8s.io/v1/namespaces/{namespace}/endpointslices"));
    let mut oracle = Oracle::new(name);
    for slice in list["items"].as_array().unwrap() {
        oracle.apply(&json!({"type": "ADDED", "object": slice}));
    }
    oracle.pools().into_iter().map(|(id, pool)| (id, endpoints(&pool))).collect()
}
