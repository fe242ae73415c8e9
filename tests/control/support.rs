//! What a deploy needs: the resources, a data plane, a control component, a gateway, and an application.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Command, Output};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, Once};
use std::thread::JoinHandle;
use std::time::Duration;

use serde_json::{Value, json};

use crate::bed::process::Process;
use crate::bed::tidegate::parse_metrics;
use crate::bed::{Tidegate, WorkDir, free_port, http, poll};
use crate::kube::Cluster;

/// Generous: other suites may have the processors.
pub(crate) const SOON: Duration = Duration::from_secs(60);

/// For a command that waits for a release.
const COMMAND: Duration = Duration::from_secs(150);

/// The cluster of this suite with the resources' definitions, as they are in the repository.
pub(crate) fn cluster() -> &'static Cluster {
    static INSTALLED: Once = Once::new();
    let cluster = Cluster::shared(0);
    INSTALLED.call_once(|| {
        let folder = PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/deploy/kubernetes"));
        let mut names = Vec::new();
        for file in ["apps", "apptemplates", "appscales", "releases", "approvals", "rolloutblocks", "trafficpolicies"] {
            for object in documents(&folder.join(format!("crds/{file}.yaml"))) {
                names.push(cluster.client().create(&object)["metadata"]["name"].as_str().unwrap().to_owned());
            }
        }
        for object in documents(&folder.join("approval-policy.yaml")) {
            let collection = match object["kind"].as_str().unwrap() {
                "ValidatingAdmissionPolicy" => "validatingadmissionpolicies",
                _ => "validatingadmissionpolicybindings",
            };
            cluster.client().post(&format!("/apis/admissionregistration.k8s.io/v1/{collection}"), &object);
        }
        for object in documents(&folder.join("control-users.yaml")) {
            cluster.client().post("/apis/rbac.authorization.k8s.io/v1/clusterroles", &object);
        }
        for object in roles("\nkind: ClusterRole\n") {
            cluster.client().post("/apis/rbac.authorization.k8s.io/v1/clusterroles", &object);
        }
        for name in names {
            let path = format!("/apis/apiextensions.k8s.io/v1/customresourcedefinitions/{name}");
            let established = || {
                let conditions = cluster.client().get(&path)["status"]["conditions"].as_array().cloned()?;
                let holds =
                    |kind: &str, status: &str| conditions.iter().any(|it| it["type"] == kind && it["status"] == status);
                assert!(!holds("NonStructuralSchema", "True"), "{name}: {conditions:?}");
                holds("Established", "True").then_some(())
            };
            poll(SOON, established).unwrap_or_else(|| panic!("{name} is not served"));
        }
    });
    cluster
}

fn documents(path: &std::path::Path) -> Vec<Value> {
    let text = std::fs::read_to_string(path).unwrap();
    text.split("\n---\n").map(|document| serde_saphyr::from_str(document).unwrap()).collect()
}

/// The roles of this kind that the control component is installed with.
fn roles(kind: &str) -> Vec<Value> {
    let text = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/deploy/kubernetes/control.yaml")).unwrap();
    text.split("\n---\n").filter(|it| it.contains(kind)).map(|it| serde_saphyr::from_str(it).unwrap()).collect()
}

/// The path of an object of Tidegate's, or of a collection without a name.
pub(crate) fn path(namespace: &str, plural: &str, name: &str) -> String {
    let path = format!("/apis/tidegate.dev/v1alpha1/namespaces/{namespace}/{plural}");
    if name.is_empty() { path } else { format!("{path}/{name}") }
}

/// Everything of one test, in a namespace of its own.
pub(crate) struct Stage {
    pub(crate) cluster: &'static Cluster,
    pub(crate) namespace: String,
    pub(crate) plane: Tidegate,
    pub(crate) pools: SocketAddr,
    /// The built-in gateway's listener, whose only route leads to the App `web`.
    pub(crate) gateway: Option<SocketAddr>,
    /// Another cluster, `west`, that Apps may run in.
    west: Option<&'static Cluster>,
    files: WorkDir,
}

/// A running control component.
pub(crate) struct Control {
    process: Process,
    admin: SocketAddr,
}

