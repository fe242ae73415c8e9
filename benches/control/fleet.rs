//! Apps by the thousand, and what the control component spends on them.

use std::ops::Sub;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::bed::poll;
use crate::gateways::Gateways;
use crate::support::{Control, Stage, path, template};
use crate::system;

/// Its own user, so that the API server can count its requests.
const USER: &str = "tidegate-control";
/// Pods that one node has addresses for.
const PODS_OF_A_NODE: usize = 200;
/// For everything at once, on a slow machine.
const PATIENCE: Duration = Duration::from_secs(1_200);

/// What was spent since the start.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Spent {
    pub(crate) cpu: Duration,
    pub(crate) writes: f64,
    pub(crate) calls: f64,
}

/// What deploys took.
pub(crate) struct Cost {
    pub(crate) took: Duration,
    pub(crate) spent: Spent,
    /// Medians, in seconds.
    pub(crate) pods: f64,
    pub(crate) releases: f64,
}

/// The Apps and who deploys them.
pub(crate) struct Fleet {
    /// They end before the data plane that they ask.
    _gateways: Gateways,
    stage: Stage,
    control: Control,
    apps: usize,
    nodes: usize,
    /// Counts the images, so that each deploy is one.
    image: usize,
}

impl Fleet {
    /// A cluster, a data plane with so many gateways, and a control component, without an App.
    pub(crate) fn start(gateways: usize) -> Self {
        let stage = Stage::new();
        let control = stage.control_over(&kubeconfig(&stage), "");
        poll(PATIENCE, || control.leads().then_some(())).expect("a leader");
        let gateways = Gateways::start(stage.pools, gateways);
        Self { _gateways: gateways, stage, control, apps: 0, nodes: 1, image: 0 }
    }

    pub(crate) fn len(&self) -> usize {
        self.apps
    }

    /// Adds Apps until there are so many, and waits until the first release of each has ended.
    pub(crate) fn grow(&mut self, apps: usize) {
        while self.nodes * PODS_OF_A_NODE < 2 * apps {
            self.nodes += 1;
            let network = format!("10.244.{}.0/24", self.nodes);
            self.stage.cluster.client().create(&json!({
                "apiVersion": "v1", "kind": "Node",
                "metadata": {"name": format!("node-{}", self.nodes), "labels": {"kubernetes.io/os": "linux"}},
                "spec": {"podCIDR": network, "podCIDRs": [network]},
            }));
        }
        let strategy = json!({"blueGreen": {"scaleDownDelaySeconds": 0}});
        for app in self.apps..apps {
            let name = name(app);
            self.stage.create_app(&name, 1, &strategy, &template());
            self.stage.release(&name, &format!("{name}-0"), "web:0", &json!({}));
        }
        let new = self.apps..apps;
        self.apps = apps;
        self.wait_ended(&new.map(|app| format!("{}-0", name(app))).collect::<Vec<_>>());
    }

    /// Deploys one App after the other.
    pub(crate) fn deploy_each(&mut self, deploys: usize) -> Cost {
        let (start, before, mut ended) = (Instant::now(), self.spent(), Vec::new());
        for app in 0..deploys {
            let release = self.release(app);
            ended.extend(self.wait_ended(&[release]));
        }
        self.cost(start.elapsed(), before, &ended)
    }

    /// Deploys so many Apps at the same time.
    pub(crate) fn deploy_together(&mut self, deploys: usize) -> Cost {
        let (start, before) = (Instant::now(), self.spent());
        self.image += 1;
        let releases: Vec<String> = (0..deploys).map(|app| self.release_of_image(app)).collect();
        let ended = self.wait_ended(&releases);
        self.cost(start.elapsed(), before, &ended)
    }

    /// Of deploys that took so long in all and ended with these statuses, since so much was spent.
    fn cost(&self, took: Duration, before: Spent, ended: &[Value]) -> Cost {
        let spent = self.spent() - before;
        let took_of = |status: &Value| seconds(&status["finishedAt"]) - seconds(&status["startedAt"]);
        let revisions: Vec<&str> = ended.iter().filter_map(|status| status["revision"].as_str()).collect();
        let pods = self.stage.cluster.client().get(&format!("/api/v1/namespaces/{}/pods", self.stage.namespace));
        let new = pods["items"].as_array().unwrap().iter().filter(|pod| {
            pod["metadata"]["labels"]["tidegate.dev/revision"].as_str().is_some_and(|it| revisions.contains(&it))
        });
        let started = new.filter_map(|pod| {
            let ready = pod["status"]["conditions"].as_array()?.iter().find(|it| it["type"] == "Ready")?;
            Some(seconds(&ready["lastTransitionTime"]) - seconds(&pod["metadata"]["creationTimestamp"]))
        });
        Cost { took, spent, pods: median(started.collect()), releases: median(ended.iter().map(took_of).collect()) }
    }

