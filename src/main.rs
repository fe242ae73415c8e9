//! The `tidegate` command: reads the command line, runs what it asks for, and turns the outcome into an exit code.

use std::io::Write;
use std::path::Path;
use std::process::ExitCode;

use clap::Parser;
use tidegate::cli::{Cli, Command, LintCommand};
use tidegate::config::{self, Config, ConfigError};
use tidegate::deploy::DeployError;
use tidegate::tail::{self, KafkaAccess};
use tidegate::telemetry::logging::{self, LoggingError};
use tidegate::{app, dev, lint, show};

/// librdkafka allocates and frees once a record; jemalloc takes a third less for it than the C library's allocator, whose
/// cache for a thread holds few of a batch's many. Its symbols are malloc's own here, so that C code uses it as well.
/// (mimalloc is a little faster only with huge pages, which triple the memory of an idle process.)
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

/// The configuration or the command line is bad; trying again does not help.
const BAD_CONFIGURATION: u8 = 2;

fn main() -> ExitCode {
    let cli = Cli::parse();
    match execute(cli) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // A problem of a file is a line of its own, to be clicked at.
            let bad = error.is::<ConfigError>() || error.is::<LoggingError>();
            if bad {
                eprintln!("{error}")
            } else {
                eprintln!("tidegate: {error:#}")
            }
            let other = if bad { BAD_CONFIGURATION } else { 1 };
            ExitCode::from(error.downcast_ref().map_or(other, DeployError::exit_code))
        }
    }
}

fn execute(cli: Cli) -> anyhow::Result<()> {
    // What `dev` is for is on the screen already; there, only what goes wrong is logged.
    let serves = matches!(cli.command, Command::Run { .. } | Command::Control { .. } | Command::Hook(_));
    let level = if serves { "info" } else { "warn" };
    let filter = cli.log_level.or_else(|| std::env::var(logging::FILTER_VARIABLE).ok());
    logging::init(cli.log_format.into(), filter.as_deref().unwrap_or(level))?;
    match cli.command {
        Command::Run { config } => app::run(&config),
        Command::Control { config } => app::run_control(&config),
        Command::Crd { directory } => Ok(tidegate::control::resource::definitions::print(directory.as_deref())?),
        Command::CheckConfig { file } => Ok(std::io::stdout().write_all(config::load(&file)?.effective.as_bytes())?),
        Command::Dev(arguments) => Ok(dev::run(&arguments.into())?),
        Command::Tail(arguments) => {
            if let Some(options) = arguments.live()? {
                return Ok(tail::run_live(options)?);
            }
            let kafka = match &arguments.config {
                Some(file) => kafka_of(file)?,
                None => KafkaAccess::brokers(&arguments.brokers),
            };
            Ok(tail::run(&kafka, arguments.into())?)
        }
        Command::DeadLetters(arguments) => arguments.run(),
        Command::Spool(command) => command.run(),
        Command::Deploys(command) => Ok(command.run()?),
        Command::Hook(command) => Ok(command.run()?),
        Command::Agents(command) => command.run(),
        Command::Pools(arguments) => Ok(show::run(&arguments.into())?),
        Command::Lint(LintCommand::Pool { id, config }) => Ok(lint::run(&id, config::load(&config)?.config)?),
    }
}

/// The `[log.kafka]` of a file.
fn kafka_of(file: &Path) -> anyhow::Result<KafkaAccess> {
    let Config { log, .. } = config::load(file)?.config;
    let log = log.ok_or_else(|| anyhow::anyhow!("{}: has no [log.kafka] to take the brokers from", file.display()))?;
    Ok(KafkaAccess::from(&log.kafka))
}