/// A gateway that pulls one pool, acknowledges what it gets, and remembers all of it.
pub(crate) struct Gateway {
    got: Arc<Mutex<Vec<Value>>>,
    serves: Arc<AtomicBool>,
    end: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Stage {
    pub(crate) fn new() -> Self {
        Self::start(None, "", None)
    }

    /// With further sections in the data plane's configuration.
    pub(crate) fn beside(more: &str) -> Self {
        Self::start(None, more, None)
    }

    /// With the built-in gateway in the data plane.
    pub(crate) fn with_gateway() -> Self {
        let route = |namespace: &str| format!("[[gateway.route]]\npool = \"app/{namespace}/web/http\"\n");
        Self::start(Some(&route), "", None)
    }

    /// With the built-in gateway, whose routes lead from the host of each of these Apps to it, and with further sections.
    pub(crate) fn with_apps(apps: &[&str], more: &str) -> Self {
        let route = |namespace: &str, app: &&str| {
            let host = host(app, namespace);
            format!("[[gateway.route]]\nhost = \"{host}\"\npool = \"app/{namespace}/{app}/http\"\n")
        };
        Self::start(Some(&|namespace: &str| apps.iter().map(|app| route(namespace, app)).collect()), more, None)
    }

    /// With a second cluster, that Apps may run in and that knows no resources of Tidegate's.
    pub(crate) fn with_west(west: &'static Cluster) -> Self {
        Self::start(None, "", Some(west))
    }

    fn start(routes: Option<&dyn Fn(&str) -> String>, more: &str, west: Option<&'static Cluster>) -> Self {
        let cluster = cluster();
        let (admin, pools) = (free_port(), SocketAddr::from(([127, 0, 0, 1], free_port())));
        let namespace = cluster.namespace("deploy");
        let kubeconfig = cluster.kubeconfig();
        let gateway = routes.map(|routes| (SocketAddr::from(([127, 0, 0, 1], free_port())), routes(&namespace)));
        let section = gateway.as_ref().map_or_else(String::new, |(listen, routes)| {
            format!("[gateway]\nthreads = 1\n[[gateway.listener]]\nlisten = \"{listen}\"\n{routes}")
        });
        let second = west.map_or_else(String::new, |west| {
            west.client().create(&json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace}}));
            format!(
                "[[discovery.source]]\nkind = \"kubernetes\"\ncluster = \"west\"\nnamespaces = [\"{namespace}\"]\n\
                 kubeconfig = {:?}\ntraffic_policies = false\n",
                west.kubeconfig()
            )
        });
        let mut plane = Tidegate::spawn(&format!(
            "[admin]\nlisten = \"127.0.0.1:{admin}\"\n[discovery]\nlisten = \"{pools}\"\n[[discovery.source]]\n\
             kind = \"kubernetes\"\ncluster = \"east\"\nnamespaces = [\"{namespace}\"]\nkubeconfig = {kubeconfig:?}\n\
             {second}{more}{section}"
        ));
        plane.wait_listening();
        poll(SOON, || (plane.get("/readyz/discovery").status == 200).then_some(())).expect("a synced data plane");
        let gateway = gateway.map(|(listen, _)| listen);
        Self { cluster, namespace, plane, pools, gateway, west, files: WorkDir::new("control") }
    }

    /// Another node: a relay of the data plane, with a built-in gateway of this name whose only route leads to the App `web`.
    pub(crate) fn edge(&self, name: &str) -> Tidegate {
        self.edge_at(name, SocketAddr::from(([127, 0, 0, 1], free_port())))
    }

    /// The same, with its listener at this address.
    pub(crate) fn edge_at(&self, name: &str, listen: SocketAddr) -> Tidegate {
        let (admin, pools) = (free_port(), free_port());
        let mut edge = Tidegate::spawn(&format!(
            "[admin]\nlisten = \"127.0.0.1:{admin}\"\n[discovery]\nlisten = \"127.0.0.1:{pools}\"\n[[discovery.source]]\n\
             kind = \"hub\"\nurl = \"http://{}\"\n[gateway]\nname = \"{name}\"\nthreads = 1\n[[gateway.listener]]\n\
             listen = \"{listen}\"\n[[gateway.route]]\npool = \"app/{}/web/http\"\n",
            self.pools, self.namespace
        ));
        edge.wait_listening();
        edge
    }

    /// Who serves what, as the data plane knows it.
    pub(crate) fn gateways(&self) -> Value {
        let answer = http::get(self.pools, "/v1/gateways").expect("an answer");
        serde_json::from_slice(&answer.body).expect("JSON")
    }

    /// A control component over the cluster itself.
    pub(crate) fn control(&self) -> Control {
        self.control_over(&self.cluster.kubeconfig(), "")
    }

    /// A control component with this kubeconfig and these further keys. Its Lease is the namespace's own.
    pub(crate) fn control_over(&self, kubeconfig: &std::path::Path, keys: &str) -> Control {
        let (namespace, pools, admin) = (&self.namespace, self.pools, free_port());
        let west = self.west.map_or_else(String::new, |west| {
            format!("home = true\n[[control.cluster]]\nname = \"west\"\nkubeconfig = {:?}\n", west.kubeconfig())
        });
        let text = format!(
            "[admin]\nlisten = \"127.0.0.1:{admin}\"\n[control]\nlease = {{ namespace = \"{namespace}\", name = \"control\" }}\n\
             {keys}\n[[control.cluster]]\nname = \"east\"\nnamespaces = [\"{namespace}\"]\nkubeconfig = {kubeconfig:?}\n{west}[[control.hub]]\nurl = \"http://{pools}\"\n"
        );
        let file = self.files.write(&format!("control-{admin}.toml"), text);
        let mut command = Command::new(env!("CARGO_BIN_EXE_tidegate"));
        command.args(["control", "--config"]).arg(file);
        let process = Process::start(&command, self.files.path(), &format!("control-{admin}"));
        Control { process, admin: SocketAddr::from(([127, 0, 0, 1], admin)) }
    }

    /// A control component with the rights that it is installed with, in this namespace, and no others.
    pub(crate) fn control_as_installed(&self) -> Control {
        let (client, namespace) = (self.cluster.client(), &self.namespace);
        let (api, user) = ("/apis/rbac.authorization.k8s.io/v1", format!("control-{namespace}"));
        for mut role in roles("\nkind: Role\n") {
            role["metadata"]["namespace"] = json!(namespace);
            client.post(&format!("{api}/namespaces/{namespace}/roles"), &role);
        }
        for kind in ["ClusterRole", "Role"] {
            let binding = json!({
                "metadata": {"name": kind.to_lowercase()},
                "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": kind, "name": "tidegate-control"},
                "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": user}],
            });
            client.post(&format!("{api}/namespaces/{namespace}/rolebindings"), &binding);
        }
        self.control_over(&self.kubeconfig_as(&user), "")
    }

    pub(crate) fn create_app(&self, name: &str, replicas: u32, strategy: &Value, template: &Value) {
        self.cluster.client().create(&json!({
            "apiVersion": "tidegate.dev/v1alpha1", "kind": "App",
            "metadata": {"name": name, "namespace": self.namespace},
            "spec": {"replicas": replicas, "template": template, "port": "http", "strategy": strategy},
        }));
    }

    /// A release of this image of an App, with further fields of its spec.
    pub(crate) fn release(&self, app: &str, name: &str, image: &str, more: &Value) {
        let spec = self.cluster.client().get(&path(&self.namespace, "apps", app))["spec"].clone();
        let mut template = spec["template"].clone();
        template["spec"]["containers"][0]["image"] = json!(image);
        let mut release = json!({
            "apiVersion": "tidegate.dev/v1alpha1", "kind": "Release",
            "metadata": {"name": name, "namespace": self.namespace},
            "spec": {"app": app, "image": image, "template": template, "port": "http", "strategy": spec["strategy"]},
        });
        for (key, value) in more.as_object().unwrap() {
            release["spec"][key] = value.clone();
        }
        self.cluster.client().create(&release);
    }

    pub(crate) fn control_of(&self, release: &str, control: &Value) {
        self.cluster
            .client()
            .patch(&path(&self.namespace, "releases", release), &json!({"spec": {"control": control}}));
    }

    pub(crate) fn status(&self, release: &str) -> Value {
        self.cluster.client().get(&path(&self.namespace, "releases", release))["status"].clone()
    }

    /// Waits until a release's status is as wanted.
    pub(crate) fn wait(&self, release: &str, what: &str, wanted: impl Fn(&Value) -> bool) -> Value {
        let mut last = Value::Null;
        let found = poll(SOON, || {
            last = self.status(release);
            wanted(&last).then(|| last.clone())
        });
        found.unwrap_or_else(|| panic!("{release}: not {what}, but {last:#}\n{}", self.plane.log()))
    }

    pub(crate) fn wait_phase(&self, release: &str, phase: &str) -> Value {
        self.wait(release, phase, |status| status["phase"] == phase)
    }

    /// Each revision's wanted count, by its Deployment's name.
    pub(crate) fn counts(&self) -> BTreeMap<String, u64> {
        self.counts_in(self.cluster)
    }

    /// The same in another cluster.
    pub(crate) fn counts_in(&self, cluster: &Cluster) -> BTreeMap<String, u64> {
        let all = cluster.client().get(&format!("/apis/apps/v1/namespaces/{}/deployments", self.namespace));
        let count = |it: &Value| {
            (it["metadata"]["name"].as_str().unwrap().to_owned(), it["spec"]["replicas"].as_u64().unwrap())
        };
        all["items"].as_array().unwrap().iter().map(count).collect()
    }

    /// Shares by pool.
    pub(crate) fn shares(&self, app: &str) -> BTreeMap<String, u64> {
        let policy = self.cluster.client().get(&path(&self.namespace, "trafficpolicies", app));
        let share = |it: &Value| (it["pool"].as_str().unwrap().to_owned(), it["share"].as_u64().unwrap());
        policy["spec"]["members"].as_array().unwrap().iter().map(share).collect()
    }

    /// Runs a command over the cluster, in this namespace, to its end.
    pub(crate) fn run(&self, args: &[&str]) -> Output {
        self.run_as(self.cluster.kubeconfig(), args)
    }

    /// The same with another kubeconfig.
    pub(crate) fn run_as(&self, kubeconfig: impl AsRef<OsStr>, args: &[&str]) -> Output {
        let mut command = Command::new(env!("CARGO_BIN_EXE_tidegate"));
        command.args(args).args(["--namespace", &self.namespace]).arg("--kubeconfig").arg(kubeconfig);
        let name = crate::bed::unique("command");
        let mut process = Process::start(&command, self.files.path(), &name);
        let status = process.wait(COMMAND);
        Output { status, stdout: process.stdout(), stderr: process.stderr().into_bytes() }
    }

    /// A kubeconfig of a user who has this role of `deploy/kubernetes/control-users.yaml` here.
    pub(crate) fn kubeconfig_of(&self, user: &str, role: &str) -> PathBuf {
        let api = "/apis/rbac.authorization.k8s.io/v1";
        let binding = json!({
            "metadata": {"name": user},
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": role},
            "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": user}],
        });
        self.cluster.client().post(&format!("{api}/namespaces/{}/rolebindings", self.namespace), &binding);
        let file = self.kubeconfig_as(user);
        // The API server learns of a binding a moment later.
        let holds = || self.run_as(&file, &["app"]).status.success().then_some(());
        poll(SOON, holds).unwrap_or_else(|| panic!("{user} has no rights"));
        file
    }

    /// A kubeconfig by which one is this user.
    pub(crate) fn kubeconfig_as(&self, user: &str) -> PathBuf {
        let text = std::fs::read_to_string(self.cluster.kubeconfig()).unwrap();
        let mut config: Value = serde_json::from_str(&text).unwrap();
        config["users"][0]["user"]["as"] = json!(user);
        self.files.write(&format!("{user}.kubeconfig"), config.to_string())
    }

    /// Deletes the Lease, so that the next instance need not wait for it to run out.
    pub(crate) fn free_lease(&self) {
        let path = format!("/apis/coordination.k8s.io/v1/namespaces/{}/leases/control", self.namespace);
        self.cluster.client().delete(&path);
    }
}

