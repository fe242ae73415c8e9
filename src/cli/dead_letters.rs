//! `tidegate dead-letters`.

use std::collections::BTreeSet;
use std::path::PathBuf;

use anyhow::{Context, anyhow};
use clap::{ArgGroup, Args, Subcommand};
use jiff::Timestamp;

use crate::config;
use crate::letters::{self, LetterAction, LetterFilter, LetterOptions};
use crate::record::dead_letter::Reason;
use crate::tail::KafkaAccess;

const EXAMPLES: &str = "Examples:
  tidegate dead-letters list --config /etc/tidegate/tidegate.toml --reason invalid_json
  tidegate dead-letters requeue dead-letters --brokers kafka-1:9092 --origin logs.app-web --dry-run";

/// What `dead-letters` is told.
#[derive(Args, Debug)]
pub struct DeadLettersArguments {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Show the dead letters that were not sent again: why, from where, when, and how large
    #[command(after_help = EXAMPLES)]
    List {
        #[command(flatten)]
        which: Which,
        /// One JSON object a line
        #[arg(long)]
        json: bool,
        /// Those that were sent again as well
        #[arg(long)]
        all: bool,
    },
    /// Send dead letters to the topics that they were for
    ///
    /// They go as they were, without the headers that say why they are dead letters. What was sent is marked in the same
    /// transaction, so that a second run, or one after a crash, sends none twice. It ends at the end that the topic has at
    /// the start.
    #[command(after_help = EXAMPLES)]
    Requeue {
        #[command(flatten)]
        which: Which,
        /// Send nothing; count what would be sent
        #[arg(long)]
        dry_run: bool,
        /// Those that were cut to fit as well, as they are
        #[arg(long)]
        cut: bool,
    },
}

#[derive(Args, Debug)]
#[command(group(ArgGroup::new("where").required(true).args(["brokers", "config"])))]
struct Which {
    /// The dead-letter topic; with --config, where its routes have one alone, it may be left out
    #[arg(value_name = "TOPIC")]
    topic: Option<String>,
    /// Brokers to start from, as HOST:PORT, separated by commas
    #[arg(long, value_name = "HOST:PORT", value_delimiter = ',')]
    brokers: Vec<String>,
    /// Take brokers, TLS and SASL from this file's [log.kafka]
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// The consumer group whose offsets say what was sent again
    #[arg(long, default_value = "tidegate-dead-letters")]
    group: String,
    /// Only those with this reason
    #[arg(long, value_parser = reason)]
    reason: Option<Reason>,
    /// Only those that were for this topic
    #[arg(long, value_name = "TOPIC")]
    origin: Option<String>,
    /// Only those that were pushed to this Redis key
    #[arg(long)]
    key: Option<String>,
    /// Only those that came at or after this time, as 2026-01-31T12:00:00Z
    #[arg(long, value_name = "TIME")]
    since: Option<Timestamp>,
    /// At most so many
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    limit: Option<u64>,
}

fn reason(text: &str) -> Result<Reason, String> {
    let words = Reason::ALL.map(Reason::word);
    let found = Reason::ALL.into_iter().find(|reason| reason.word() == text);
    found.ok_or_else(|| format!("use {}", words.join(", ")))
}

// === impl DeadLettersArguments ===

impl DeadLettersArguments {
    /// Runs it to its end.
    ///
    /// # Errors
    /// The configuration file is bad, or does not say which topic is meant; or Kafka did not do it.
    pub fn run(self) -> anyhow::Result<()> {
        let (kafka, options, action) = self.resolve()?;
        Ok(letters::run(&kafka, &options, action)?)
    }

    /// What is to be done, with whose Kafka.
    fn resolve(self) -> anyhow::Result<(KafkaAccess, LetterOptions, LetterAction)> {
        let (which, action) = match self.action {
            Action::List { which, json, all } => (which, LetterAction::List { json, all }),
            Action::Requeue { which, dry_run, cut } => (which, LetterAction::Requeue { dry_run, cut }),
        };
        let (kafka, topics) = match &which.config {
            None => (KafkaAccess::brokers(&which.brokers), BTreeSet::new()),
            Some(file) => {
                let log = config::load(file)?.config.log;
                let log = log.ok_or_else(|| anyhow!("{}: has no [log.kafka]", file.display()))?;
                let topics = log.routes.iter().filter_map(|route| route.dead_letter_topic.as_ref());
                (KafkaAccess::from(&log.kafka), topics.map(ToString::to_string).collect())
            }
        };
        let only = topics.first().filter(|_| topics.len() == 1).cloned();
        let topic = which.topic.or(only).context("which topic? name it as TOPIC")?;
        let filter = LetterFilter {
            reason: which.reason,
            origin: which.origin,
            key: which.key,
            since_ms: which.since.map(|since| since.as_millisecond()),
            limit: which.limit,
        };
        Ok((kafka, LetterOptions { topic, group: which.group, filter }, action))
    }
}
