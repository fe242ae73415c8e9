//! A real Eureka server in which VMs register, and the JVM client that services have.

use std::net::SocketAddr;
use std::process::Command;
use std::sync::OnceLock;
use std::time::Duration;

use serde_json::{Value, json};

use crate::bed::process::Process;
use crate::bed::{WorkDir, free_port, http, poll, require_gateways, wait_until};
use crate::kube::Cluster;
use crate::kube::objects::{slice, slice_path};
use crate::plane::{Plane, SOON};

/// How long a program of the JVM may take to begin, beside other suites: seconds of processor time.
const BEGIN: Duration = Duration::from_secs(180);

/// A program of the JVM: server or client.
struct Java {
    process: Process,
    directory: WorkDir,
}

impl Java {
    fn start(class: &str, arguments: &[String]) -> Self {
        let home = require_gateways().home("eureka");
        let directory = WorkDir::new(class);
        let mut command = Command::new("java");
        command.args(["-Xmx256m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-Xshare:auto", "-cp"]);
        command.arg(format!("{0}/classes:{0}/lib/*", home.display())).arg(format!("bed.{class}")).args(arguments);
        let process = Process::start(&command, directory.path(), class);
        Self { process, directory }
    }

    fn output(&self) -> String {
        String::from_utf8_lossy(&self.process.stdout()).into_owned()
    }
}

/// A server with nobody beside it, which forgets who does not renew.
struct Ring {
    java: Java,
    address: SocketAddr,
}

impl Ring {
    /// The one of all tests, each of which has applications of its own in it.
    fn shared() -> &'static Self {
        static SHARED: OnceLock<Ring> = OnceLock::new();
        crate::kube::enter();
        SHARED.get_or_init(|| {
            let ring = Self::start();
            ring.java.directory.share();
            ring
        })
    }

    fn start() -> Self {
        let address = SocketAddr::from(([127, 0, 0, 1], free_port()));
        let arguments = [
            format!("--server.port={}", address.port()),
            "--server.address=127.0.0.1".to_owned(),
            "--eureka.client.register-with-eureka=false".to_owned(),
            "--eureka.client.fetch-registry=false".to_owned(),
            format!("--eureka.client.service-url.defaultZone=http://{address}/eureka/"),
            "--eureka.server.enable-self-preservation=false".to_owned(),
            "--eureka.server.eviction-interval-timer-in-ms=500".to_owned(),
            "--eureka.server.use-read-only-response-cache=false".to_owned(),
            // An answer that was being made while an instance left is kept as it was, with the instance, for this long.
            "--eureka.server.response-cache-auto-expiration-in-seconds=1".to_owned(),
            "--eureka.server.wait-time-in-ms-when-sync-empty=0".to_owned(),
        ];
        Self { java: Java::start("Server", &arguments), address }
    }

    fn wait_up(&self) {
        let up = || http::get(self.address, "/eureka/apps").ok().filter(|it| it.status == 200).map(drop);
        poll(BEGIN, up).unwrap_or_else(|| panic!("no Eureka server\n{}", self.java.output()));
    }

    /// What it has of an application, as `APP/ID/STATUS`.
    fn instances(&self, app: &str) -> Vec<String> {
        let answer = http::get_with(self.address, "/eureka/apps", "Accept: application/json\r\n").unwrap();
        let body: Value = serde_json::from_slice(&answer.body).unwrap_or_default();
        let list = |value: &Value| value.as_array().cloned().unwrap_or_default();
        let apps = list(&body["applications"]["application"]);
        let instances = apps.iter().flat_map(|app| list(&app["instance"]));
        let text = |it: Value| {
            [&it["app"], &it["instanceId"], &it["status"]].map(|it| it.as_str().unwrap_or("?").to_owned()).join("/")
        };
        let mut instances: Vec<String> = instances.filter(|it| it["app"] == app).map(text).collect();
        instances.sort();
        instances
    }

    fn wait(&self, app: &str, wanted: &[String], log: impl Fn() -> String) {
        let mut last = Vec::new();
        let reached = poll(SOON, || {
            last = self.instances(app);
            (last == wanted).then_some(())
        });
        reached.unwrap_or_else(|| panic!("{last:?} and not {wanted:?}\n{}", log()));
    }

    /// A VM registers itself.
    fn register(&self, app: &str, id: &str, address: &str) {
        let body = json!({"instance": {
            "instanceId": id, "hostName": address, "app": app, "ipAddr": address, "status": "UP",
            "port": {"$": 8080, "@enabled": "true"}, "vipAddress": app.to_lowercase(),
            "leaseInfo": {"renewalIntervalInSecs": 300, "durationInSecs": 900},
            "dataCenterInfo": {"@class": "com.netflix.appinfo.InstanceInfo$DefaultDataCenterInfo", "name": "MyOwn"},
        }});
        let headers = "Content-Type: application/json\r\n";
        let answer = http::request(self.address, "POST", &format!("/eureka/apps/{app}"), headers, &body.to_string());
        assert_eq!(answer.unwrap().status, 204);
    }
}

