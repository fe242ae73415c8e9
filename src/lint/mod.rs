//! `tidegate lint pool ID`: why a pool has the endpoints that it has. Asks the cluster itself, so that it also explains
//! what never became an endpoint.

mod explain;

use std::io::{self, Write};

use k8s_openapi::api::core::v1::{Pod, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::Api;
use kube::api::ListParams;

use self::explain::{Finding, Seen, explain};
use crate::config::{Config, TrafficConfig};
use crate::endpoints::config::SourceConfig;
use crate::endpoints::kubernetes::{self, KubernetesConfig};

/// Why nothing could be explained, or what is explained is bad.
#[derive(Debug, thiserror::Error)]
pub enum LintError {
    /// The id is not of the form that pools of Kubernetes have.
    #[error("{0}: only pools of Kubernetes can be explained: give CLUSTER/NAMESPACE/SERVICE/PORT")]
    Id(String),
    /// The configuration has no such cluster.
    #[error("the configuration has no [[discovery.source]] with cluster = {0:?}")]
    Cluster(String),
    /// The cluster could not be asked; trying again may help.
    #[error("{cluster}: {cause}")]
    Unreachable {
        /// The cluster.
        cluster: String,
        /// What happened.
        cause: String,
    },
    /// What was found leaves the pool without an endpoint.
    #[error("{0} has nothing to send requests to")]
    Empty(String),
    /// Standard output or the runtime.
    #[error(transparent)]
    Io(#[from] io::Error),
}

/// Prints what is found.
///
/// # Errors
/// Nothing could be found out, or the pool has nothing to send requests to.
pub fn run(id: &str, config: Config) -> Result<(), LintError> {
    let parts: Vec<&str> = id.split('/').collect();
    let (cluster, namespace, service, port) = match parts.as_slice() {
        [cluster, namespace, service, port] | [cluster, namespace, service, port, "ipv6"] => {
            (*cluster, *namespace, *service, *port)
        }
        _ => return Err(LintError::Id(id.to_owned())),
    };
    let source = source_of(config.discovery, cluster).ok_or_else(|| LintError::Cluster(cluster.to_owned()))?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let seen = runtime.block_on(look(&source, namespace, service));
    let seen = seen.map_err(|cause| LintError::Unreachable { cluster: cluster.to_owned(), cause })?;
    let findings = explain(&seen, port, id.ends_with("/ipv6"));
    let mut output = io::stdout().lock();
    for finding in &findings {
        writeln!(output, "{finding}")?;
    }
    output.flush()?;
    if findings.iter().any(|finding| matches!(finding, Finding::Bad(_))) {
        return Err(LintError::Empty(id.to_owned()));
    }
    Ok(())
}

fn source_of(traffic: Option<TrafficConfig>, cluster: &str) -> Option<KubernetesConfig> {
    traffic?.endpoints.sources.into_iter().find_map(|source| match source {
        SourceConfig::Kubernetes(source) if &*source.cluster == cluster => Some(source),
        _ => None,
    })
}

/// Everything of the service that can be seen.
async fn look(source: &KubernetesConfig, namespace: &str, service: &str) -> Result<Seen, String> {
    let client = kubernetes::connect(source).await?;
    let failed = |error: kube::Error| kubernetes::flat(&error);
    let found: Option<Service> = Api::namespaced(client.clone(), namespace).get_opt(service).await.map_err(failed)?;
    let selector = found.as_ref().and_then(|it| it.spec.as_ref()?.selector.clone()).unwrap_or_default();
    let pods: Api<Pod> = Api::namespaced(client.clone(), namespace);
    let pods_of_namespace = pods.list_metadata(&ListParams::default().limit(500)).await.map_err(failed)?.items.len();
    let pods = if selector.is_empty() {
        Vec::new()
    } else {
        let labels: Vec<_> = selector.iter().map(|(name, value)| format!("{name}={value}")).collect();
        pods.list(&ListParams::default().labels(&labels.join(","))).await.map_err(failed)?.items
    };
    let slices: Api<EndpointSlice> = Api::namespaced(client, namespace);
    let of_service = ListParams::default().labels(&format!("kubernetes.io/service-name={service}"));
    let slices = slices.list(&of_service).await.map_err(failed)?.items;
    Ok(Seen { service: found, selector, pods, pods_of_namespace, slices })
}
