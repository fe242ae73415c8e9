//! `cluster` and `sentinel_masters` of `[log]`.

use toml::{Table, Value};

use super::log::texts;
use super::section::Section;
use crate::intake::cluster::{ClusterConfig, ClusterMode, Endpoint};
use crate::intake::config::ListenAddress;
use crate::peers::config::PeersConfig;

/// More instances than this are no list that anybody keeps by hand.
const MOST: usize = 1000;
/// What the Service's port is called where nothing is said.
const PORT: &str = "redis";

pub(super) fn read(section: &mut Section<'_>, listen: &[ListenAddress]) -> ClusterConfig {
    let mode = if section.is_list("cluster") {
        read_nodes(section)
    } else if section.is_table("cluster") {
        read_service(section)
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
    let sentinel_port = read_sentinel_port(section, listen, mode != ClusterMode::Off);
    ClusterConfig { mode, sentinel_masters, sentinel_port }
}

fn read_sentinel_port(section: &mut Section<'_>, listen: &[ListenAddress], is_on: bool) -> Option<u16> {
    let port = section.number_unshown("sentinel_port", 1..=65_535).and_then(|port| u16::try_from(port).ok())?;
    let mut ports = listen.iter().filter_map(|address| match address {
        ListenAddress::Tcp(address) | ListenAddress::Tls(address) => Some(address.port()),
        ListenAddress::Unix(_) => None,
    });
    if !is_on {
        let fault = "has no effect, because log.cluster is \"off\": set that, or remove this";
        section.problem("sentinel_port", fault);
    } else if ports.next() == Some(port) || !ports.any(|listened| listened == port) {
        let fault = "must be the port of an address in log.listen that is not the first: clients are sent to the first";
        section.problem("sentinel_port", format!("{port} {fault}"));
    }
    section.show("sentinel_port", i64::from(port));
    Some(port)
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

/// `{ service = "NAMESPACE/NAME", port = "NAME", kubeconfig = "FILE" }`.
fn read_service(section: &mut Section<'_>) -> ClusterMode {
    let mut shown = Table::new();
    let Some(mut table) = section.inline("cluster") else { return ClusterMode::Own };
    let named = table.text("service").unwrap_or_default();
    let (namespace, service) = named.split_once('/').unwrap_or_default();
    if !is_name(namespace) || !is_name(service) {
        table.problem("service", format!("{named:?} names no Service: write NAMESPACE/NAME, as \"tidegate/tidegate\""));
    }
    let port = table.text("port").unwrap_or(PORT);
    if !port.is_empty() && !is_name(port) {
        table.problem(
            "port",
            format!("{port:?} is no name of a Service's port: give the name, or \"\" where it has none"),
        );
    }
    shown.extend([("service", named), ("port", port)].map(|(key, value)| (key.to_owned(), Value::from(value))));
    let kubeconfig = table.text("kubeconfig").map(|path| {
        if !std::path::Path::new(path).is_file() {
            table.problem("kubeconfig", format!("{path} is no file: name one, or remove it inside a cluster"));
        }
        shown.insert("kubeconfig".to_owned(), path.into());
        path.into()
    });
    table.finish();
    section.show("cluster", shown);
    ClusterMode::Service(PeersConfig {
        namespace: namespace.into(),
        service: service.into(),
        port: port.into(),
        kubeconfig,
    })
}

/// As Kubernetes has them: RFC 1123's labels.
fn is_name(text: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    (1..=63).contains(&text.len()) && text.bytes().all(plain) && !text.starts_with('-') && !text.ends_with('-')
}