fn client(directory: &str) -> Java {
    Java::start(
        "Client",
        &[
            format!("--eureka.client.service-url.defaultZone={directory}/"),
            "--eureka.client.register-with-eureka=false".to_owned(),
            // The server's libraries are beside it, and would be taken for another transport.
            "--eureka.client.jersey.enabled=false".to_owned(),
            "--eureka.client.registry-fetch-interval-seconds=1".to_owned(),
        ],
    )
}

/// What a client knows of an application; `None` before it began.
fn known(client: &Java, app: &str) -> Option<String> {
    let output = client.output();
    let line = output.lines().rfind(|line| line.starts_with("known: "))?;
    let of_app = line.split(' ').skip(1).filter(|it| it.split('/').next() == Some(app));
    Some(of_app.collect::<Vec<_>>().join(" "))
}

/// Waits until a client knows this of an application, once it has begun.
fn wait_known(client: &Java, app: &str, wanted: &str) {
    poll(BEGIN, || known(client, app)).unwrap_or_else(|| panic!("no client\n{}", client.output()));
    let reached = poll(SOON, || known(client, app).filter(|it| it == wanted));
    reached.unwrap_or_else(|| panic!("{:?} and not {wanted:?}\n{}", known(client, app), client.output()));
}

fn ready(last: u8) -> Value {
    json!({"addresses": [format!("10.244.74.{last}")]})
}

fn draining(last: u8) -> Value {
    json!({"addresses": [format!("10.244.74.{last}")], "conditions": {"ready": false, "serving": true, "terminating": true}})
}

#[test]
fn pods_are_in_the_ring_beside_vms_by_one_leader_and_for_as_long_as_tidegate_runs() {
    let cluster = Cluster::shared(0);
    let namespace = cluster.namespace("ring");
    let ring = Ring::shared();
    let ports = json!([{"name": "http", "port": 8080, "protocol": "TCP"}]);
    cluster.client().create(&slice(&namespace, "s", "shop", &json!([ready(1), ready(2)]), &ports));
    let seen = client(&format!("http://{}/eureka", ring.address));
    ring.wait_up();
    ring.register("SHOP", "vm1", "10.9.9.1");
    let foreign = ["SHOP/tidegate:10.244.74.9:shop:8080/UP".to_owned(), "SHOP/vm1/UP".to_owned()];
    let pod = |last: u8, status: &str| format!("SHOP/tidegate:10.244.74.{last}:shop:8080/{status}");
    let wanted = |pods: &[String]| {
        let mut all: Vec<String> = foreign.iter().chain(pods).cloned().collect();
        all.sort();
        all
    };
    let (address, kubeconfig) = (ring.address, cluster.kubeconfig());
    let keys = format!(
        "[discovery.eureka_export]\nurl = \"http://{address}/eureka\"\npools = [\"east/{namespace}/\"]\nheartbeat_seconds = 1\n\
         lease = {{ namespace = \"{namespace}\", name = \"ring\", kubeconfig = {kubeconfig:?} }}\n"
    );
    let source = format!(
        "[[discovery.source]]\nkind = \"eureka\"\ncluster = \"ring\"\nurl = \"http://{address}/eureka\"\npoll_seconds = 1\n"
    );
    let mut planes = [Plane::over(cluster, &format!("{keys}{source}")), Plane::over(cluster, &keys)];
    let log = |planes: &[Plane; 2]| format!("{}\n{}", planes[0].tidegate.log(), planes[1].tidegate.log());
    let first = [pod(1, "UP"), pod(2, "UP"), "SHOP/vm1/UP".to_owned()];
    ring.wait("SHOP", &first, || log(&planes));
    // One that looks like ours and is not, and that comes when the ring was looked through.
    ring.register("SHOP", "tidegate:10.244.74.9:shop:8080", "10.244.74.9");
    let leads = |planes: &[Plane; 2]| {
        planes.each_ref().map(|it| it.tidegate.metric("tidegate_discovery_exported_instances") > 0.0)
    };
    wait_until(SOON, "one leader", || leads(&planes).iter().filter(|it| **it).count() == 1);
    // The VM is a pool of the ring here; the pods are not, as they are known from their cluster.
    planes[0].wait_pool("ring/shop", |pool| {
        let addresses: Vec<&str> =
            pool["endpoints"].as_array().unwrap().iter().map(|it| it["address"].as_str().unwrap()).collect();
        addresses == ["10.244.74.9", "10.9.9.1"]
    });

    // An unchanged client of the ring has pods and VMs as one application, each with its state.
    cluster.client().patch(&slice_path(&namespace, "s"), &json!({"endpoints": [draining(1), ready(2), ready(3)]}));
    ring.wait("SHOP", &wanted(&[pod(1, "OUT_OF_SERVICE"), pod(2, "UP"), pod(3, "UP")]), || log(&planes));
    wait_known(
        &seen,
        "SHOP",
        "SHOP/10.244.74.1:8080/OUT_OF_SERVICE SHOP/10.244.74.2:8080/UP SHOP/10.244.74.3:8080/UP SHOP/10.244.74.9:8080/UP SHOP/10.9.9.1:8080/UP",
    );
    cluster.client().patch(&slice_path(&namespace, "s"), &json!({"endpoints": [ready(2), ready(9)]}));
    ring.wait("SHOP", &wanted(&[pod(2, "UP")]), || log(&planes));

    // The leader dies: the other one renews what it left, and nothing is registered twice.
    let leader = usize::from(leads(&planes)[1]);
    planes[leader].tidegate.kill9();
    wait_until(SOON, "the other one leads", || {
        planes[1 - leader].tidegate.metric("tidegate_discovery_exported_instances") > 0.0
    });
    cluster.client().patch(&slice_path(&namespace, "s"), &json!({"endpoints": [ready(2), ready(4)]}));
    ring.wait("SHOP", &wanted(&[pod(2, "UP"), pod(4, "UP")]), || log(&planes));
    // Nobody is left who renews: the leases end by themselves, and others' stay.
    planes[1 - leader].tidegate.kill9();
    ring.wait("SHOP", &wanted(&[]), || log(&planes));
}

