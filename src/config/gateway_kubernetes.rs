//! `[gateway.kubernetes]`: a cluster whose HTTPRoutes and Ingresses are routes.

use std::net::IpAddr;
use std::path::PathBuf;

use super::discovery::read_shown;
use super::discovery_source::read_namespaces;
use super::log::texts;
use super::section::Section;
use crate::gateway::kubernetes::{KubernetesRoutesConfig, MOST_ADDRESSES};

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
    if let Some(class) = ingress_class.as_deref().filter(|class| *class != "*" && !is_name(class)) {
        table.problem(
            "ingress_class",
            format!("{class:?} names no IngressClass: write its name, or \"*\" for all that are ours"),
        );
    }
    if gateways.is_empty() && ingress_class.is_none() {
        table.problem(
            "gateways",
            "missing, and so is ingress_class: name the Gateways whose HTTPRoutes are routes, or a class of Ingresses",
        );
    }
    let addresses = read_addresses(&mut table);
    let write_status = table.flag("write_status", true);
    table.finish();
    Some(KubernetesRoutesConfig {
        cluster: cluster?,
        kubeconfig,
        namespaces,
        gateways,
        ingress_class,
        addresses,
        write_status,
    })
}

fn read_gateways(table: &mut Section<'_>) -> Vec<(String, String)> {
    let items = table.texts("gateways").unwrap_or_default();
    let mut gateways = Vec::new();
    for item in &items {
        let (namespace, name) = item.text.split_once('/').unwrap_or((item.text, ""));
        if namespace.is_empty() || name.is_empty() || name.contains('/') {
            table.item_problem(item, format!("{:?} names no Gateway: write NAMESPACE/NAME", item.text));
        }
        gateways.push((namespace.to_owned(), name.to_owned()));
    }
    table.show("gateways", texts(&items));
    gateways
}

fn read_addresses(table: &mut Section<'_>) -> Vec<String> {
    let items = table.texts("addresses").unwrap_or_default();
    if items.len() > MOST_ADDRESSES {
        table.problem("addresses", format!("more than {MOST_ADDRESSES}: a Gateway's status has no room for them"));
    }
    for item in &items {
        if !is_name(item.text) && item.text.parse::<IpAddr>().is_err() {
            let remedy = "write an IP address, or a name in lower case, without a port";
            table.item_problem(item, format!("{:?} is no address: {remedy}", item.text));
        }
    }
    table.show("addresses", texts(&items));
    items.iter().map(|item| item.text.to_owned()).collect()
}

/// Whether the API server takes it for the name of an object or a host: labels of letters, digits and hyphens, joined by dots.
fn is_name(text: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    let is_label =
        |label: &str| !label.is_empty() && label.bytes().all(plain) && !label.starts_with('-') && !label.ends_with('-');
    text.len() <= 253 && text.split('.').all(is_label)
}