    /// What the control component has spent so far.
    pub(crate) fn spent(&self) -> Spent {
        let writes = self.control.metric("tidegate_control_writes_total").expect("a metric");
        let metrics = self.stage.cluster.client().text_of("/metrics");
        let own = format!("flow_schema=\"{USER}\"");
        let counted = metrics
            .lines()
            .filter(|line| line.starts_with("apiserver_flowcontrol_dispatched_requests_total") && line.contains(&own));
        let calls = counted.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).sum();
        Spent { cpu: system::cpu_time(self.control.pid()), writes, calls }
    }

    /// Its resident memory in MB.
    pub(crate) fn memory(&self) -> f64 {
        system::memory(self.control.pid()).0
    }

    fn release(&mut self, app: usize) -> String {
        self.image += 1;
        self.release_of_image(app)
    }

    fn release_of_image(&self, app: usize) -> String {
        let (app, image) = (name(app), self.image);
        let release = format!("{app}-{image}");
        self.stage.release(&app, &release, &format!("web:{image}"), &json!({}));
        release
    }

    /// Waits until releases have ended well; gives their statuses.
    fn wait_ended(&self, releases: &[String]) -> Vec<Value> {
        let collection = path(&self.stage.namespace, "releases", "");
        let mut left = releases.len();
        let ended = poll(PATIENCE, || {
            let ended: Vec<Value> = match releases {
                [one] => vec![self.stage.status(one)],
                _ => {
                    let all = self.stage.cluster.client().get(&collection);
                    let wanted: std::collections::HashSet<&str> = releases.iter().map(String::as_str).collect();
                    let items = all["items"].as_array().unwrap().iter();
                    let of_these = items.filter(|it| wanted.contains(it["metadata"]["name"].as_str().unwrap()));
                    of_these.map(|it| it["status"].clone()).collect()
                }
            };
            let ended: Vec<Value> = ended.into_iter().filter(|status| status["phase"] == "Healthy").collect();
            left = releases.len() - ended.len();
            (left == 0).then_some(ended)
        });
        ended.unwrap_or_else(|| panic!("{left} of {} releases have not ended\n{}", releases.len(), self.control.log()))
    }
}

impl Sub for Spent {
    type Output = Self;

    fn sub(self, before: Self) -> Self {
        Self { cpu: self.cpu - before.cpu, writes: self.writes - before.writes, calls: self.calls - before.calls }
    }
}

fn name(app: usize) -> String {
    format!("app{app}")
}

/// All rights, under a name of its own, whose requests have a FlowSchema of their own.
fn kubeconfig(stage: &Stage) -> PathBuf {
    let client = stage.cluster.client();
    let subject = json!({"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": USER});
    let binding = json!({
        "metadata": {"name": USER}, "subjects": [subject],
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "cluster-admin"},
    });
    client.post("/apis/rbac.authorization.k8s.io/v1/clusterrolebindings", &binding);
    let everything = json!({
        "subjects": [{"kind": "User", "user": {"name": USER}}],
        "resourceRules": [{"verbs": ["*"], "apiGroups": ["*"], "resources": ["*"], "clusterScope": true, "namespaces": ["*"]}],
        "nonResourceRules": [{"verbs": ["*"], "nonResourceURLs": ["*"]}],
    });
    let schema = json!({
        "metadata": {"name": USER},
        "spec": {"matchingPrecedence": 500, "priorityLevelConfiguration": {"name": "workload-high"}, "rules": [everything]},
    });
    client.post("/apis/flowcontrol.apiserver.k8s.io/v1/flowschemas", &schema);
    stage.kubeconfig_as(USER)
}

/// A time of the API, in seconds.
fn seconds(time: &Value) -> f64 {
    let time: jiff::Timestamp = time.as_str().expect("a time").parse().expect("a time");
    time.as_millisecond() as f64 / 1e3
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}
