//! Objects as tests need them, as JSON.

use serde_json::{Value, json};

/// A Deployment whose pods carry `app: NAME` and these annotations (`bed/state` and so on), with a container port
/// 8080 named `http`.
pub fn deployment(namespace: &str, name: &str, replicas: u32, annotations: &Value) -> Value {
    json!({
        "apiVersion": "apps/v1", "kind": "Deployment",
        "metadata": {"name": name, "namespace": namespace},
        "spec": {
            "replicas": replicas,
            "selector": {"matchLabels": {"app": name}},
            "strategy": {"rollingUpdate": {"maxSurge": 1, "maxUnavailable": 0}},
            "template": {
                "metadata": {"labels": {"app": name}, "annotations": annotations},
                "spec": {
                    "terminationGracePeriodSeconds": 30,
                    "containers": [{"name": "it", "image": "it:1", "ports": [{"name": "http", "containerPort": 8080}]}],
                },
            },
        },
    })
}

/// A Service over the pods with `app: NAME`, with one port `http`, 80 to the pods' 8080.
pub fn service(namespace: &str, name: &str) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Service",
        "metadata": {"name": name, "namespace": namespace},
        "spec": {"selector": {"app": name}, "ports": [{"name": "http", "port": 80, "targetPort": "http"}]},
    })
}

/// An EndpointSlice that no controller manages: `endpoints` and `ports` as in the API.
pub fn slice(namespace: &str, name: &str, service: &str, endpoints: &Value, ports: &Value) -> Value {
    json!({
        "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice",
        "metadata": {"name": name, "namespace": namespace, "labels": {
            "kubernetes.io/service-name": service, "endpointslice.kubernetes.io/managed-by": "tests",
        }},
        "addressType": "IPv4", "endpoints": endpoints, "ports": ports,
    })
}

/// The path of an EndpointSlice.
pub fn slice_path(namespace: &str, name: &str) -> String {
    format!("/apis/discovery.k8s.io/v1/namespaces/{namespace}/endpointslices/{name}")
}

/// The path of a Deployment.
pub fn deployment_path(namespace: &str, name: &str) -> String {
    format!("/apis/apps/v1/namespaces/{namespace}/deployments/{name}")
}

/// The path of a Service.
pub fn service_path(namespace: &str, name: &str) -> String {
    format!("/api/v1/namespaces/{namespace}/services/{name}")
}

/// The path of a namespace.
pub fn namespace_path(namespace: &str) -> String {
    format!("/api/v1/namespaces/{namespace}")
}
