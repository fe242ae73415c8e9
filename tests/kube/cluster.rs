//! One cluster: its programs, each of which a test can kill, freeze and start again.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use base64::prelude::{BASE64_STANDARD, Engine as _};
use serde_json::{Value, json};

use super::certificates::{Certificates, Identity};
use super::client::ApiClient;
use crate::bed::process::Process;
use crate::bed::{WorkDir, free_port, poll, require_kube, source, unique};

/// How long a boot may take: 5 s on a quiet machine.
const BOOT: Duration = Duration::from_secs(90);

/// What every container of the fake kubelet has logged, as container runtimes write it.
const LOG: &str =
    "2026-01-01T00:00:00Z stdout F connecting to db:5432\n2026-01-01T00:00:01Z stderr F the database refuses us\n";

/// A program of the cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Program {
    Etcd,
    ApiServer,
    Controllers,
    Scheduler,
    Kubelet,
}

const PROGRAMS: [Program; 5] =
    [Program::Etcd, Program::ApiServer, Program::Controllers, Program::Scheduler, Program::Kubelet];

/// A running cluster with one roomy node. Its programs are killed when this value goes.
pub struct Cluster {
    number: u8,
    port: u16,
    /// Where the fake kubelet answers the API server: with containers' logs.
    kubelet_port: u16,
    running: Mutex<[Option<Process>; 5]>,
    client: ApiClient,
    // The last, so that the programs are gone before their files.
    directory: WorkDir,
}

/// Where the installed programs are.
pub fn programs() -> &'static Path {
    require_kube()
}

