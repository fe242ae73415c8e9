//! `tidegate render`: files of programs that read files, made from templates over pools and hosts.
//!
//! ```text
//! View ──▶ template ──▶ new file beside the old ──▶ check ──▶ rename ──▶ reload
//!                                                    │ failed             │ failed
//!                                                    └─ nothing changes   └─ the old file comes back, and is reloaded
//! ```
//!
//! A program is reloaded as seldom as can be: changes within a time are one, two reloads are apart, a file that would be
//! what it is is not touched, and with a `reload_key` only a change of what that renders to reloads at all. So a gateway whose
//! members change by other means finds the last known ones in its file whenever it starts.

mod command;
mod context;
mod file;
mod template;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::base::drain::Drain;
use crate::base::readiness::Gate;
use crate::net::fetch::FetchError;
use crate::pull::{Acknowledged, Applied, Pull, PullConfig, View};

pub use command::{CommandError, run_command};
pub use context::weights;
pub use file::{Apply, FileError, Outcome};
use template::Compiled;
pub use template::TemplateError;

/// One file to keep.
#[derive(Clone, Debug)]
pub struct TemplateConfig {
    /// The template.
    pub template: PathBuf,
    /// The file that is made.
    pub output: PathBuf,
    /// A command that says by its status whether the file is good. `{file}` in it is the path of a new file that is not in
    /// its place yet; without that, the check is run with the file in place, and the old one comes back where it fails.
    pub check: Vec<String>,
    /// A command after which the program uses the file; empty for none.
    pub reload: Vec<String>,
    /// A template: only when what it renders to changes, the file's change is a reason to reload.
    pub reload_key: Option<String>,
    /// The file's mode where there is no file yet; else that of the file stays.
    pub mode: u32,
    /// For either command.
    pub command_timeout: Duration,
}

/// Everything that `render` is told.
#[derive(Clone, Debug)]
pub struct RenderConfig {
    /// Where pools come from.
    pub pull: PullConfig,
    /// The files, in the order in which they are made.
    pub templates: Vec<TemplateConfig>,
    /// Changes within this time are one.
    pub quiet: Duration,
    /// Between two rounds.
    pub apart: Duration,
    /// When a file that was refused is tried again although it is the same.
    pub retry: Duration,
}

/// How `render` runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Until it is asked to end.
    Daemon,
    /// One round.
    Once,
    /// One round that shows what would change and changes nothing.
    DryRun,
}

/// Why it ended.
#[derive(Debug, thiserror::Error)]
pub enum RenderError {
    /// A template's; it is to be mended.
    #[error(transparent)]
    Template(#[from] TemplateError),
    /// A file's or a command's.
    #[error("{0}")]
    Failed(String),
    /// The pull client's configuration.
    #[error(transparent)]
    Pull(#[from] FetchError),
    /// No server answered in time, and there is no state file.
    #[error("no pools within {} s: {why}", waited.as_secs())]
    NoPools {
        /// How long was waited.
        waited: Duration,
        /// Why there are none.
        why: String,
    },
}

/// What is done for one file.
struct Work {
    compiled: Compiled,
    apply: Apply,
    /// The content that was refused last, and when.
    refused: Option<(String, Instant)>,
    /// What stands between it and what it should be.
    error: Option<String>,
}

/// How long one round waits for pools at the start.
const FIRST: Duration = Duration::from_secs(60);

/// Keeps files as they should be.
pub struct Renderer {
    work: Vec<Work>,
    retry: Duration,
    /// What the files are of.
    served: BTreeMap<String, Applied>,
}

/// Runs as the mode says. What a dry run finds, or what one round changed, is given to `show`; `served` goes when all files
/// are what they should be.
///
/// # Errors
/// A template is wrong, or, but for a daemon, something failed.
pub async fn run(
    config: RenderConfig,
    mode: Mode,
    served: &mut Option<Gate>,
    drain: Drain,
    show: impl Fn(&str),
) -> Result<(), RenderError> {
    let mut renderer = Renderer::new(&config)?;
    let mut pull = Pull::start(config.pull.clone(), renderer.wants_hosts())?;
    if mode == Mode::Daemon {
        tokio::select! {
            () = follow(&mut renderer, &mut pull, &config, served) => {}
            () = drain.requested() => {}
        }
        return Ok(());
    }
    let first = async {
        loop {
            match pull.next().await {
                Some(view) if view.hosts.is_some() || !renderer.wants_hosts() => return Some(view),
                Some(_) => {}
                None => return None,
            }
        }
    };
    let view = match tokio::time::timeout(FIRST, first).await {
        Ok(Some(view)) => view,
        _ => return Err(RenderError::NoPools { waited: FIRST, why: "see the log above".to_owned() }),
    };
    if mode == Mode::DryRun {
        for (output, diff) in renderer.differences(&view)? {
            show(&if diff.is_empty() { format!("{}: unchanged\n", output.display()) } else { diff });
        }
        return Ok(());
    }
    renderer.round(&view).await;
    match renderer.error() {
        Some(error) => Err(RenderError::Failed(error)),
        None => Ok(()),
    }
}

/// Follows the pools for as long as they can be. For an agent that keeps files beside what else it does.
pub async fn follow(renderer: &mut Renderer, pull: &mut Pull, config: &RenderConfig, served: &mut Option<Gate>) {
    let mut view: Option<Arc<View>> = None;
    loop {
        let retry = renderer.retry_at();
        tokio::select! {
            next = pull.next() => match next {
                Some(next) => view = Some(next),
                None => return,
            },
            () = until(retry) => {}
        }
        // What follows at once is of the same change.
        tokio::time::sleep(config.quiet).await;
        if let Some(latest) = pull.views.borrow_and_update().clone() {
            view = Some(latest);
        }
        let Some(view) = view.as_ref().filter(|view| view.hosts.is_some() || !renderer.wants_hosts()) else { continue };
        let changed = renderer.round(view).await;
        let error = renderer.error();
        if error.is_none() {
            drop(served.take());
        }
        pull.acks.tell(Acknowledged { applied: renderer.served.clone(), error });
        if changed {
            tokio::time::sleep(config.apart).await;
        }
    }
}

async fn until(at: Option<Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at.into()).await,
        None => std::future::pending().await,
    }
}