#[test]
fn an_instance_without_peers_takes_its_pods_back_at_its_end_and_the_directory_it_gives_is_read_by_the_same_client() {
    let cluster = Cluster::shared(0);
    let namespace = cluster.namespace("alone");
    let ring = Ring::shared();
    let ports = json!([{"name": "http", "port": 8080, "protocol": "TCP"}]);
    cluster.client().create(&slice(&namespace, "s", "cart", &json!([ready(21), ready(22)]), &ports));
    ring.wait_up();
    let keys = format!(
        "[discovery.eureka_export]\nurl = \"http://{}/eureka\"\npools = [\"east/{namespace}/\"]\nowner = \"alone\"\n",
        ring.address
    );
    let mut plane = Plane::over(cluster, &keys);
    let pod = |last: u8| format!("CART/tidegate:10.244.74.{last}:cart:8080/UP");
    let seen = client(&format!("http://{}/eureka/namespaces/{namespace}", plane.address));
    ring.wait("CART", &[pod(21), pod(22)], || plane.tidegate.log());
    wait_known(&seen, "CART", "CART/10.244.74.21:8080/UP CART/10.244.74.22:8080/UP");
    cluster.client().patch(&slice_path(&namespace, "s"), &json!({"endpoints": [draining(21), ready(23)]}));
    wait_known(&seen, "CART", "CART/10.244.74.21:8080/OUT_OF_SERVICE CART/10.244.74.23:8080/UP");
    // A directory that is away takes nothing from its client; ended gracefully, the ring is as it was.
    plane.tidegate.sigterm();
    ring.wait("CART", &[], || plane.tidegate.log());
    plane.tidegate.wait_exit(SOON);
    // It asks every second: that it was refused is written down, and what it knows stays.
    let refused = || seen.output().contains("Connection refused");
    poll(SOON, || refused().then_some(())).unwrap_or_else(|| panic!("the client did not ask\n{}", seen.output()));
    let last = "CART/10.244.74.21:8080/OUT_OF_SERVICE CART/10.244.74.23:8080/UP";
    assert_eq!(known(&seen, "CART").as_deref(), Some(last), "{}", seen.output());
}

#[test]
fn a_pod_that_is_to_go_is_out_of_service_in_the_ring_before_its_containers_are_told() {
    let ring = Ring::shared();
    ring.wait_up();
    ring.register("PAY", "pay-7", "10.244.74.31");
    let directory = WorkDir::new("hook");
    let tidegate = |words: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_tidegate"));
        Process::start(command.arg("hook").args(words), directory.path(), words[0])
    };
    let (port, url) = (free_port(), format!("http://{}/eureka/", ring.address));
    let offline =
        json!({"eureka": {"urls": [url], "app": "PAY", "instance": "pay-7"}, "refreshSeconds": 1}).to_string();
    let at = SocketAddr::from(([127, 0, 0, 1], port));
    let port = port.to_string();
    let mut sidecar = tidegate(&["serve", "--port", &port, "--before-offline", &offline]);
    wait_until(SOON, "a pod that is online", || http::get(at, "/online").is_ok_and(|it| it.status == 200));
    ring.wait("PAY", &["PAY/pay-7/UP".to_owned()], || sidecar.stderr());
    let mut leaves = tidegate(&["offline", "--port", &port]);
    assert!(leaves.wait(SOON).success(), "{}\n{}", leaves.stderr(), sidecar.stderr());
    ring.wait("PAY", &["PAY/pay-7/OUT_OF_SERVICE".to_owned()], || sidecar.stderr());
    sidecar.signal("TERM");
    assert!(sidecar.wait(SOON).success(), "{}", sidecar.stderr());
}
