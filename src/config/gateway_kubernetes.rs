//! `[gateway.kubernetes]`: a cluster whose HTTPRoutes and Ingresses are routes.

use std::path::PathBuf;

use super::discovery::read_shown;
use super::discovery_source::read_namespaces;
use super::log::texts;
use super::section::Section;
use crate::gateway::kubernetes::KubernetesRoutesConfig;

pub(super) fn read(section: &mut Section<'_>) -> Option<KubernetesRoutesConfig> {
    let mut table = section.table("kubernetes")?;
    let cluster = read_shown::<std::sync::Arc<str>>(&mut table, "cluster");
    if !table.has("cluster") {
        table.problem("cluster", "missing: name the cluster as its [[discovery.source]] does, as \"east\"");
    }
    let kubeconfig = read_shown::<String>(&mut table, "kubeconfig").map(PathBuf::from);
    let namespaces = read_namespaces(&mut table);
    let gateways = read_gateways(&mut table);
    let ingress_class = read_shown::<String>(&mut table, "ingress_class");
    if gateways.is_empty() && ingress_class.is_none() {
        table.problem(
            "gateways",
            "missing, and so is ingress_class: name the Gateways whose HTTPRoutes are routes, or a class of Ingresses",
        );
    }
    let write_status = table.flag("write_status", true);
    table.finish();
    Some(KubernetesRoutesConfig { cluster: cluster?, kubeconfig, namespaces, gateways, ingress_class, write_status })
}

fn read_gateways(table: &mut Section<'_>) -> Vec<String> {
    let items = table.texts("gateways").unwrap_or_default();
    for item in &items {
        let named = item
            .text
            .split_once('/')
            .is_some_and(|(namespace, name)| !namespace.is_empty() && !name.is_empty() && !name.contains('/'));
        if !named {
            table.item_problem(item, format!("{:?} names no Gateway: write NAMESPACE/NAME", item.text));
        }
    }
    table.show("gateways", texts(&items));
    items.iter().map(|item| item.text.to_owned()).collect()
}
