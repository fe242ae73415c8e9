//! The commands of people and of CI over deploys: what they ask for becomes a Release, an Approval or a Release's
//! `spec.control`, and the control component does it.
//!
//! ```text
//! command line ─▶ actions ─▶ Client (a cluster's API server) ─▶ App, Release, Approval
//!                 watch  ◀─ looks once a second ◀─┘            ─▶ text, a line for each thing that changes
//! ```
//!
//! Everything is written against [`client::Client`], so that another server than the cluster's own can be behind it.

mod actions;
mod catalogue;
mod client;
mod cluster;
mod error;
#[cfg(test)]
mod fake;
#[cfg(test)]
mod tests;
mod text;
mod watch;

use std::io::{self, Write as _};
use std::path::PathBuf;
use std::time::Duration;

pub use self::catalogue::FromCatalogue;
pub use self::error::{DeployError, EXIT_CODES};
use self::watch::Patience;
use crate::control::resource::strategy::OnFailure;

/// How the cluster is reached.
#[derive(Clone, Debug, Default)]
pub struct Access {
    /// The kubeconfig; absent: `KUBECONFIG`, `~/.kube/config`, or the cluster that this runs in.
    pub kubeconfig: Option<PathBuf>,
    /// Its context; absent: the current one.
    pub context: Option<String>,
    /// Where the App is; absent: the context's namespace.
    pub namespace: Option<String>,
}

/// Whether a command waits for what it began.
#[derive(Clone, Copy, Debug, Default)]
pub struct Wait {
    /// It does, and tells of every step.
    pub wait: bool,
    /// At most so long; absent: for as long as it takes.
    pub timeout: Option<Duration>,
}

/// What is asked for.
#[derive(Clone, Debug)]
pub enum Request {
    /// All Apps of the namespace, or one with its releases.
    App {
        /// Which.
        name: Option<String>,
    },
    /// An App made of the catalogue, printed.
    Render(FromCatalogue),
    /// The same, applied.
    Apply {
        /// Which.
        from: FromCatalogue,
        /// Somebody has agreed to it; else what would change is only shown.
        agreed: bool,
    },
    /// A Release of an image.
    Deploy(NewRelease),
    /// What a release does and waits for.
    Status {
        /// Of this App.
        app: String,
        /// This one; absent: the newest.
        release: Option<String>,
        /// Then every change, until it has ended.
        watch: bool,
        /// For programs.
        json: bool,
    },
    /// A word for or against a release's image.
    Approve {
        /// Of this App.
        app: String,
        /// About this one; absent: the newest.
        release: Option<String>,
        /// It is against.
        reject: bool,
        /// For how long it holds.
        hours: u32,
    },
    /// A release goes on.
    Promote {
        /// Of this App.
        app: String,
        /// How far.
        how: Promotion,
        /// Until when.
        wait: Wait,
    },
    /// A word to the newest release of an App.
    Ask {
        /// Of this App.
        app: String,
        /// What is asked of it.
        word: Word,
        /// Until when.
        wait: Wait,
    },
    /// A Release of what ran before.
    Rollback {
        /// Of this App.
        app: String,
        /// To what this one brought; absent: the last that ended well with another image.
        to: Option<String>,
        /// Until when.
        wait: Wait,
    },
}

/// A Release to be.
#[derive(Clone, Debug)]
pub struct NewRelease {
    /// Of this App.
    pub app: String,
    /// What it brings.
    pub image: String,
    /// Into this container; absent: the first.
    pub container: Option<String>,
    /// In this environment of the App; absent: the one that it is in.
    pub environment: Option<String>,
    /// In place of the App's word.
    pub on_failure: Option<OnFailure>,
    /// Until when.
    pub wait: Wait,
}

/// How far a release goes on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Promotion {
    /// Past the pause that it is in.
    Next,
    /// To this step, counted from 1.
    Step(u32),
    /// Past all pauses.
    Full,
    /// Its image becomes a Release of another App, as `NAMESPACE/APP`.
    Elsewhere(String),
}

/// What is asked of a release under way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Word {
    /// Back to what ran before.
    Abort,
    /// Out of every pool, with its pods kept.
    Freeze,
    /// It stays where it is.
    Pause,
    /// It goes on after a pause or a failure, and no longer waits for these gateways.
    Resume(Vec<String>),
}

/// Does what is asked for.
///
/// # Errors
/// It could not be done, or what was waited for did not end well: [`DeployError::exit_code`] tells which.
pub fn run(access: &Access, request: Request) -> Result<(), DeployError> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let (client, namespace) = cluster::connect(access).await?;
        let mut out = io::stdout();
        perform(&client, &namespace, request, &mut |text| {
            out.write_all(text.as_bytes())?;
            out.flush()
        })
        .await
    })
}

/// Where lines go.
type Say<'a> = &'a mut dyn FnMut(&str) -> io::Result<()>;

async fn perform(
    client: &impl client::Client,
    namespace: &str,
    request: Request,
    say: Say<'_>,
) -> Result<(), DeployError> {
    let (begun, wait) = match request {
        Request::App { name: None } => {
            say(&text::apps(&client.apps(namespace).await?))?;
            return Ok(());
        }
        Request::App { name: Some(app) } => {
            let found = actions::app(client, namespace, &app).await?;
            let releases = actions::releases(client, namespace, &app).await?;
            say(&text::app(&found, &releases))?;
            return Ok(());
        }
        Request::Render(from) => {
            say(&catalogue::render(client, namespace, &from).await?)?;
            return Ok(());
        }
        Request::Apply { from, agreed } => return catalogue::apply(client, namespace, &from, agreed, say).await,
        Request::Status { app, release, watch, json } => {
            let release = actions::pick(client, namespace, &app, release.as_deref()).await?;
            let counts = client.counts(namespace, &app).await?;
            let shown = if json { text::json(&release, &counts)? } else { text::release(&release, &counts) };
            say(&shown)?;
            if !watch {
                return Ok(());
            }
            let begun = actions::Begun { namespace: namespace.to_owned(), release, wanted: watch::Wanted::Any };
            (begun, Wait { wait: true, timeout: None })
        }
        Request::Approve { app, release, reject, hours } => {
            let told = actions::approve(client, namespace, &app, release.as_deref(), reject, hours).await?;
            say(&told)?;
            return Ok(());
        }
        Request::Deploy(new) => (actions::deploy(client, namespace, &new, say).await?, new.wait),
        Request::Promote { app, how, wait } => (actions::promote(client, namespace, &app, &how, say).await?, wait),
        Request::Ask { app, word, wait } => (actions::ask(client, namespace, &app, &word, say).await?, wait),
        Request::Rollback { app, to, wait } => {
            (actions::rollback(client, namespace, &app, to.as_deref(), say).await?, wait)
        }
    };
    if !wait.wait {
        return Ok(());
    }
    watch::until_over(client, &begun, Patience::new(wait.timeout), say).await
}