impl Control {
    #[allow(dead_code, reason = "the bench's: it looks at the process")]
    pub(crate) fn pid(&self) -> u32 {
        self.process.id()
    }

    pub(crate) fn kill(&mut self) {
        self.process.kill9();
    }

    pub(crate) fn signal(&mut self, signal: &str) {
        self.process.signal(signal);
    }

    pub(crate) fn wait_end(&mut self) -> std::process::ExitStatus {
        self.process.wait(SOON)
    }

    pub(crate) fn log(&self) -> String {
        self.process.stderr()
    }

    /// The sum of a metric's series; `None` while it does not answer.
    pub(crate) fn metric(&self, name: &str) -> Option<f64> {
        let text = http::get(self.admin, "/metrics").ok()?.text();
        let series = parse_metrics(&text);
        Some(
            series
                .iter()
                .filter(|(it, _)| *it == name || it.starts_with(&format!("{name}{{")))
                .map(|(_, value)| value)
                .sum(),
        )
    }

    pub(crate) fn is_ready(&self) -> bool {
        http::get(self.admin, "/readyz/control").is_ok_and(|answer| answer.status == 200)
    }

    pub(crate) fn leads(&self) -> bool {
        self.metric("tidegate_control_leader") == Some(1.0)
    }
}

impl Gateway {
    /// Pulls the pool of an App's port at a data plane, again and again, from within the test's network.
    pub(crate) fn start(stage: &Stage, name: &str, app: &str) -> Self {
        let pool = format!("app/{}/{app}/http", stage.namespace);
        let got: Arc<Mutex<Vec<Value>>> = Arc::default();
        let (serves, end) = (Arc::new(AtomicBool::new(true)), Arc::new(AtomicBool::new(false)));
        let (pools, name) = (stage.pools, name.to_owned());
        let thread = std::thread::spawn({
            let (got, serves, end) = (Arc::clone(&got), Arc::clone(&serves), Arc::clone(&end));
            move || {
                // The thread that starts it is in the network of pods already, and so is this one.
                let mut tag = String::new();
                while !end.load(Ordering::SeqCst) {
                    pull(pools, &name, &pool, &mut tag, &got, &serves);
                }
            }
        });
        Self { got, serves, end, thread: Some(thread) }
    }

