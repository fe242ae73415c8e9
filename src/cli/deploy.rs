//! Commands over deploys: what is asked of an App and of its releases.

use std::path::PathBuf;
use std::time::Duration;

use clap::{ArgGroup, Args, Subcommand, ValueEnum};

use super::catalogue::AppCommand;
use crate::control::resource::strategy::OnFailure;
use crate::deploy::{self, Access, DeployError, EXIT_CODES, NewRelease, Promotion, Request, Wait, Word};

/// What is asked for.
#[derive(Debug, Subcommand)]
pub enum DeployCommand {
    /// List the Apps of a namespace, show one with its releases, or make one of the catalogue
    #[command(
        args_conflicts_with_subcommands = true,
        after_help = "Examples:
  tidegate app --namespace shop
  tidegate app web --namespace shop
  tidegate app render web --template catalogue/web-service --values web.yaml
  tidegate app apply web --template catalogue/web-service --values web.yaml --yes"
    )]
    App {
        /// Make one of the catalogue
        #[command(subcommand)]
        command: Option<AppCommand>,
        /// One App
        #[arg(value_name = "APP")]
        app: Option<String>,
        /// Where
        #[command(flatten)]
        access: AccessArguments,
    },
    /// Deploy an image: create a Release of an App
    ///
    /// The Release takes the App's template with this image in it, what the environment lays over it, the hooks, and its
    /// strategy and gate as they are now. A release under
    /// way loses its place. Where the newest release brings the same already, nothing is created.
    #[command(after_help = with_codes("Examples:
  tidegate deploy web --image registry.example/web@sha256:0a1b… --namespace shop
  tidegate deploy web --image registry.example/web:42 --wait --timeout-seconds 900"))]
    Deploy(DeployArguments),
    /// Show what a release does, which steps are left, and why it waits
    #[command(after_help = "Examples:
  tidegate status web --namespace shop
  tidegate status web --release web-12 --json | jq .release.status.phase
  tidegate status web --watch")]
    Status {
        /// The App
        #[arg(value_name = "APP")]
        app: String,
        /// One of its releases; else the newest
        #[arg(long, value_name = "NAME")]
        release: Option<String>,
        /// Then tell every change, until it has ended
        #[arg(long, conflicts_with = "json")]
        watch: bool,
        /// One line of JSON: the Release and the pods of each revision
        #[arg(long)]
        json: bool,
        /// Where
        #[command(flatten)]
        access: AccessArguments,
    },
    /// Give a word for a release's image, or against it, in one's own name
    #[command(after_help = "Examples:
  tidegate approve web --namespace shop
  tidegate approve web --release web-12 --reject")]
    Approve {
        /// The App
        #[arg(value_name = "APP")]
        app: String,
        /// One of its releases; else the newest
        #[arg(long, value_name = "NAME")]
        release: Option<String>,
        /// Against it: it goes back to what ran before
        #[arg(long)]
        reject: bool,
        /// For how long the word holds
        #[arg(long, value_name = "HOURS", default_value_t = 24, value_parser = clap::value_parser!(u32).range(1..=720))]
        hours: u32,
        /// Where
        #[command(flatten)]
        access: AccessArguments,
    },
    /// Let a release go on past a pause, or take its image to another App
    ///
    /// Without an option it goes on to the next pause that only people end. With --to, the very image that the newest release
    /// brought, which must have ended Healthy and be named by its digest, becomes a Release of another App; there it gets
    /// traffic only with a live Approval.
    #[command(after_help = with_codes("Examples:
  tidegate promote web --namespace shop
  tidegate promote web --full --wait
  tidegate promote web --namespace test --to production/web"))]
    Promote(PromoteArguments),
    /// Take a release back: what ran before gets all traffic, then the new pods go
    #[command(after_help = with_codes("Example:\n  tidegate abort web --namespace shop --wait"))]
    Abort(WordArguments),
    /// Take a release out of every pool at once, and keep its pods for who looks into them
    #[command(after_help = with_codes("Example:\n  tidegate freeze web --namespace shop"))]
    Freeze(WordArguments),
    /// Hold a release where it is
    #[command(after_help = "Example:\n  tidegate pause web --namespace shop")]
    Pause {
        /// The App
        #[arg(value_name = "APP")]
        app: String,
        /// Where
        #[command(flatten)]
        access: AccessArguments,
    },
    /// Let a release go on that was held, or try again what failed
    #[command(after_help = with_codes("Examples:
  tidegate resume web --namespace shop
  tidegate resume web --without-gateway edge-7"))]
    Resume {
        /// A gateway whose acknowledgement is not waited for, because it is gone for good; may stand several times
        #[arg(long = "without-gateway", value_name = "NAME")]
        without_gateways: Vec<String>,
        /// Which
        #[command(flatten)]
        word: WordArguments,
    },
    /// Go back to what an earlier release brought: in no window, without approval
    ///
    /// The gate is passed over where the earlier pods still run. Without --to it goes back to the last release that ended
    /// Healthy with another image than the one that serves.
    #[command(after_help = with_codes("Examples:
  tidegate rollback web --namespace shop --wait
  tidegate rollback web --to web-7"))]
    Rollback {
        /// To what this release brought
        #[arg(long, value_name = "RELEASE")]
        to: Option<String>,
        /// Which
        #[command(flatten)]
        word: WordArguments,
    },
}

/// How the cluster is reached.
#[derive(Args, Clone, Debug)]
pub struct AccessArguments {
    /// The namespace of the App; else the context's
    #[arg(long, short = 'n', value_name = "NAME")]
    pub namespace: Option<String>,
    /// The kubeconfig; else KUBECONFIG, ~/.kube/config, or the cluster that this runs in
    #[arg(long, value_name = "FILE")]
    pub kubeconfig: Option<PathBuf>,
    /// A context of the kubeconfig; else its current one
    #[arg(long, value_name = "NAME")]
    pub context: Option<String>,
}

