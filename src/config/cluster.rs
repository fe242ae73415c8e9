//! `cluster` and `sentinel_masters` of `[log]`.

use super::log::texts;
use super::section::Section;
use crate::intake::cluster::{ClusterConfig, ClusterMode, Endpoint};

/// More instances than this are no list that anybody keeps by hand.
const MOST: usize = 1000;

pub(super) fn read(section: &mut Section<'_>) -> ClusterConfig {
    let mode = if section.is_list("cluster") {
        read_nodes(section)
    } else {
        section.choice("cluster", ("off", Mode::Off), [("self", Mode::Own)], &[]).into()
    };
    let sentinel_masters = match section.texts("sentinel_masters") {
        None => ClusterConfig::default().sentinel_masters,
        Some(items) => {
            for item in &items {
                if item.text.is_empty() || item.text.chars().any(char::is_whitespace) {
                    section
                        .item_problem(item, "is empty or has a blank: give the name that clients ask a sentinel for");
                }
            }
            if mode == ClusterMode::Off {
                section.problem(
                    "sentinel_masters",
                    "has no effect, because log.cluster is \"off\": set that, or remove this",
                );
            }
            items.iter().map(|item| item.text.to_owned()).collect()
        }
    };
    if mode != ClusterMode::Off {
        section.show("sentinel_masters", sentinel_masters.clone());
    }
    ClusterConfig { mode, sentinel_masters }
}

/// [`ClusterMode`] without its list, as one of a few words.
#[derive(Clone, Copy)]
enum Mode {
    Off,
    Own,
}

impl From<Mode> for ClusterMode {
    fn from(mode: Mode) -> Self {
        match mode {
            Mode::Off => Self::Off,
            Mode::Own => Self::Own,
        }
    }
}

fn read_nodes(section: &mut Section<'_>) -> ClusterMode {
    let items = section.texts("cluster").unwrap_or_default();
    if items.is_empty() || items.len() > MOST {
        section.problem(
            "cluster",
            format!("must name from 1 to {MOST} instances, as [\"10.0.0.1:6379\"], or be \"self\""),
        );
    }
    let mut nodes: Vec<Endpoint> = Vec::new();
    for item in &items {
        match Endpoint::parse(item.text) {
            Some(node) if nodes.contains(&node) => {
                section.item_problem(item, format!("{} stands here twice: remove one", item.text));
            }
            Some(node) => nodes.push(node),
            None => section.item_problem(item, format!("{:?} is no address: write HOST:PORT", item.text)),
        }
    }
    section.show("cluster", texts(&items));
    nodes.sort();
    ClusterMode::Nodes(nodes)
}