// === impl Renderer ===

impl Renderer {
    /// Reads the templates.
    ///
    /// # Errors
    /// One cannot be read, or is wrong.
    pub fn new(config: &RenderConfig) -> Result<Self, TemplateError> {
        let work = |template: &TemplateConfig| {
            let compiled = Compiled::read(template)?;
            Ok(Work { compiled, apply: Apply::new(template), refused: None, error: None })
        };
        let work = config.templates.iter().map(work).collect::<Result<_, TemplateError>>()?;
        Ok(Self { work, retry: config.retry, served: BTreeMap::new() })
    }

    /// Whether a template looks at hosts.
    pub fn wants_hosts(&self) -> bool {
        self.work.iter().any(|work| work.compiled.wants_hosts())
    }

    /// What stands between the files and what they should be.
    pub fn error(&self) -> Option<String> {
        let errors: Vec<_> = self.work.iter().filter_map(|work| work.error.clone()).collect();
        (!errors.is_empty()).then(|| errors.join("; "))
    }

    /// When something is worth another try although nothing changed.
    fn retry_at(&self) -> Option<Instant> {
        self.work.iter().filter_map(|work| work.refused.as_ref().map(|(_, at)| *at + self.retry)).min()
    }

    /// What would change, file by file; nothing for one that would not.
    fn differences(&self, view: &View) -> Result<Vec<(PathBuf, String)>, TemplateError> {
        let context = context::of(view);
        let mut found = Vec::new();
        for work in &self.work {
            let new = work.compiled.render(&context)?;
            found.push((work.apply.output().to_owned(), work.apply.diff(&new)));
        }
        Ok(found)
    }

    /// Makes every file what it should be. Says whether one was changed, or tried to be.
    pub async fn round(&mut self, view: &View) -> bool {
        let context = context::of(view);
        let (mut tried, mut well) = (false, true);
        for work in &mut self.work {
            tried |= work.make(&context, self.retry).await;
            well &= work.error.is_none();
        }
        // One file for all pools, or several of which each may use any: the pools are served when all files are right.
        if well {
            self.served = view.pools.iter().map(|(id, pool)| (id.clone(), Applied::of(pool))).collect();
        }
        tried
    }
}

// === impl Work ===

impl Work {
    async fn make(&mut self, context: &minijinja::Value, retry: Duration) -> bool {
        let rendered = self.compiled.render(context).and_then(|new| Ok((new, self.compiled.key(context)?)));
        let (new, key) = match rendered {
            Ok(rendered) => rendered,
            Err(error) => {
                self.fail(error.to_string());
                return false;
            }
        };
        if self.refused.as_ref().is_some_and(|(refused, at)| *refused == new && at.elapsed() < retry) {
            return false;
        }
        let same_key = key.is_some() && self.apply.key() == key;
        match self.apply.apply(&new, !same_key).await {
            Ok(outcome) => {
                if let Some(key) = key.filter(|_| !same_key) {
                    self.apply.keep_key(&key);
                }
                if outcome != Outcome::Unchanged {
                    tracing::info!(file = %self.apply.output().display(), ?outcome, "a file was written");
                }
                (self.refused, self.error) = (None, None);
                outcome != Outcome::Unchanged
            }
            Err(error) => {
                self.refused = Some((new, Instant::now()));
                self.fail(error.to_string());
                true
            }
        }
    }

    fn fail(&mut self, error: String) {
        if self.error.as_ref() != Some(&error) {
            tracing::error!(error, "a file is not what it should be; the program goes on with what it has");
        }
        self.error = Some(error);
    }
}
