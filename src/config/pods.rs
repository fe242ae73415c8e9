//! `[log.pods]`.

use std::path::PathBuf;
use std::time::Duration;

use globset::Glob;

use super::section::Section;
use crate::pods::config::PodsConfig;

/// Where the node's name stands in a pod whose manifest passes it on.
const NODE_NAME: &str = "NODE_NAME";

pub(super) fn read(mut section: Section<'_>) -> PodsConfig {
    let kubeconfig = section.text("kubeconfig").map(|path| {
        section.show("kubeconfig", path);
        if !std::path::Path::new(path).is_file() {
            section.problem("kubeconfig", format!("{path} is no file: name one, or remove it inside a cluster"));
        }
        PathBuf::from(path)
    });
    let given = section.text("node").map(str::to_owned);
    let node = given.or_else(|| std::env::var(NODE_NAME).ok()).unwrap_or_default();
    if node.is_empty() {
        section.problem("node", format!("missing: give this node's name in the cluster, or set {NODE_NAME}"));
    }
    section.show("node", node.as_str());
    let wait = Duration::from_millis(section.number("wait_ms", 0..=5_000, 500));
    let forwarders = section.texts("forwarders").unwrap_or_default();
    for item in &forwarders {
        if let Err(error) = Glob::new(item.text) {
            section.item_problem(item, format!("{:?} is no glob: {}", item.text, error.kind()));
        } else if !item.text.contains('/') {
            section.item_problem(
                item,
                format!("{:?} matches nothing: write NAMESPACE/NAME, as \"*/fluent-bit\"", item.text),
            );
        }
    }
    section.show("forwarders", super::log::texts(&forwarders));
    section.finish();
    PodsConfig { kubeconfig, node, wait, forwarders: forwarders.iter().map(|item| item.text.to_owned()).collect() }
}
