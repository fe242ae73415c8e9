//! The command line.

pub mod agents;
pub mod catalogue;
mod dead_letters;
pub mod deploy;
pub mod hook;
pub mod spool;

use std::path::PathBuf;

use clap::{ArgGroup, Args, Parser, Subcommand, ValueEnum};

use crate::dev::DevOptions;
use crate::show::{PoolsOptions, ServerOptions};
use crate::tail::live::read_token;
use crate::tail::{FieldFilter, Filter, LiveOptions, TailOptions};
use crate::telemetry::logging::LogFormat;

pub use dead_letters::DeadLettersArguments;

/// Speaks Redis to applications and puts every record into Apache Kafka.
#[derive(Debug, Parser)]
#[command(name = "tidegate", version, arg_required_else_help = true, after_help = EXAMPLES)]
pub struct Cli {
    /// How Tidegate's own log, on stderr, looks
    #[arg(long, global = true, value_enum, default_value = "text")]
    pub log_format: Format,
    /// What is logged: a level, or target=level pairs, as info,tidegate::intake=debug [env: TIDEGATE_LOG]
    #[arg(long, global = true, value_name = "FILTER")]
    pub log_level: Option<String>,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

const EXAMPLES: &str = "Examples:
  tidegate dev                                      everything on this machine, nothing to install
  tidegate run --config /etc/tidegate/tidegate.toml
  tidegate tail logs.app-web --brokers kafka-1:9092 --grep timeout

Exit codes: 0 after a graceful end, 2 for a bad configuration or command line, 1 for anything else.";

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run the planes that the configuration file has a section for
    ///
    /// SIGTERM or Ctrl-C ends it gracefully: what was received is finished first. SIGHUP, or a change of the file or of a
    /// secret that it names, reloads users and routes with every connection open; a bad file is refused and logged.
    #[command(after_help = "Example:\n  tidegate run --config /etc/tidegate/tidegate.toml --log-format json")]
    Run {
        /// The configuration file (TOML)
        #[arg(long, value_name = "FILE")]
        config: PathBuf,
    },
    /// Run the control component: it carries out the Releases of Apps in a Kubernetes cluster
    ///
    /// Of several instances one leads, by a Lease; the others take over within 15 s. SIGTERM or Ctrl-C ends it gracefully, and
    /// another leads at once. Needs [control] in the file, and serves [admin]; the planes of `run` are another process's.
    #[command(after_help = "Example:\n  tidegate control --config /etc/tidegate/control.toml --log-format json")]
    Control {
        /// The configuration file (TOML)
        #[arg(long, value_name = "FILE")]
        config: PathBuf,
    },
    /// Print the definitions of the custom resources, for `kubectl apply -f -`
    #[command(
        after_help = "Examples:\n  tidegate crd | kubectl apply -f -\n  tidegate crd --directory deploy/kubernetes/crds"
    )]
    Crd {
        /// Write a file for each into this directory in place of printing them
        #[arg(long, value_name = "DIRECTORY")]
        directory: Option<PathBuf>,
    },
    /// Check a configuration file and print what holds, every default spelled out
    ///
    /// Reads the secret files that it names and never shows their content. A bad file gives one line per problem on
    /// stderr, `FILE:LINE: key: what is wrong and the remedy`, and exit code 2.
    #[command(after_help = "Example:\n  tidegate check-config /etc/tidegate/tidegate.toml")]
    CheckConfig {
        /// The configuration file (TOML)
        #[arg(value_name = "FILE")]
        file: PathBuf,
    },
    /// Run everything on this machine with a Kafka inside, to try it; nothing is kept
    ///
    /// Prints every address and a line to paste, then each record as it arrives. Ctrl-C ends it.
    ///
    /// Deploys need a cluster: config/try/README.md has a dozen lines by which one is tried against any, with data plane and control
    /// component on this machine.
    #[command(after_help = "Example:\n  tidegate dev --redis-port 6379")]
    Dev(DevArguments),
    /// Follow a topic of Kafka, or what a running Tidegate takes in: one line a record, until Ctrl-C
    ///
    /// Joins no consumer group and commits nothing. On a terminal each line has time, partition and offset (with --live the
    /// Redis key); piped, it is the record's value alone. With --live, records that come too fast are sampled, and how
    /// many were not shown is said on stderr.
    #[command(after_help = TAIL_EXAMPLES)]
    Tail(TailArguments),
    /// See what Kafka or a route did not take, and send it again
    DeadLetters(DeadLettersArguments),
    /// Look into a spool's directory without changing it, beside a running Tidegate or after one
    #[command(subcommand, after_help = spool::EXAMPLES)]
    Spool(spool::SpoolCommand),
    /// Show upstream pools as gateways get them: endpoints, how true they are and since when
    #[command(
        after_help = "Examples:\n  tidegate pools\n  tidegate pools east/shop/checkout/http --watch --server http://127.0.0.1:8500"
    )]
    Pools(PoolsArguments),
    /// What is asked of Apps and their releases
    #[command(flatten)]
    Deploys(deploy::DeployCommand),
    /// Run what is done for a pod before it starts, before it is online, and before it is offline
    ///
    /// The control component writes these commands into the pods of an App that has `spec.hooks`.
    #[command(subcommand, after_help = hook::EXAMPLES)]
    Hook(hook::HookCommand),
    /// What runs beside a gateway
    #[command(flatten)]
    Agents(agents::AgentCommand),
    /// Explain what is wrong with something
    #[command(subcommand)]
    Lint(LintCommand),
}

