//! A namespace of a real API server, with back ends, and gateways that take their routes from it.

use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Once;

use serde_json::{Value, json};

use crate::backend::Backend;
use crate::bed::{WorkDir, free_port, poll, require_gateway_api, source, wait_until};
use crate::kube::Cluster;
use crate::kube::objects::slice;
use crate::support::{Gateway, SOON, Setup};

/// The API of routes and Gateways.
pub(crate) const API: &str = "/apis/gateway.networking.k8s.io/v1";
/// That of ReferenceGrants, which has been there for longer.
pub(crate) const GRANTS_API: &str = "/apis/gateway.networking.k8s.io/v1beta1";

/// A namespace with the Services `web` and `api`, port 80 named `http`, of one back end each, and the Gateway `edge`.
pub(crate) struct Stage {
    pub(crate) cluster: &'static Cluster,
    pub(crate) namespace: String,
    pub(crate) backends: Vec<Backend>,
    /// Where its gateways listen, several of them if need be.
    pub(crate) address: SocketAddr,
    /// What its gateways are told of Ingresses.
    pub(crate) ingress_class: &'static str,
}

fn cluster() -> &'static Cluster {
    static INSTALLED: Once = Once::new();
    let cluster = Cluster::shared(0);
    INSTALLED.call_once(|| {
        let kinds = ["gatewayclasses", "gateways", "httproutes", "referencegrants"];
        for kind in kinds {
            let file = require_gateway_api().join(format!("gateway.networking.k8s.io_{kind}.yaml"));
            documents(&file).iter().for_each(|it| drop(cluster.client().create(it)));
        }
        for kind in kinds {
            let path = if kind == "referencegrants" { format!("{GRANTS_API}/{kind}") } else { format!("{API}/{kind}") };
            let served = || cluster.client().try_get(&path).ok().flatten();
            poll(SOON, served).unwrap_or_else(|| panic!("{path} is not served"));
        }
        let classes = deployed().into_iter().filter(|it| it["kind"].as_str().unwrap().ends_with("Class"));
        classes.for_each(|it| drop(cluster.client().create(&it)));
    });
    cluster
}

/// The objects of a file.
fn documents(file: &Path) -> Vec<Value> {
    let text = std::fs::read_to_string(file).unwrap();
    text.split("\n---\n").map(|document| serde_saphyr::from_str(document).unwrap()).collect()
}

/// What a gateway needs of a cluster, as people are given it.
fn deployed() -> Vec<Value> {
    documents(&source("../deploy/kubernetes/gateway-routes.yaml"))
}

/// A listener for everybody's HTTPRoutes.
pub(crate) fn open(name: &str, port: u16) -> Value {
    json!({"name": name, "port": port, "protocol": "HTTP", "allowedRoutes": {"namespaces": {"from": "All"}}})
}

// === impl Stage ===

impl Stage {
    pub(crate) fn new(network: u8) -> Self {
        let cluster = cluster();
        let namespace = cluster.namespace("routes");
        let names = ["web", "api"];
        let backends: Vec<Backend> = (1..)
            .zip(names)
            .map(|(number, name)| {
                let address = IpAddr::from([10, 244, network, number]);
                Backend::start_on(name, [8080, 8081, 8082].map(|port| SocketAddr::new(address, port)), &[])
            })
            .collect();
        let address = SocketAddr::from(([127, 0, 0, 1], free_port()));
        let stage = Self { cluster, namespace, backends, address, ingress_class: "tidegate" };
        stage.create_gateway(&json!([open("http", address.port())]));
        for (name, backend) in names.into_iter().zip(&stage.backends) {
            stage.service(&stage.namespace, name, backend);
        }
        stage
    }

    /// The Gateway `edge` with these listeners.
    pub(crate) fn create_gateway(&self, listeners: &Value) {
        self.cluster.client().create(&json!({
            "apiVersion": "gateway.networking.k8s.io/v1", "kind": "Gateway",
            "metadata": {"name": "edge", "namespace": self.namespace},
            "spec": {"gatewayClassName": "tidegate", "listeners": listeners},
        }));
    }

    pub(crate) fn service(&self, namespace: &str, name: &str, backend: &Backend) {
        let ports = json!([{"name": "http", "port": 80, "targetPort": 8080}]);
        self.cluster.client().create(&json!({
            "apiVersion": "v1", "kind": "Service", "metadata": {"name": name, "namespace": namespace}, "spec": {"ports": ports},
        }));
        let endpoints = json!([{"addresses": [backend.http.ip().to_string()], "conditions": {"ready": true}}]);
        let ports = json!([{"name": "http", "port": 8080, "protocol": "TCP"}]);
        self.cluster.client().create(&slice(namespace, &format!("{name}-1"), name, &endpoints, &ports));
    }

    /// A gateway that goes by these namespaces' objects, after a route of its own.
    pub(crate) fn gateway(&self, others: &[&str]) -> Gateway {
        self.gateway_as(others, &self.cluster.kubeconfig()).start()
    }