/// Whether it is waited for.
#[derive(Args, Clone, Copy, Debug)]
pub struct WaitArguments {
    /// Tell every step until it is over; the exit code tells how it ended
    #[arg(long)]
    pub wait: bool,
    /// Give up waiting after so long; the release goes on
    #[arg(long, value_name = "N", requires = "wait", value_parser = clap::value_parser!(u64).range(1..))]
    pub timeout_seconds: Option<u64>,
}

/// What `deploy` is told.
#[derive(Args, Debug)]
pub struct DeployArguments {
    /// The App
    #[arg(value_name = "APP")]
    pub app: String,
    /// The image, best by its digest: a tag may be moved
    #[arg(long, value_name = "IMAGE")]
    pub image: String,
    /// The container that gets it; else the first
    #[arg(long, value_name = "NAME")]
    pub container: Option<String>,
    /// One of the App's environments; else the one that it is in
    #[arg(long, value_name = "NAME")]
    pub environment: Option<String>,
    /// What becomes of the release when its pods or its gate fail; else as the App says
    #[arg(long, value_name = "WHAT", value_enum)]
    pub on_failure: Option<FailureArgument>,
    /// Until when
    #[command(flatten)]
    pub wait: WaitArguments,
    /// Where
    #[command(flatten)]
    pub access: AccessArguments,
}

/// What becomes of a release that fails.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum FailureArgument {
    /// It stops where it is
    Pause,
    /// It goes back to what ran before
    Abort,
}

/// What `promote` is told.
#[derive(Args, Debug)]
#[command(group(ArgGroup::new("how").args(["full", "to_step", "to"])))]
pub struct PromoteArguments {
    /// The App
    #[arg(value_name = "APP")]
    pub app: String,
    /// Past all pauses; gates and approvals stay
    #[arg(long)]
    pub full: bool,
    /// To this step of `tidegate status`, forward past pauses or back, and stay there
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub to_step: Option<u32>,
    /// Its image to this App
    #[arg(long, value_name = "NAMESPACE/APP")]
    pub to: Option<String>,
    /// Until when
    #[command(flatten)]
    pub wait: WaitArguments,
    /// Where
    #[command(flatten)]
    pub access: AccessArguments,
}

/// What a word to the newest release is told.
#[derive(Args, Debug)]
pub struct WordArguments {
    /// The App
    #[arg(value_name = "APP")]
    pub app: String,
    /// Until when
    #[command(flatten)]
    pub wait: WaitArguments,
    /// Where
    #[command(flatten)]
    pub access: AccessArguments,
}

fn with_codes(examples: &str) -> String {
    format!("{examples}\n\n{EXIT_CODES}")
}

// === impl DeployCommand ===

impl DeployCommand {
    /// Runs it to its end.
    ///
    /// # Errors
    /// It could not be done, or what was waited for did not end well.
    pub fn run(self) -> Result<(), DeployError> {
        let (access, request) = self.request();
        deploy::run(&access.into(), request)
    }

    fn request(self) -> (AccessArguments, Request) {
        match self {
            Self::App { command: Some(command), .. } => command.request(),
            Self::App { command: None, app, access } => (access, Request::App { name: app }),
            Self::Deploy(DeployArguments { app, image, container, environment, on_failure, wait, access }) => {
                let (on_failure, wait) = (on_failure.map(OnFailure::from), wait.into());
                (access, Request::Deploy(NewRelease { app, image, container, environment, on_failure, wait }))
            }
            Self::Status { app, release, watch, json, access } => {
                (access, Request::Status { app, release, watch, json })
            }
            Self::Approve { app, release, reject, hours, access } => {
                (access, Request::Approve { app, release, reject, hours })
            }
            Self::Promote(PromoteArguments { app, full, to_step, to, wait, access }) => {
                let how = match (full, to_step, to) {
                    (true, ..) => Promotion::Full,
                    (_, Some(step), _) => Promotion::Step(step),
                    (_, _, Some(to)) => Promotion::Elsewhere(to),
                    _ => Promotion::Next,
                };
                (access, Request::Promote { app, how, wait: wait.into() })
            }
            Self::Abort(word) => word.of(Word::Abort),
            Self::Freeze(word) => word.of(Word::Freeze),
            Self::Pause { app, access } => (access, Request::Ask { app, word: Word::Pause, wait: Wait::default() }),
            Self::Resume { without_gateways, word } => word.of(Word::Resume(without_gateways)),
            Self::Rollback { to, word: WordArguments { app, wait, access } } => {
                (access, Request::Rollback { app, to, wait: wait.into() })
            }
        }
    }
}

// === impl WordArguments ===

impl WordArguments {
    fn of(self, word: Word) -> (AccessArguments, Request) {
        (self.access, Request::Ask { app: self.app, word, wait: self.wait.into() })
    }
}

// === impl WaitArguments ===

impl From<WaitArguments> for Wait {
    fn from(arguments: WaitArguments) -> Self {
        Self { wait: arguments.wait, timeout: arguments.timeout_seconds.map(Duration::from_secs) }
    }
}

// === impl AccessArguments ===

impl From<AccessArguments> for Access {
    fn from(arguments: AccessArguments) -> Self {
        let AccessArguments { namespace, kubeconfig, context } = arguments;
        Self { kubeconfig, context, namespace }
    }
}

// === impl FailureArgument ===

impl From<FailureArgument> for OnFailure {
    fn from(argument: FailureArgument) -> Self {
        match argument {
            FailureArgument::Pause => Self::Pause,
            FailureArgument::Abort => Self::Abort,
        }
    }
}
