//! Tidegate's own log: to stderr, as text or JSON, filtered. Standard output is for results.

use std::io::IsTerminal;

use tracing_subscriber::EnvFilter;

/// The environment variable with the filter, where the command line gives none.
pub const FILTER_VARIABLE: &str = "TIDEGATE_LOG";

/// How a log line looks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LogFormat {
    /// For people.
    #[default]
    Text,
    /// One JSON object a line.
    Json,
}

/// Why the log could not be set up.
#[derive(Debug, thiserror::Error)]
pub enum LoggingError {
    /// The filter does not parse.
    #[error(
        "log filter {filter:?}: {cause}: write a level (warn, info, debug) or target=level pairs, as \"info,tidegate::intake=debug\""
    )]
    Filter {
        /// As it was given.
        filter: String,
        /// What is wrong with it.
        cause: tracing_subscriber::filter::ParseError,
    },
    /// The process has a log already.
    #[error("the log is set up already")]
    Twice,
}

/// Starts the log. `filter` is a level or `target=level` pairs, as tracing's `EnvFilter` reads them.
pub fn init(format: LogFormat, filter: &str) -> Result<(), LoggingError> {
    let filter =
        EnvFilter::try_new(filter).map_err(|cause| LoggingError::Filter { filter: filter.to_owned(), cause })?;
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    let outcome = match format {
        LogFormat::Text => builder.with_ansi(std::io::stderr().is_terminal()).try_init(),
        LogFormat::Json => builder.json().flatten_event(true).try_init(),
    };
    outcome.map_err(|_| LoggingError::Twice)
}
