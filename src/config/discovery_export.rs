//! `[discovery.eureka_export]`: pods that are registered in a Eureka ring.

use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use super::discovery::read_shown;
use super::discovery_remote::{node_name, read_credentials, read_urls};
use super::section::Section;
use crate::discovery::export::{ExportConfig, ExportLease};

pub(super) fn read_export(section: &mut Section<'_>) -> Option<ExportConfig> {
    let mut export = section.table("eureka_export")?;
    let urls = read_urls(&mut export, "http://eureka:8761/eureka");
    if urls.is_empty() && !export.has("url") {
        export.problem("url", "missing: name the ring's servers, as [\"http://eureka:8761/eureka\"]");
    }
    let items = export.texts("pools").unwrap_or_default();
    let pools: Vec<String> = items.iter().map(|item| item.text.to_owned()).collect();
    for item in items.iter().filter(|item| item.text.is_empty()) {
        export.item_problem(item, "is empty, which would be every pool: write the beginning of their ids".to_owned());
    }
    if pools.is_empty() {
        export.problem("pools", "name what is registered by the beginnings of the pools' ids, as [\"east/shop/\"]");
    }
    export.show("pools", pools.clone());
    let owner = read_shown::<String>(&mut export, "owner").unwrap_or_else(|| {
        export.show("owner", "tidegate");
        "tidegate".to_owned()
    });
    let heartbeat = Duration::from_secs(export.number("heartbeat_seconds", 1..=60, 10));
    let lease = read_lease(&mut export);
    let credentials = read_credentials(&mut export, &urls);
    export.finish();
    let complete = !urls.is_empty() && !pools.is_empty();
    complete.then_some(ExportConfig { urls, pools, owner, heartbeat, lease, credentials })
}

fn read_lease(export: &mut Section<'_>) -> Option<ExportLease> {
    let mut table = export.inline("lease")?;
    let mut text = |key: &'static str, example: &str| {
        let text = table.text(key).map(str::to_owned);
        if text.is_none() && !table.has(key) {
            table.problem(key, format!("missing: write it, as {example:?}"));
        }
        text.unwrap_or_default()
    };
    let (namespace, name) = (text("namespace", "tidegate"), text("name", "tidegate-eureka"));
    let kubeconfig = table.text("kubeconfig").map(PathBuf::from);
    table.finish();
    let mut shown = toml::Table::new();
    shown.insert("namespace".to_owned(), namespace.clone().into());
    shown.insert("name".to_owned(), name.clone().into());
    if let Some(path) = &kubeconfig {
        shown.insert("kubeconfig".to_owned(), path.display().to_string().into());
    }
    export.show("lease", shown);
    // Another one at each start: who starts again is not who was frozen.
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_nanos();
    let identity = format!("{}-{}-{since:x}", node_name(), std::process::id());
    Some(ExportLease { namespace, name, kubeconfig, identity })
}