/// What to explain.
#[derive(Debug, Subcommand)]
pub enum LintCommand {
    /// Why a pool has the endpoints that it has: the service's selector, port names, pods' readiness
    ///
    /// Asks the pool's cluster, with the kubeconfig of its source in the configuration file. Exit code 1 where the pool has
    /// nothing to send requests to.
    #[command(
        after_help = "Example:\n  tidegate lint pool east/shop/checkout/http --config /etc/tidegate/tidegate.toml"
    )]
    Pool {
        /// The pool: CLUSTER/NAMESPACE/SERVICE/PORT
        #[arg(value_name = "ID")]
        id: String,
        /// The configuration file with the cluster's source
        #[arg(long, value_name = "FILE")]
        config: PathBuf,
    },
}

/// What `pools` is told.
#[derive(Args, Debug)]
pub struct PoolsArguments {
    /// One pool with its endpoints; else a table of all
    #[arg(value_name = "ID")]
    pub id: Option<String>,
    /// Then print each change as it comes, until Ctrl-C
    #[arg(long)]
    pub watch: bool,
    /// Whom to ask
    #[command(flatten)]
    pub server: ServerArguments,
}

/// Whom a question goes to.
#[derive(Args, Debug)]
pub struct ServerArguments {
    /// Where to pull from
    #[arg(long, value_name = "URL", default_value = "http://127.0.0.1:8500")]
    pub server: String,
    /// A file with the token to send
    #[arg(long, value_name = "FILE")]
    pub token_file: Option<PathBuf>,
    /// A file with the authority of the server's certificate, for https
    #[arg(long, value_name = "FILE")]
    pub ca_file: Option<PathBuf>,
}

const TAIL_EXAMPLES: &str = "Examples:
  tidegate tail logs.app-web --brokers kafka-1:9092
  tidegate tail logs.app-web --config /etc/tidegate/tidegate.toml --from-beginning --field /level=error
  tidegate tail logs.app-web --brokers kafka-1:9092 --grep timeout --count 10 | jq .message
  tidegate tail --live 'app-*' --server http://127.0.0.1:9900";

/// What `dev` is told.
#[derive(Args, Debug)]
pub struct DevArguments {
    /// Port for Redis clients on 127.0.0.1; 0 is any free one
    #[arg(long, value_name = "PORT", default_value_t = 0)]
    pub redis_port: u16,
    /// Port of the admin page on 127.0.0.1; 0 is any free one
    #[arg(long, value_name = "PORT", default_value_t = 0)]
    pub admin_port: u16,
    /// Port from which pools are pulled on 127.0.0.1; 0 is any free one
    #[arg(long, value_name = "PORT", default_value_t = 0)]
    pub pools_port: u16,
    /// Port of the HTTP gateway on 127.0.0.1; 0 is any free one
    #[arg(long, value_name = "PORT", default_value_t = 0)]
    pub gateway_port: u16,
}

