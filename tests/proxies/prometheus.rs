//! Debian's Prometheus, with `deploy/prometheus/prometheus.yml`.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::process::Command;

use serde_json::{Value, json};

use crate::bed::process::Process;
use crate::bed::{WorkDir, free_port, http, poll, require_gateways};
use crate::kube::Cluster;
use crate::kube::objects::{slice, slice_path};
use crate::plane::{Plane, SOON};
use crate::relay::Relay;

struct Prometheus {
    process: Process,
    address: SocketAddr,
    _files: WorkDir,
}

impl Prometheus {
    fn start(server: SocketAddr, namespace: &str) -> Self {
        require_gateways();
        let sample = concat!(env!("CARGO_MANIFEST_DIR"), "/deploy/prometheus/prometheus.yml");
        let mut text = std::fs::read_to_string(sample).unwrap();
        for (sample, own) in [
            (
                "http://127.0.0.1:8500/v1/prometheus/targets",
                format!("http://{server}/v1/prometheus/targets?namespace={namespace}"),
            ),
            ("refresh_interval: 10s", "refresh_interval: 1s".to_owned()),
            ("scrape_interval: 15s", "scrape_interval: 1s".to_owned()),
            ("scrape_timeout: 10s", "scrape_timeout: 1s".to_owned()),
        ] {
            assert!(text.contains(sample), "the sample has no {sample:?}");
            text = text.replace(sample, &own);
        }
        let files = WorkDir::new("prometheus");
        let config = files.write("prometheus.yml", text);
        let address = SocketAddr::from(([127, 0, 0, 1], free_port()));
        let mut command = Command::new("prometheus");
        command.arg(format!("--config.file={}", config.display()));
        command.arg(format!("--storage.tsdb.path={}", files.path().join("data").display()));
        command.arg(format!("--web.listen-address={address}"));
        let process = Process::start(&command, files.path(), "prometheus");
        Self { process, address, _files: files }
    }

    /// Its targets by address with their labels.
    fn targets(&self) -> Option<BTreeMap<String, Value>> {
        let answer = http::get(self.address, "/api/v1/targets?state=active").ok()?;
        let body: Value = serde_json::from_slice(&answer.body).ok()?;
        let target = |it: &Value| Some((it["labels"]["instance"].as_str()?.to_owned(), it["labels"].clone()));
        body["data"]["activeTargets"].as_array()?.iter().map(target).collect()
    }

    fn wait(&self, wanted: &[&str]) -> BTreeMap<String, Value> {
        let mut last = None;
        let found = poll(SOON, || {
            last = self.targets();
            last.clone().filter(|it| it.keys().map(String::as_str).eq(wanted.iter().copied()))
        });
        found.unwrap_or_else(|| panic!("{last:?} and not {wanted:?}\n{}", self.process.stderr()))
    }

    /// How often it could not read its list.
    fn failures(&self) -> f64 {
        let text = http::get(self.address, "/metrics").map(|answer| answer.text()).unwrap_or_default();
        let line = text.lines().find(|line| line.starts_with("prometheus_sd_http_failures_total"));
        line.and_then(|line| line.split(' ').next_back()?.parse().ok()).unwrap_or_default()
    }
}

#[test]
fn prometheus_follows_pools_with_their_labels_and_keeps_its_list_when_tidegate_fails() {
    let cluster = Cluster::shared(0);
    let namespace = cluster.namespace("metrics");
    let ports = json!([{"name": "http", "port": 8080, "protocol": "TCP"}]);
    let endpoint = |last: u8| {
        json!({
            "addresses": [format!("10.244.72.{last}")], "zone": "a",
            "targetRef": {"kind": "Pod", "namespace": namespace, "name": format!("web-{last}")},
        })
    };
    cluster.client().create(&slice(&namespace, "s", "web", &json!([endpoint(1), endpoint(2)]), &ports));
    let mut plane = Plane::over(cluster, "");
    let relay = Relay::before(plane.address);
    let prometheus = Prometheus::start(relay.address, &namespace);
    let targets = prometheus.wait(&["10.244.72.1:8080", "10.244.72.2:8080"]);
    let labels = &targets["10.244.72.1:8080"];
    for (name, value) in
        [("namespace", &*namespace), ("service", "web"), ("pod", "web-1"), ("zone", "a"), ("cluster", "east")]
    {
        assert_eq!(labels[name], value, "{labels}");
    }
    let path = slice_path(&namespace, "s");
    cluster.client().patch(&path, &json!({"endpoints": [endpoint(2), endpoint(3)]}));
    let both = ["10.244.72.2:8080", "10.244.72.3:8080"];
    prometheus.wait(&both);

    // None of this is a list.
    let failed = || {
        let before = prometheus.failures();
        poll(SOON, || (prometheus.failures() >= before + 2.0).then_some(())).expect("it asked and was not answered");
        assert_eq!(prometheus.targets().unwrap().keys().collect::<Vec<_>>(), both);
    };
    relay.answer("503 Service Unavailable", r#"{"error":"not in step yet"}"#);
    failed();
    relay.answer("200 OK", "<html>no list</html>");
    failed();
    relay.say(crate::relay::Says::Tidegate);
    plane.tidegate.kill9();
    failed();
    plane.tidegate.restart_unready();
    plane.wait_synced();
    cluster.client().patch(&path, &json!({"endpoints": [endpoint(3)]}));
    prometheus.wait(&["10.244.72.3:8080"]);
    cluster.client().patch(&path, &json!({"endpoints": []}));
    prometheus.wait(&[]);
}
