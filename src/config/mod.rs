//! The configuration file: text in, each stage's own `Config` type out, or every problem with its line and its remedy.
//!
//! A [`section::Section`] reads one table of the file. What it is asked for is what it knows: each read names its key,
//! range and default, notes a problem where the value does not fit, and writes the value that holds into the effective
//! configuration. So unknown keys, line numbers, defaults and the printed configuration never fall out of step with what
//! is really read. A value that does not fit is replaced by its default and reading goes on, so that one run reports
//! all problems of a file; whether there were any is asked once, at the end.

mod admin;
pub mod agents;
mod changes;
mod cluster;
mod control;
mod discovery;
mod discovery_export;
mod discovery_remote;
mod discovery_source;
mod discovery_tokens;
mod enrich;
mod files;
mod gateway;
mod gateway_action;
mod gateway_kubernetes;
mod gateway_pool;
mod gateway_route;
mod gateway_tls;
mod join;
mod kafka;
mod log;
mod pods;
mod report;
mod route;
mod secret;
mod section;
mod spool;
mod template;
mod tls;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use toml::de::DeTable;

use crate::admin::config::AdminConfig;
use crate::control::config::ControlConfig;
use crate::delivery::config::KafkaConfig;
use crate::discovery::config::DiscoveryConfig;
use crate::endpoints::config::EndpointsConfig;
use crate::endpoints::pool::PoolId;
use crate::gateway::config::GatewayConfig;
use crate::gateway::kubernetes::KubernetesRoutesConfig;
use crate::intake::config::IntakeConfig;
use crate::pods::config::PodsConfig;
use crate::record::config::{Accept, RouteConfig};
use crate::spool::SpoolConfig;
use crate::upstream::PoolConfig;

pub use changes::needing_restart;
pub use files::Files;
use report::Report;
pub use report::{Problem, Problems};
use section::Section;

/// What a process is to run: each part present when its section of the file is.
#[derive(Clone, Debug)]
pub struct Config {
    /// `[admin]`: health, metrics, the web page.
    pub admin: Option<AdminConfig>,
    /// `[log]`: the log plane.
    pub log: Option<LogConfig>,
    /// `[discovery]`: the traffic plane.
    pub discovery: Option<TrafficConfig>,
    /// `[gateway]`: the built-in HTTP gateway, over the pools of `discovery`.
    pub gateway: Option<GatewayPlaneConfig>,
    /// `[control]`: the control component, which has a command of its own.
    pub control: Option<ControlConfig>,
}

/// The gateway: `[gateway]` and its sub-sections, by stage.
#[derive(Clone, Debug)]
pub struct GatewayPlaneConfig {
    /// Listeners, routes, limits.
    pub gateway: GatewayConfig,
    /// Who it is to those who wait for what it serves.
    pub name: Arc<str>,
    /// Every pool that a route names.
    pub pools: BTreeMap<PoolId, PoolConfig>,
    /// How a pool is run that it says nothing of.
    pub default_pool: PoolConfig,
    /// Whose objects are routes, too.
    pub kubernetes: Option<KubernetesRoutesConfig>,
    /// For how long nobody is let in while a source has not told its pools yet.
    pub first_pools_timeout: Duration,
}

/// The traffic plane: `[discovery]` and its sub-sections, by stage.
#[derive(Clone, Debug)]
pub struct TrafficConfig {
    /// Sources, joined pools, guards.
    pub endpoints: EndpointsConfig,
    /// The pull API.
    pub api: DiscoveryConfig,
}

/// The log plane: `[log]` and its sub-sections, by stage.
#[derive(Clone, Debug)]
pub struct LogConfig {
    /// Listeners, limits, users.
    pub intake: IntakeConfig,
    /// Kafka.
    pub kafka: KafkaConfig,
    /// The spool, where there is one.
    pub spool: Option<SpoolConfig>,
    /// Routes in order, at least one; the first match wins.
    pub routes: Vec<RouteConfig>,
    /// The node's pods, where records name theirs.
    pub pods: Option<PodsConfig>,
    /// The consumer group whose unread records LLEN answers; absent: it answers 0.
    pub llen: Option<String>,
}

/// A file that was read and found good.
#[derive(Clone, Debug)]
pub struct Loaded {
    /// What it says.
    pub config: Config,
    /// The same as TOML with every default spelled out; secrets are named by their files, never shown.
    pub effective: String,
    /// What it was read from.
    pub files: Files,
}