    /// Whether it acknowledges what it gets; it asks all the same.
    pub(crate) fn acknowledges(&self, serves: bool) {
        self.serves.store(serves, Ordering::SeqCst);
    }

    /// Every body so far.
    pub(crate) fn got(&self) -> Vec<Value> {
        self.got.lock().unwrap().clone()
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        self.end.store(true, Ordering::SeqCst);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn pull(pools: SocketAddr, name: &str, pool: &str, tag: &mut String, got: &Mutex<Vec<Value>>, serves: &AtomicBool) {
    // Short waits: it asks within the minute that counts, and ends soon.
    let headers = format!("tidegate-gateway: {name}\r\nif-none-match: {tag}\r\n");
    let Ok(answer) = http::get_with(pools, &format!("/v1/pools/{pool}?wait=1s"), &headers) else { return };
    if answer.status == 200 {
        answer.header("etag").unwrap_or_default().clone_into(tag);
        got.lock().unwrap().push(serde_json::from_slice(&answer.body).unwrap());
    }
    let generation = got.lock().unwrap().last().map(|it| it["traffic_generation"].clone());
    // As it is now: what it is told while it waits is what it must not acknowledge.
    if let Some(generation) = generation.filter(|_| serves.load(Ordering::SeqCst)) {
        let ack = json!({"gateway": name, "applied": {pool: generation}}).to_string();
        let _ = http::request(pools, "POST", "/v1/ack", "", &ack);
    }
}

/// The addresses of a body's endpoints that are ready, with whose they are.
pub(crate) fn ready(body: &Value) -> Vec<String> {
    let endpoints = body["endpoints"].as_array().unwrap();
    let ready = endpoints.iter().filter(|it| it["state"] == "ready" && it["weight"] != 0);
    ready.map(|it| it["target"].as_str().unwrap_or_default().to_owned()).collect()
}

/// The host of an App, which is nobody else's in a cluster that tests share.
pub(crate) fn host(app: &str, namespace: &str) -> String {
    format!("{app}.{namespace}.example")
}

/// A template whose pods become ready at once.
pub(crate) fn template() -> Value {
    json!({"spec": {
        "terminationGracePeriodSeconds": 1,
        "containers": [{"name": "web", "image": "web:0", "ports": [{"name": "http", "containerPort": 8080}]}],
    }})
}