    /// The same, not started, that asks for routes with this kubeconfig.
    pub(crate) fn gateway_as(&self, others: &[&str], routes: &Path) -> Setup {
        let namespaces: Vec<&str> = [self.namespace.as_str()].iter().chain(others).copied().collect();
        let (kubeconfig, namespace, class) = (self.cluster.kubeconfig(), &self.namespace, self.ingress_class);
        Setup::new()
            .at(self.address)
            .source(&format!(
                "[[discovery.source]]\nkind = \"kubernetes\"\ncluster = \"east\"\nkubeconfig = {kubeconfig:?}\nnamespaces = {namespaces:?}"
            ))
            .keys("threads = 2")
            .route(&format!("name = \"own\"\nhost = \"file.example\"\npool = \"east/{namespace}/web/http\""))
            .section(&format!(
                "[gateway.kubernetes]\ncluster = \"east\"\nkubeconfig = {routes:?}\nnamespaces = {namespaces:?}\n\
                 gateways = [\"{namespace}/edge\"]\ningress_class = {class:?}"
            ))
    }

    /// A kubeconfig with the rights of `deploy/kubernetes/gateway-routes.yaml`, or all of them but for the status.
    pub(crate) fn kubeconfig_of(&self, user: &str, may_tell: bool, files: &WorkDir) -> PathBuf {
        let mut role = deployed().into_iter().find(|it| it["kind"] == "ClusterRole").unwrap();
        role["metadata"]["name"] = json!(user);
        let is_status = |rule: &Value| rule["resources"][0].as_str().unwrap().ends_with("/status");
        role["rules"].as_array_mut().unwrap().retain(|rule| may_tell || !is_status(rule));
        let api = "/apis/rbac.authorization.k8s.io/v1";
        self.cluster.client().post(&format!("{api}/clusterroles"), &role);
        let binding = json!({
            "metadata": {"name": user},
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": user},
            "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": user}],
        });
        self.cluster.client().post(&format!("{api}/clusterrolebindings"), &binding);
        let mut config: Value =
            serde_json::from_str(&std::fs::read_to_string(self.cluster.kubeconfig()).unwrap()).unwrap();
        config["users"][0]["user"]["as"] = json!(user);
        files.write(&format!("{user}.kubeconfig"), config.to_string())
    }

    pub(crate) fn route_path(namespace: &str, name: &str) -> String {
        format!("{API}/namespaces/{namespace}/httproutes/{name}")
    }

    pub(crate) fn gateway_path(&self) -> String {
        format!("{API}/namespaces/{}/gateways/edge", self.namespace)
    }

    pub(crate) fn create_route(&self, namespace: &str, name: &str, hosts: &[&str], rules: &Value) {
        self.create_route_at(namespace, name, hosts, rules, &json!({}));
    }

    /// A route that says more of its parent.
    pub(crate) fn create_route_at(&self, namespace: &str, name: &str, hosts: &[&str], rules: &Value, parent: &Value) {
        let mut reference = json!({"name": "edge", "namespace": self.namespace});
        reference.as_object_mut().unwrap().extend(parent.as_object().unwrap().clone());
        self.cluster.client().create(&json!({
            "apiVersion": "gateway.networking.k8s.io/v1", "kind": "HTTPRoute",
            "metadata": {"name": name, "namespace": namespace},
            "spec": {"parentRefs": [reference], "hostnames": hosts, "rules": rules},
        }));
    }

    /// Waits for a condition of a route's status.
    pub(crate) fn wait_condition(&self, namespace: &str, name: &str, kind: &str, status: &str) -> Value {
        self.wait_said(&Self::route_path(namespace, name), "/parents/0/conditions", kind, status)
    }

    /// Waits for a condition of a listener of the Gateway.
    pub(crate) fn wait_listener(&self, place: usize, kind: &str, status: &str) -> Value {
        self.wait_said(&self.gateway_path(), &format!("/listeners/{place}/conditions"), kind, status)
    }

    /// Waits for a condition in the status of the object at a path, in this place of it.
    pub(crate) fn wait_said(&self, path: &str, place: &str, kind: &str, status: &str) -> Value {
        let mut last = Value::Null;
        let found = poll(SOON, || {
            last = self.cluster.client().get(path)["status"].clone();
            let conditions = last.pointer(place)?.as_array()?;
            conditions.iter().find(|it| it["type"] == kind && it["status"] == status).cloned()
        });
        found.unwrap_or_else(|| panic!("{path}: {kind} is not {status}: {last:#}"))
    }
}

/// A rule to a Service.
pub(crate) fn to(name: &str) -> Value {
    json!({"backendRefs": [{"name": name, "port": 80}]})
}

/// Who answers, as soon as it is this one.
pub(crate) fn wait_answer(gateway: &Gateway, host: &str, path: &str, status: u16, instance: &str) {
    let what = format!("{host}{path} is answered by {instance:?} with {status}");
    wait_until(SOON, &what, || {
        let answer = gateway.curl_host(host, path, &[]);
        (answer.status, answer.instance()) == (status, instance)
    });
}

/// Nothing that the gateway wrote into a status was refused by the definitions.
pub(crate) fn assert_statuses_taken(gateway: &Gateway) {
    let log = gateway.tidegate.log();
    assert!(!log.contains("is not written into their status"), "{log}");
}