/// What came of reading a file, and which files it depended on: another try is worth it when one of them changes.
#[derive(Debug)]
pub struct Attempt {
    /// The configuration, or why there is none.
    pub outcome: Result<Loaded, ConfigError>,
    /// The file itself and those that it names, whether they could be read or not.
    pub files: Files,
}

/// Why a file gives no configuration. Always the operator's to mend; trying again does not help.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file could not be read.
    #[error("{}: cannot be read: {cause}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the operating system said.
        cause: std::io::Error,
    },
    /// The file was read and refused.
    #[error("{0}")]
    Invalid(Problems),
}

/// Reads, parses and validates a file, and the secret files that it names.
pub fn load(path: &Path) -> Result<Loaded, ConfigError> {
    attempt(path).outcome
}

/// As [`load`], for who will look at the files again.
pub fn attempt(path: &Path) -> Attempt {
    let name = path.display().to_string();
    let text = std::fs::read_to_string(path);
    let mut files = Files::default();
    files.note("", path, text.as_ref().ok().map(String::as_bytes));
    match text {
        Err(cause) => Attempt { outcome: Err(ConfigError::Read { path: path.to_owned(), cause }), files },
        Ok(text) => {
            let report = Report::new(&name, &text, files);
            let config = read(&report, &text);
            let files = report.files();
            Attempt { outcome: conclude(report, config), files }
        }
    }
}

/// Parses and validates `text`; `file` is its name in messages. Secret files that it names are read.
pub fn parse(file: &str, text: &str) -> Result<Loaded, ConfigError> {
    let report = Report::new(file, text, Files::default());
    let config = read(&report, text);
    conclude(report, config)
}

/// Reads what the text says, as far as it can be read; what is wrong is in the report.
fn read(report: &Report<'_>, text: &str) -> Config {
    let (root, errors) = DeTable::parse_recoverable(text);
    for error in &errors {
        let span = error.span().unwrap_or_default();
        match (error.message(), text.get(span.clone())) {
            ("duplicate key", Some(key)) => {
                report.problem(span.start, key.to_owned(), "stands here twice: remove one".to_owned())
            }
            (message, _) => report.problem(span.start, "syntax".to_owned(), message.replace('\n', ", ")),
        }
    }
    if !errors.is_empty() {
        // What follows a syntax error may be read wrongly: its other problems would mislead.
        return Config { admin: None, log: None, discovery: None, gateway: None, control: None };
    }
    let mut section = Section::root(report, root.get_ref());
    section.refuse("pull", "is of an agent's file: give that to `tidegate render` or `tidegate sync`");
    let admin = section.table("admin").map(admin::read);
    let log = section.table("log").map(log::read);
    let discovery = section.table("discovery").map(discovery::read);
    let gateway = section.table("gateway").map(gateway::read);
    let has_control = section.has("control");
    let control = section.table("control").and_then(control::read);
    let nothing = admin.is_none() && log.is_none() && discovery.is_none() && gateway.is_none() && !has_control;
    if nothing {
        let sections = "a [log], [discovery], [gateway], [control] or [admin] section";
        section.problem("log", format!("missing: nothing would run; add {sections}"));
    }
    if let Some(gateway) = &gateway {
        check_gateway(&section, gateway, log.as_ref(), discovery.is_some());
    }
    section.finish();
    Config { admin, log, discovery, gateway, control }
}

/// What the gateway needs of the other planes.
fn check_gateway(root: &Section<'_>, gateway: &GatewayPlaneConfig, log: Option<&LogConfig>, has_pools: bool) {
    if !has_pools {
        root.problem(
            "gateway",
            "needs pools, and there is no [discovery]: add it, with a [[discovery.source]] or a [[discovery.pool]]",
        );
    }
    let Some(access) = &gateway.gateway.access_log else { return };
    let takes = |route: &RouteConfig| {
        let glob = globset::Glob::new(&route.key).map(|glob| glob.compile_matcher());
        route.accept.contains(&Accept::List) && glob.is_ok_and(|glob| glob.is_match(&access.key))
    };
    match log {
        None => {
            root.problem("gateway", "has an access_log, and there is no [log] to take it: add it, or remove access_log")
        }
        Some(log) if !log.routes.iter().any(takes) => root.problem(
            "gateway",
            format!("has an access_log, and no [[log.route]] takes its key {:?} as a list: add one", access.key),
        ),
        Some(_) => {}
    }
}

fn conclude(report: Report<'_>, config: Config) -> Result<Loaded, ConfigError> {
    if !report.is_good() {
        return Err(ConfigError::Invalid(report.into_problems()));
    }
    let files = report.files();
    Ok(Loaded { config, effective: report.into_effective(), files })
}
