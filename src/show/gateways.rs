//! `tidegate gateways`: who serves what is published, who lags, and why.

use std::collections::BTreeMap;

use serde::Deserialize;

use super::client::Client;
use super::{ServerOptions, ShowError, print, unusable};
use crate::base::percent::encoded;
use crate::base::table::table;

/// What `gateways` is told.
#[derive(Clone, Debug)]
pub struct GatewaysOptions {
    /// Whom to ask.
    pub server: ServerOptions,
    /// Only those that lag.
    pub lagging: bool,
    /// Only those that have asked for one of these pools or serve it; all, where there is none.
    pub pools: Vec<String>,
}

#[derive(Deserialize)]
struct Body {
    gateways: Vec<Gateway>,
}

#[derive(Deserialize)]
struct Gateway {
    name: String,
    seen: String,
    #[serde(default)]
    relays: Vec<String>,
    #[serde(default)]
    relay_state: Option<String>,
    #[serde(default)]
    pools: BTreeMap<String, PoolState>,
    #[serde(default)]
    error: Option<String>,
}

#[derive(Deserialize)]
struct PoolState {
    #[serde(default)]
    applied: Option<serde_json::Value>,
    #[serde(default)]
    applied_at: Option<String>,
    current: bool,
}

/// Pools of one gateway that are named.
const NAMED: usize = 3;

/// Prints the table.
///
/// # Errors
/// The server cannot be asked, or a gateway lags.
pub fn run(options: &GatewaysOptions) -> Result<(), ShowError> {
    let client = Client::new(options.server.clone())?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let pools: Vec<String> = options.pools.iter().map(|pool| format!("id={}", encoded(pool))).collect();
    let pulled = runtime.block_on(client.pull(&format!("/v1/gateways?{}", pools.join("&")), None))?;
    let body: Body = serde_json::from_slice(&pulled.body).map_err(|error| unusable(&pulled.server, &error))?;
    let lag = body.gateways.iter().filter(|gateway| gateway.lags().is_some()).count();
    print(&text(&body.gateways, options.lagging))?;
    if lag > 0 { Err(ShowError::Lagging(lag)) } else { Ok(()) }
}

fn text(gateways: &[Gateway], lagging: bool) -> String {
    let row = |gateway: &Gateway| {
        let current = gateway.pools.values().filter(|pool| pool.current).count();
        let through = gateway.relays.last().map_or("-", String::as_str);
        let why = gateway.lags().unwrap_or_else(|| "-".to_owned());
        [
            gateway.name.clone(),
            format!("{current}/{}", gateway.pools.len()),
            gateway.seen.clone(),
            through.to_owned(),
            why,
        ]
    };
    let shown = gateways.iter().filter(|gateway| !lagging || gateway.lags().is_some());
    table(["GATEWAY", "CURRENT", "HEARD OF", "THROUGH", "LAGS BECAUSE"], shown.map(row))
}

// === impl Gateway ===

impl Gateway {
    /// Why it does not serve what is published; `None` where it does.
    fn lags(&self) -> Option<String> {
        if let Some(error) = &self.error {
            return Some(error.clone());
        }
        if self.relay_state.as_deref() == Some("gone") {
            return Some("the relay that it asks is gone".to_owned());
        }
        let behind: Vec<_> = self.pools.iter().filter(|(_, pool)| !pool.current).collect();
        let (id, pool) = behind.first()?;
        let first = behind.iter().take(NAMED).map(|(id, _)| id.as_str()).collect::<Vec<_>>().join(", ");
        Some(match (&pool.applied, &pool.applied_at) {
            (Some(_), Some(at)) => format!("has an older {first} since {at}, {} in all", behind.len()),
            _ => format!("asked for {id} and has not said that it serves it, {} in all", behind.len()),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_lags_is_told_with_the_reason() {
        let text_of = |lagging| {
            let body = r#"{"gateways":[
                {"name":"edge-1","client":"c","since":"s","seen":"now","pools":{"a":{"applied":"x","applied_at":"then","current":true}}},
                {"name":"edge-2","client":"c","since":"s","seen":"now","relays":["node-1"],"pools":{"a":{"applied":"x","applied_at":"then","current":false},"b":{"applied":1,"applied_at":"then","current":true}}},
                {"name":"edge-3","client":"c","since":"s","seen":"now","pools":{},"error":"nginx -t failed"},
                {"name":"edge-4","client":"c","since":"s","seen":"now","pools":{"a":{"asked_at":"then","current":false}}}],"relays":[]}"#;
            text(&serde_json::from_str::<Body>(body).unwrap().gateways, lagging)
        };
        let all = text_of(false);
        let line = |name: &str| all.lines().find(|line| line.starts_with(name)).unwrap().to_owned();
        assert!(line("edge-1").ends_with("1/1      now       -        -"), "{all}");
        assert!(
            line("edge-2").contains("1/2") && line("edge-2").contains("node-1   has an older a since then, 1 in all"),
            "{all}"
        );
        assert!(line("edge-3").ends_with("nginx -t failed") && line("edge-4").contains("asked for a"), "{all}");
        assert_eq!(text_of(true).lines().count(), 4);
    }
}
