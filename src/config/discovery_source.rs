//! `[[discovery.source]]`: where pools come from.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;

use super::discovery::read_shown;
use super::discovery_remote::{read_eureka, read_hub};
use super::section::Section;
use crate::endpoints::config::SourceConfig;
use crate::endpoints::kubernetes::KubernetesConfig;

const KINDS: &str = "use \"kubernetes\", \"file\", \"hub\" or \"eureka\"";

/// All sources, in the order of the file.
pub(super) fn read_all(section: &mut Section<'_>) -> Vec<SourceConfig> {
    let mut sources = Vec::new();
    let mut clusters = BTreeSet::new();
    for mut source in section.tables("source") {
        let kind = source.text("kind");
        match kind {
            Some("kubernetes") => {
                source.show("kind", "kubernetes");
                let cluster = read_cluster(&mut source, &mut clusters);
                sources.extend(read_kubernetes(&mut source, cluster).map(SourceConfig::Kubernetes));
                source.finish();
            }
            Some("file") => {
                source.show("kind", "file");
                match read_shown::<String>(&mut source, "path") {
                    Some(path) => sources.push(SourceConfig::File(PathBuf::from(path))),
                    None if !source.has("path") => {
                        source.problem("path", "missing: name the file with the pools, as \"/etc/tidegate/vms.toml\"");
                    }
                    None => {}
                }
                source.finish();
            }
            Some("hub") => {
                source.show("kind", "hub");
                sources.extend(read_hub(&mut source).map(|config| SourceConfig::Hub(Arc::new(config))));
                source.finish();
            }
            Some("eureka") => {
                source.show("kind", "eureka");
                let cluster = read_cluster(&mut source, &mut clusters);
                let config = read_eureka(&mut source, cluster);
                sources.extend(config.map(|config| SourceConfig::Eureka(Arc::new(config))));
                source.finish();
            }
            Some(other) => {
                source.problem("kind", format!("{other:?} is unknown: {KINDS}"));
            }
            None => {
                if !source.has("kind") {
                    source.problem("kind", format!("missing: {KINDS}"));
                }
            }
        }
    }
    sources
}

fn read_kubernetes(source: &mut Section<'_>, cluster: Option<Arc<str>>) -> Option<KubernetesConfig> {
    let kubeconfig = read_shown::<String>(source, "kubeconfig").map(PathBuf::from);
    let namespaces = read_namespaces(source);
    let slices = ("endpointslices", false);
    let endpoints_v1 = source.choice("resource", slices, [("endpoints", true)], &[]);
    let strict_serving = source.flag("strict_serving", false);
    let traffic_policies = source.flag("traffic_policies", true);
    let hosts = source.flag("hosts", true);
    let cluster = cluster?;
    Some(KubernetesConfig { hosts, cluster, kubeconfig, namespaces, endpoints_v1, strict_serving, traffic_policies })
}

fn read_cluster(source: &mut Section<'_>, others: &mut BTreeSet<Arc<str>>) -> Option<Arc<str>> {
    let Some(text) = source.text("cluster") else {
        if !source.has("cluster") {
            source.problem("cluster", "missing: name the cluster, as \"east\"; its pools' ids begin with it");
        }
        return None;
    };
    // The id of its pools has it before the first slash; `app` is there for those that policies make.
    let inner = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
    let starts = text.starts_with(|it: char| it.is_ascii_alphanumeric());
    if !starts || text.len() > 63 || !text.bytes().all(inner) || text == "app" {
        source.problem(
            "cluster",
            format!("{text:?} cannot begin a pool's id: use up to 63 letters, digits and . _ - (and not \"app\")"),
        );
        return None;
    }
    source.show("cluster", text);
    if !others.insert(text.into()) {
        source.problem("cluster", format!("{text:?} stands here twice: give each cluster a name of its own"));
    }
    Some(text.into())
}

pub(super) fn read_namespaces(source: &mut Section<'_>) -> Vec<String> {
    let mut namespaces: Vec<String> = Vec::new();
    for item in source.texts("namespaces").unwrap_or_default() {
        let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
        if item.text.is_empty() || item.text.len() > 63 || !item.text.bytes().all(plain) {
            source
                .item_problem(&item, format!("{:?} is no namespace: use lower-case letters, digits and -", item.text));
        } else if namespaces.iter().any(|it| it == item.text) {
            source.item_problem(&item, format!("{} stands here twice: remove one", item.text));
        } else {
            namespaces.push(item.text.to_owned());
        }
    }
    source.show("namespaces", namespaces.clone());
    namespaces
}