impl Cluster {
    /// The cluster that tests share which do not disturb it; `number` is 0 or 1, and 1 is another cluster with other
    /// pods' addresses. Started at the first call.
    pub fn shared(number: u8) -> &'static Self {
        static SHARED: [OnceLock<Cluster>; 2] = [OnceLock::new(), OnceLock::new()];
        let slot = SHARED.get(usize::from(number)).expect("there are two shared clusters");
        super::enter();
        slot.get_or_init(|| {
            let cluster = Self::start(number);
            cluster.directory.share();
            cluster
        })
    }

    /// A cluster of the test's own, whose pods get addresses of 10.(244 + number).0.0/16.
    pub fn start(number: u8) -> Self {
        super::enter();
        let directory = WorkDir::new("kube");
        let (port, kubelet_port) = (free_port(), free_port());
        issue(&directory, port);
        let client = ApiClient::new(&directory.path().join("kubeconfig"));
        directory.write("container.log", LOG);
        let cluster = Self { number, port, kubelet_port, running: Mutex::default(), client, directory };
        cluster.boot();
        cluster
    }

    fn boot(&self) {
        self.run(Program::Etcd);
        self.run(Program::ApiServer);
        self.wait("/readyz of the API server", || self.client.is_ready());
        for program in [Program::Controllers, Program::Scheduler, Program::Kubelet] {
            self.run(program);
        }
        let network = format!("10.{}.1.0/24", 244 + u16::from(self.number));
        self.client.create(&json!({
            "apiVersion": "v1", "kind": "Node",
            "metadata": {"name": "node-1", "labels": {
                "kubernetes.io/hostname": "node-1", "kubernetes.io/os": "linux", "topology.kubernetes.io/zone": "a",
            }},
            "spec": {"podCIDR": network, "podCIDRs": [network]},
        }));
        // Pods cannot be made before the account is there, nor placed before the node is ready.
        self.wait("the default service account", || {
            self.client.try_get("/api/v1/namespaces/default/serviceaccounts/default").is_ok_and(|it| it.is_some())
        });
        self.wait("a ready node", || {
            let node = self.client.try_get("/api/v1/nodes/node-1").ok().flatten().unwrap_or_default();
            let conditions = node["status"]["conditions"].as_array().cloned().unwrap_or_default();
            let ready = conditions.iter().any(|it| it["type"] == "Ready" && it["status"] == "True");
            ready && node["spec"]["taints"].as_array().is_none_or(Vec::is_empty)
        });
    }

    fn wait(&self, what: &str, condition: impl Fn() -> bool) {
        let held = poll(BOOT, || {
            for (program, process) in PROGRAMS.iter().zip(self.lock().iter_mut()) {
                if let Some(status) = process.as_mut().and_then(Process::exited) {
                    panic!("{program:?} ended while the cluster started: {status}");
                }
            }
            condition().then_some(())
        });
        assert!(held.is_some(), "not within {BOOT:?}: {what}");
    }

    /// A client with all rights.
    pub fn client(&self) -> &ApiClient {
        &self.client
    }

    /// The file with which a client gets all rights.
    pub fn kubeconfig(&self) -> PathBuf {
        self.directory.path().join("kubeconfig")
    }

    /// The port of its API server on 127.0.0.1.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// A new namespace, in which a test is alone.
    pub fn namespace(&self, prefix: &str) -> String {
        let name = unique(prefix);
        self.client.create(&json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}}));
        name
    }

    /// Kills a program and waits for its end.
    pub fn kill(&self, program: Program) {
        if let Some(process) = self.lock().get_mut(program as usize).and_then(Option::as_mut) {
            process.kill9();
        }
    }

    /// Freezes a program: its sockets stay open and nothing answers.
    pub fn freeze(&self, program: Program) {
        self.signal(program, "STOP");
    }

    /// Ends [`Cluster::freeze`].
    pub fn thaw(&self, program: Program) {
        self.signal(program, "CONT");
    }

    fn signal(&self, program: Program, signal: &str) {
        if let Some(process) = self.lock().get_mut(program as usize).and_then(Option::as_mut) {
            process.signal(signal);
        }
    }

    /// Starts a program, again after [`Cluster::kill`].
    pub fn run(&self, program: Program) {
        let mut command = self.command(program);
        command.current_dir(self.directory.path());
        let process = Process::start(&command, self.directory.path(), program.name());
        if let Some(slot) = self.lock().get_mut(program as usize) {
            *slot = Some(process);
        }
    }

    /// Replaces all certificates, authorities and keys by new ones, and the API server by one that knows nothing of the old.
    /// The other programs stay as they are: they are strangers to it from now on.
    pub fn rotate(&mut self) {
        self.kill(Program::ApiServer);
        issue(&self.directory, self.port);
        self.client = ApiClient::new(&self.kubeconfig());
        self.run(Program::ApiServer);
        self.wait_ready();
    }

    /// Lets etcd forget all versions but the newest, and the API server what it remembers of them.
    pub fn compact(&self) {
        self.kill(Program::ApiServer);
        super::etcd::compact(&self.directory.path().join("etcd:1"));
        self.run(Program::ApiServer);
        self.wait_ready();
    }

    /// A file that its programs read: `ca.crt`, or `admin.crt` and `admin.key`, by which one has all rights.
    pub fn file(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// Waits until the API server says that it is ready.
    pub fn wait_ready(&self) {
        self.wait("/readyz of the API server", || self.client.is_ready());
    }

    fn lock(&self) -> MutexGuard<'_, [Option<Process>; 5]> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// All files are named relative to the cluster's directory, in which each program runs.
    fn command(&self, program: Program) -> Command {
        let port = self.port;
        let mut command = Command::new(programs().join(program.file()));
        if program != Program::Kubelet {
            command.arg(program.name());
        }
        match program {
            // On Unix sockets in its directory: no ports, no clashes.
            Program::Etcd => command.args([
                "--name=default",
                "--data-dir=etcd",
                "--unsafe-no-fsync",
                "--log-level=warn",
                "--listen-client-urls=unix://etcd:1",
                "--advertise-client-urls=unix://etcd:1",
                "--listen-peer-urls=unix://peer:1",
                "--initial-advertise-peer-urls=unix://peer:1",
                "--initial-cluster=default=unix://peer:1",
            ]),
            Program::ApiServer => command.arg(format!("--secure-port={port}")).args([
                "--etcd-servers=unix://etcd:1",
                "--bind-address=127.0.0.1",
                "--advertise-address=127.0.0.1",
                // It would write an EndpointSlice with a loopback address, which is refused.
                "--endpoint-reconciler-type=none",
                "--kubelet-preferred-address-types=InternalIP",
                "--service-cluster-ip-range=10.96.0.0/16",
                "--allow-privileged=true",
                "--tls-cert-file=apiserver.crt",
                "--tls-private-key-file=apiserver.key",
                "--client-ca-file=ca.crt",
                "--authorization-mode=Node,RBAC",
                "--service-account-issuer=https://kubernetes.default.svc",
                "--service-account-signing-key-file=sa.key",
                "--service-account-key-file=sa.pub",
                "--requestheader-client-ca-file=front-proxy-ca.crt",
                "--requestheader-allowed-names=front-proxy-client",
                "--requestheader-username-headers=X-Remote-User",
                "--requestheader-group-headers=X-Remote-Group",
                "--requestheader-extra-headers-prefix=X-Remote-Extra-",
                "--proxy-client-cert-file=front-proxy-client.crt",
                "--proxy-client-key-file=front-proxy-client.key",
                "--profiling=false",
                "--shutdown-delay-duration=0s",
            ]),
            Program::Controllers => command.args([
                "--kubeconfig=controllers.kubeconfig",
                "--secure-port=0",
                "--leader-elect=false",
                "--profiling=false",
                "--use-service-account-credentials=true",
                "--service-account-private-key-file=sa.key",
                "--root-ca-file=ca.crt",
                "--kube-api-qps=500",
                "--kube-api-burst=1000",
            ]),
            Program::Scheduler => command.args([
                "--kubeconfig=scheduler.kubeconfig",
                "--secure-port=0",
                "--leader-elect=false",
                "--profiling=false",
                "--kube-api-qps=500",
                "--kube-api-burst=1000",
            ]),
            Program::Kubelet => command
                .arg(format!("--config={}", source("kube/stages.yaml").display()))
                .arg(format!("--cidr=10.{}.0.0/24", 244 + u16::from(self.number)))
                .args(["--kubeconfig=kubeconfig", "--manage-all-nodes=true", "--node-ip=127.0.0.1"])
                .arg(format!("--node-port={}", self.kubelet_port))
                .arg(format!("--server-address=127.0.0.1:{}", self.kubelet_port))
                .args(["--tls-cert-file=apiserver.crt", "--tls-private-key-file=apiserver.key"])
                .arg("--node-lease-duration-seconds=40"),
        };
        command
    }
}

