//! The configuration file: text in, each stage's own `Config` type out, or every problem with its line and its remedy.
//!
//! A [`section::Section`] reads one table of the file. What it is asked for is what it knows: each read names its key,
//! range and default, notes a problem where the value does not fit, and writes the value that holds into the effective
//! configuration. So unknown keys, line numbers, defaults and the printed configuration never fall out of step with what
//! is really read. A value that does not fit is replaced by its default and reading goes on, so that one run reports
//! all problems of a file; whether there were any is asked once, at the end.

mod admin;
mod discovery;
mod discovery_source;
mod discovery_tokens;
mod kafka;
mod log;
mod report;
mod route;
mod secret;
mod section;
mod template;

use std::path::{Path, PathBuf};

use toml::de::DeTable;

use crate::admin::config::AdminConfig;
use crate::delivery::config::KafkaConfig;
use crate::discovery::config::DiscoveryConfig;
use crate::endpoints::config::EndpointsConfig;
use crate::intake::config::IntakeConfig;
use crate::record::config::RouteConfig;

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
    /// Routes in order, at least one; the first match wins.
    pub routes: Vec<RouteConfig>,
}

/// A file that was read and found good.
#[derive(Clone, Debug)]
pub struct Loaded {
    /// What it says.
    pub config: Config,
    /// The same as TOML with every default spelled out; secrets are named by their files, never shown.
    pub effective: String,
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
    let text = std::fs::read_to_string(path).map_err(|cause| ConfigError::Read { path: path.to_owned(), cause })?;
    parse(&path.display().to_string(), &text)
}

/// Parses and validates `text`; `file` is its name in messages. Secret files that it names are read.
pub fn parse(file: &str, text: &str) -> Result<Loaded, ConfigError> {
    let report = Report::new(file, text);
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
        return Err(ConfigError::Invalid(report.into_problems()));
    }
    let mut section = Section::root(&report, root.get_ref());
    for plane in ["gateway", "control"] {
        section.later(plane);
    }
    let admin = section.table("admin").map(admin::read);
    let log = section.table("log").map(log::read);
    let discovery = section.table("discovery").map(discovery::read);
    if admin.is_none() && log.is_none() && discovery.is_none() {
        section.problem("log", "missing: nothing would run; add a [log], [discovery] or [admin] section");
    }
    section.finish();
    if !report.is_good() {
        return Err(ConfigError::Invalid(report.into_problems()));
    }
    Ok(Loaded { config: Config { admin, log, discovery }, effective: report.into_effective() })
}