/// What `tail` is told.
#[derive(Args, Debug)]
#[command(group(ArgGroup::new("where").required(true).args(["brokers", "config", "server"])))]
pub struct TailArguments {
    /// The topic
    #[arg(value_name = "TOPIC", required_unless_present = "live", conflicts_with = "live")]
    pub topic: Option<String>,
    /// Follow what a running Tidegate takes in under this Redis key or channel, or under all that match this glob
    #[arg(long, value_name = "KEY", requires = "server", conflicts_with = "from_beginning")]
    pub live: Option<String>,
    /// The admin server of the running Tidegate, for --live
    #[arg(long, value_name = "URL", requires = "live", conflicts_with = "topic")]
    pub server: Option<String>,
    /// A file with a token for the admin server, where that asks for one
    #[arg(long, value_name = "FILE", requires = "server")]
    pub token_file: Option<PathBuf>,
    /// Brokers to start from, as HOST:PORT, separated by commas
    #[arg(long, value_name = "HOST:PORT", value_delimiter = ',')]
    pub brokers: Vec<String>,
    /// Take brokers, TLS and SASL from this file's [log.kafka]
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Begin with the oldest record that Kafka has; else with those that arrive from now on
    #[arg(long)]
    pub from_beginning: bool,
    /// Only records that contain this text
    #[arg(long, value_name = "TEXT")]
    pub grep: Option<String>,
    /// Only JSON records with this value at this pointer, as /level=error; every one given must hold
    #[arg(long = "field", value_name = "/POINTER=VALUE")]
    pub fields: Vec<FieldFilter>,
    /// End after this many records
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub count: Option<u64>,
}

/// How a log line looks.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum Format {
    /// For people
    Text,
    /// One JSON object a line
    Json,
}

// === impl Format ===

impl From<Format> for LogFormat {
    fn from(format: Format) -> Self {
        match format {
            Format::Text => Self::Text,
            Format::Json => Self::Json,
        }
    }
}

// === impl DevArguments ===

impl From<DevArguments> for DevOptions {
    fn from(arguments: DevArguments) -> Self {
        Self {
            redis_port: arguments.redis_port,
            admin_port: arguments.admin_port,
            pools_port: arguments.pools_port,
            gateway_port: arguments.gateway_port,
        }
    }
}

// === impl PoolsArguments ===

impl From<PoolsArguments> for PoolsOptions {
    fn from(arguments: PoolsArguments) -> Self {
        Self { id: arguments.id, watch: arguments.watch, server: arguments.server.into() }
    }
}

// === impl ServerArguments ===

impl From<ServerArguments> for ServerOptions {
    fn from(arguments: ServerArguments) -> Self {
        let ServerArguments { server, token_file, ca_file } = arguments;
        Self { server, token_file, ca_file }
    }
}

// === impl TailArguments ===

impl TailArguments {
    /// What to follow live; `None` where a topic is to be followed.
    ///
    /// # Errors
    /// The token's file cannot be read.
    pub fn live(&self) -> std::io::Result<Option<LiveOptions>> {
        let (Some(key), Some(server)) = (self.live.clone(), self.server.clone()) else { return Ok(None) };
        let token = self.token_file.as_deref().map(read_token).transpose()?;
        let filter = Filter { grep: self.grep.clone(), fields: self.fields.clone() };
        Ok(Some(LiveOptions { key, server, token, filter, count: self.count }))
    }
}

impl From<TailArguments> for TailOptions {
    fn from(arguments: TailArguments) -> Self {
        Self {
            topic: arguments.topic.unwrap_or_default(),
            from_beginning: arguments.from_beginning,
            grep: arguments.grep,
            fields: arguments.fields,
            count: arguments.count,
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn tail_needs_to_know_where_kafka_is() {
        for bad in [
            vec!["tail", "t"],
            vec!["tail", "t", "--brokers", "a:1", "--config", "f"],
            vec!["tail", "t", "--brokers", "a:1", "--field", "x"],
            vec!["tail", "--brokers", "a:1"],
            vec!["tail", "--live", "k"],
            vec!["tail", "t", "--live", "k", "--server", "http://a:1"],
            vec!["tail", "t", "--server", "http://a:1"],
        ] {
            assert!(Cli::try_parse_from(["tidegate"].into_iter().chain(bad.clone())).is_err(), "{bad:?}");
        }
        let good = ["tidegate", "tail", "t", "--brokers", "a:1,b:2", "--field", "/level=error", "--log-level", "debug"];
        assert!(Cli::try_parse_from(good).is_ok());
        assert!(Cli::try_parse_from(["tidegate", "tail", "--live", "k", "--server", "http://a:1"]).is_ok());
    }
}