impl Program {
    /// Its name, and that of its log file.
    fn name(self) -> &'static str {
        match self {
            Self::Etcd => "etcd",
            Self::ApiServer => "kube-apiserver",
            Self::Controllers => "kube-controller-manager",
            Self::Scheduler => "kube-scheduler",
            Self::Kubelet => "kwok",
        }
    }

    fn file(self) -> &'static str {
        if self == Self::Kubelet { "kwok" } else { "controlplane" }
    }
}

/// Makes certificates and writes everything that the programs and their clients read.
fn issue(directory: &WorkDir, port: u16) {
    let certificates = Certificates::generate();
    certificates.write(directory.path());
    let authority = BASE64_STANDARD.encode(&certificates.authority);
    for (file, user, group) in [
        ("kubeconfig", "admin", Some("system:masters")),
        ("controllers.kubeconfig", "system:kube-controller-manager", None),
        ("scheduler.kubeconfig", "system:kube-scheduler", None),
    ] {
        let identity = certificates.user(user, group);
        directory.write(file, kubeconfig(port, &authority, &user_entry(&identity)).to_string());
        if user == "admin" {
            directory.write("admin.crt", &identity.certificate);
            directory.write("admin.key", &identity.key);
        }
    }
}

fn user_entry(identity: &Identity) -> Value {
    json!({
        "client-certificate-data": BASE64_STANDARD.encode(&identity.certificate),
        "client-key-data": BASE64_STANDARD.encode(&identity.key),
    })
}

/// A kubeconfig is YAML, of which JSON is a part.
fn kubeconfig(port: u16, authority: &str, user: &Value) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Config", "current-context": "it",
        "clusters": [{"name": "it", "cluster": {
            "server": format!("https://127.0.0.1:{port}"), "certificate-authority-data": authority,
        }}],
        "users": [{"name": "it", "user": user}],
        "contexts": [{"name": "it", "context": {"cluster": "it", "user": "it"}}],
    })
}
