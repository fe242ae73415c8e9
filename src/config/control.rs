//! `[control]`.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::time::Duration;

use toml::{Table, Value};

use super::discovery::read_shown;
use super::discovery_remote::{check_url, read_credentials};
use super::discovery_source::read_namespaces;
use super::section::Section;
use crate::control::config::{ControlConfig, HubConfig, MemberConfig};

const HUB_EXAMPLE: &str = "http://tidegate-hub.tidegate.svc:8500";

pub(super) fn read(mut section: Section<'_>) -> Option<ControlConfig> {
    for key in ["listen", "tokens_file", "oidc", "roles_file", "hook", "notify"] {
        section.later(key);
    }
    let clusters = read_clusters(&mut section);
    let lease = read_lease(&mut section);
    let required = section.texts("required_gateways").unwrap_or_default();
    section.show("required_gateways", required.iter().map(|item| Value::from(item.text)).collect::<Vec<_>>());
    let prometheus = read_shown::<String>(&mut section, "prometheus");
    if let Some(Err(why)) = prometheus.as_deref().map(check_plain) {
        section.problem("prometheus", why);
    }
    let allowed = section.texts("egress_allow").unwrap_or_default();
    for item in &allowed {
        if let Some(why) = bad_host(item.text) {
            section.item_problem(item, why);
        }
    }
    section.show("egress_allow", allowed.iter().map(|item| Value::from(item.text)).collect::<Vec<_>>());
    let timeout = section.number("acknowledge_timeout_seconds", 1..=86_400, 60);
    let patience = section.number("api_timeout_seconds", 1..=30, 10);
    let hubs = read_hubs(&mut section);
    section.finish();
    let Clusters { home, members } = clusters?;
    let Home { cluster, kubeconfig, namespaces } = home;
    Some(ControlConfig {
        cluster,
        kubeconfig,
        members,
        namespaces,
        lease,
        hubs,
        prometheus,
        egress_allow: allowed.iter().map(|item| item.text.to_owned()).collect(),
        required_gateways: required.iter().map(|item| item.text.to_owned()).collect(),
        api_timeout: Duration::from_secs(patience),
        acknowledge_timeout: Duration::from_secs(timeout),
    })
}

/// Of a server that is asked in the clear.
fn check_plain(url: &str) -> Result<(), String> {
    let rest = url.strip_prefix("http://").unwrap_or_default();
    if rest.is_empty() || rest.contains(['/', '@', '?', ' ']) {
        return Err(format!("{url:?} is no address: write it as \"http://prometheus.monitoring.svc:9090\""));
    }
    Ok(())
}

/// Why this is no host, and no pattern of hosts.
fn bad_host(text: &str) -> Option<String> {
    let name = text.strip_prefix("*.").unwrap_or(text);
    let bad = name.is_empty() || name.starts_with('.') || name.contains(['*', '/', ':', '@', ' ']);
    bad.then(|| {
        format!("{text:?} is no host: write a name without a port, as \"checks.corp.example\" or \"*.corp.example\"")
    })
}

/// The cluster that Apps live in.
struct Home {
    cluster: String,
    kubeconfig: Option<PathBuf>,
    namespaces: Vec<String>,
}

/// All that Apps may run in.
struct Clusters {
    home: Home,
    members: Vec<MemberConfig>,
}

fn read_clusters(section: &mut Section<'_>) -> Option<Clusters> {
    let mut tables = section.tables("cluster");
    if tables.is_empty() && !section.has("cluster") {
        section.problem("cluster", "missing: add a [[control.cluster]] with the name of the cluster that Apps live in");
    }
    let count = tables.len();
    let (mut homes, mut members, mut names) = (Vec::new(), Vec::new(), BTreeSet::new());
    for cluster in &mut tables {
        let name = read_name(cluster, &mut names);
        let kubeconfig = read_shown::<String>(cluster, "kubeconfig").map(PathBuf::from);
        if cluster.flag("home", count == 1) {
            let namespaces = read_namespaces(cluster);
            homes.push(Home { cluster: name, kubeconfig, namespaces });
        } else if let Some(kubeconfig) = kubeconfig {
            if cluster.has("namespaces") {
                cluster
                    .problem("namespaces", "stands at the cluster with home = true, and holds in all: remove it here");
                read_namespaces(cluster);
            }
            members.push(MemberConfig { name, kubeconfig });
        } else if !cluster.has("kubeconfig") {
            cluster.problem("kubeconfig", "missing: name the file by which this cluster is reached");
        }
    }
    for cluster in tables {
        cluster.finish();
    }
    if count > 0 && homes.len() != 1 {
        section.problem("cluster", "give the one cluster that Apps live in home = true, and no other");
    }
    homes.into_iter().next().map(|home| Clusters { home, members })
}

fn read_name(cluster: &mut Section<'_>, others: &mut BTreeSet<String>) -> String {
    let name = read_shown::<String>(cluster, "name");
    match &name {
        Some(name) if name.contains('/') => {
            cluster.problem("name", "is no name of a cluster: it stands before the first slash of its pools' ids");
        }
        Some(name) if !others.insert(name.clone()) => {
            cluster.problem("name", format!("{name:?} stands here twice: give each cluster a name of its own"));
        }
        None if !cluster.has("name") => {
            cluster.problem("name", "missing: name it as data planes do in their [[discovery.source]], as \"east\"");
        }
        _ => {}
    }
    name.unwrap_or_default()
}

fn read_lease(section: &mut Section<'_>) -> (String, String) {
    let (mut namespace, mut name) = ("tidegate".to_owned(), "tidegate-control".to_owned());
    if let Some(mut table) = section.inline("lease") {
        for (key, into) in [("namespace", &mut namespace), ("name", &mut name)] {
            if let Some(text) = table.text(key) {
                if text.is_empty() {
                    table.problem(key, "is empty: write something, or remove the key");
                }
                text.clone_into(into);
            }
        }
        table.finish();
    }
    let shown = [("namespace", &namespace), ("name", &name)];
    section.show(
        "lease",
        shown.map(|(key, text)| (key.to_owned(), Value::from(text.as_str()))).into_iter().collect::<Table>(),
    );
    (namespace, name)
}

fn read_hubs(section: &mut Section<'_>) -> Vec<HubConfig> {
    let mut hubs: Vec<HubConfig> = Vec::new();
    for mut hub in section.tables("hub") {
        if let Some(url) = read_shown::<String>(&mut hub, "url") {
            if let Err(why) = check_url(&url, HUB_EXAMPLE) {
                hub.problem("url", why);
            }
            if hubs.iter().any(|it| it.url == url) {
                hub.problem("url", format!("{url} stands here twice: remove one"));
            }
            let credentials = read_credentials(&mut hub, std::slice::from_ref(&url));
            hubs.push(HubConfig { url, credentials });
        } else if !hub.has("url") {
            hub.problem("url", format!("missing: name the hub, as {HUB_EXAMPLE:?}"));
        }
        hub.finish();
    }
    if hubs.is_empty() && !section.has("hub") {
        let text =
            format!("missing: no switch could be acknowledged; add a [[control.hub]] with url = {HUB_EXAMPLE:?}");
        section.problem("hub", text);
    }
    hubs
}
