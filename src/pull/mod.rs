//! A client of the pull API, for whatever feeds a gateway: it follows the pools and says what the gateway serves.
//!
//! ```text
//! servers ──▶ follow: all, then each change ──▶ View ──▶ whoever feeds the gateway ──▶ Acks ──▶ servers
//!                      └── the state file: a start with every server away still serves
//! ```
//!
//! A gateway never suffers from its servers: an error, silence, a body that is none, a server that knows nothing of what
//! was served are reasons to keep what there is (see [`view`]). A pool that is said to be empty is.

mod ack;
mod follow;
#[cfg(test)]
mod scripted;
mod state;
pub mod view;
pub mod wire;

use std::path::PathBuf;
use std::sync::Arc;

use tokio::sync::watch;
use tokio::task::JoinSet;

pub use ack::{Acknowledged, Acks, Applied};
use follow::Follower;
pub use view::{Truth, View};

use crate::base::percent::encoded;
use crate::net::fetch::{Credentials, FetchError, Fetcher};

/// How pools are followed.
#[derive(Clone, Debug, Default)]
pub struct PullConfig {
    /// Servers, as `http://HOST:PORT`; at least one.
    pub servers: Vec<String>,
    /// What is shown to them, and which are trusted.
    pub credentials: Credentials,
    /// The gateway's name in `/v1/gateways`.
    pub gateway: String,
    /// Which pools, as [`filter`] makes it; empty for all.
    pub filter: String,
    /// Where what is known is kept.
    pub state_file: Option<PathBuf>,
}

/// Which pools are meant; everything given must hold.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Filter {
    /// These pools.
    pub ids: Vec<String>,
    /// Ids that begin so.
    pub prefix: Option<String>,
    /// Pools of this cluster.
    pub cluster: Option<String>,
    /// Services of this namespace.
    pub namespace: Option<String>,
    /// Labels, as `name=value` or `name`.
    pub labels: Vec<String>,
}

/// A server that is followed.
#[derive(Clone, Debug)]
pub struct Upstream {
    /// How to ask it.
    pub fetcher: Fetcher,
    /// Its life: another one knows nothing of what this one was told.
    pub boot: String,
}

/// Pools that are followed. Dropping it ends that.
#[derive(Debug)]
pub struct Pull {
    /// The latest pools; `None` before any are known.
    pub views: watch::Receiver<Option<Arc<View>>>,
    /// The server that is followed; `None` while none answers.
    pub upstream: watch::Receiver<Option<Upstream>>,
    /// Where the gateway says what it serves.
    pub acks: Acks,
    _tasks: JoinSet<()>,
}

// === impl Filter ===

impl std::fmt::Display for Filter {
    /// As a query has it, each part with an `&` before it.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let one = |key: &'static str, value: &Option<String>| value.clone().map(|value| (key, value));
        let single = [one("prefix", &self.prefix), one("cluster", &self.cluster), one("namespace", &self.namespace)];
        let ids = self.ids.iter().map(|id| ("id", id.clone()));
        let labels = self.labels.iter().map(|label| ("label", label.clone()));
        for (key, value) in single.into_iter().flatten().chain(ids).chain(labels) {
            write!(f, "&{key}={}", encoded(&value))?;
        }
        Ok(())
    }
}

// === impl PullConfig ===

impl PullConfig {
    /// Whether it serves.
    ///
    /// # Errors
    /// A server's address or a file of the credentials does not, or there is no server.
    pub fn check(&self) -> Result<(), FetchError> {
        if self.servers.is_empty() {
            return Err(FetchError::Configured("no server is named: give one, as http://HOST:8500".to_owned()));
        }
        self.servers.iter().try_for_each(|server| Fetcher::new(server, &self.credentials).map(drop))
    }
}

// === impl Pull ===

impl Pull {
    /// Begins to follow, and `hosts` as well where they are wanted. Runs inside a runtime.
    ///
    /// # Errors
    /// A server's address or a file of the credentials does not serve.
    pub fn start(config: PullConfig, hosts: bool) -> Result<Self, FetchError> {
        config.check()?;
        let config = Arc::new(config);
        let (sender, views) = watch::channel(None);
        let (upstream_sender, upstream) = watch::channel(None);
        let mut tasks = JoinSet::new();
        tasks.spawn(Follower::new(config.clone(), follow::kept(&config), sender.clone(), upstream_sender).run());
        if hosts {
            tasks.spawn(follow::hosts(upstream.clone(), sender));
        }
        if let Some(path) = config.state_file.clone() {
            tasks.spawn(follow::keep(path, views.clone()));
        }
        let acks = Acks::default();
        tasks.spawn(acks.clone().run(config.gateway.clone(), upstream.clone()));
        Ok(Self { views, upstream, acks, _tasks: tasks })
    }

    /// The same pools for somebody beside, who says what is served to nobody but this one. It ends with this one.
    pub fn beside(&self) -> Self {
        let (views, upstream) = (self.views.clone(), self.upstream.clone());
        Self { views, upstream, acks: Acks::default(), _tasks: JoinSet::new() }
    }

    /// The next view that differs from the last one seen; `None` when following has ended.
    pub async fn next(&mut self) -> Option<Arc<View>> {
        loop {
            self.views.changed().await.ok()?;
            if let Some(view) = self.views.borrow_and_update().clone() {
                return Some(view);
            }
        }
    }
}

/// A pool's name where slashes and colons cannot stand, as in the server's own formats.
pub fn name(id: &str) -> String {
    let plain = |it: char| it.is_ascii_alphanumeric() || matches!(it, '_' | '.' | '-');
    id.chars().map(|it| if plain(it) { it } else { '_' }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_filter_is_a_query_in_which_nothing_means_anything_else() {
        let filter = Filter {
            ids: vec!["east/shop/a:b".into()],
            prefix: Some("east/".into()),
            labels: vec!["tidegate.dev/x=a&b c".into()],
            ..Filter::default()
        };
        assert_eq!(filter.to_string(), "&prefix=east/&id=east/shop/a%3Ab&label=tidegate.dev/x%3Da%26b%20c");
        assert_eq!(Filter::default().to_string(), "");
    }
}
