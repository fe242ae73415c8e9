//! Following a server: all pools, then each change, for as long as the process lives; another server when one fails.
//!
//! ```text
//! all ──▶ what changed since ──▶ what changed since ──▶ …
//!  ▲ │ an error, garbage, silence: what is known stays, the next server is asked
//!  └─┴──────────┘ 410, another life: all again
//! ```
//!
//! No request is answered later than [`WAIT`], so that one on which nothing comes for [`PATIENCE`] is half open.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use hyper::StatusCode;
use tokio::sync::watch;

use super::state::{self, Kept};
use super::view::{HELD, Mirror, Truth, View};
use super::wire::{Delta, Host, read_hosts};
use super::{PullConfig, Upstream};
use crate::base::backoff::{Backoff, random};
use crate::net::fetch::{Fetched, Fetcher};

/// How long the server may keep a request.
const WAIT: Duration = Duration::from_secs(20);
/// For the answer of one that waits.
const PATIENCE: Duration = Duration::from_secs(28);
/// For all pools.
const LISTING: Duration = Duration::from_secs(50);
/// Between two answers with all pools: servers that take turns behind one address must not make a client spin.
const APART: Duration = Duration::from_secs(1);
/// After an answer that should have waited and did not.
const QUICK: Duration = Duration::from_millis(300);
/// How often a server without hosts is asked again.
const WITHOUT_HOSTS: Duration = Duration::from_secs(60);
/// Between two writings of the state file.
const KEEP: Duration = Duration::from_millis(200);

/// Follows the servers. Never ends.
pub(super) struct Follower {
    config: Arc<PullConfig>,
    mirror: Mirror,
    views: watch::Sender<Option<Arc<View>>>,
    upstream: watch::Sender<Option<Upstream>>,
    /// What was said last of a failure, so that it is said once.
    said: Option<String>,
}

/// The pools and hosts of the state file, where there is one.
pub(super) fn kept(config: &PullConfig) -> Kept {
    config.state_file.as_deref().and_then(state::load).unwrap_or_default()
}

// === impl Follower ===

impl Follower {
    pub(super) fn new(
        config: Arc<PullConfig>,
        kept: Kept,
        views: watch::Sender<Option<Arc<View>>>,
        upstream: watch::Sender<Option<Upstream>>,
    ) -> Self {
        if !kept.pools.is_empty() {
            let truth = Truth { state: "away".to_owned(), reason: "not asked yet".to_owned(), ..Truth::default() };
            let hosts = kept.hosts.map(Into::into);
            let pools = kept.pools.iter().map(|pool| (pool.id.clone(), Arc::new(pool.clone()))).collect();
            views.send_replace(Some(Arc::new(View { pools, hosts, truth })));
        }
        Self { config, mirror: Mirror::beginning_with(kept.pools), views, upstream, said: None }
    }

    pub(super) async fn run(mut self) {
        let servers = self.config.servers.clone();
        // Which is first is chance, so that many clients are spread over the servers.
        #[expect(clippy::cast_possible_truncation, clippy::cast_precision_loss, clippy::cast_sign_loss, reason = "few")]
        let first = (random() * servers.len() as f64) as usize;
        let mut backoff = Backoff::new(Duration::from_millis(100), Duration::from_secs(2));
        for (turn, server) in servers.iter().cycle().skip(first).enumerate() {
            let began = Instant::now();
            let why = self.session(server).await;
            self.upstream.send_replace(None);
            if began.elapsed() > PATIENCE {
                backoff.reset();
            }
            if self.said.as_ref() != Some(&why) {
                tracing::warn!(why, "a server of pools fails; what is known stays, the next one is asked");
                self.said = Some(why.clone());
            }
            if self.mirror.expire(Instant::now()) || (turn + 1) % servers.len() == 0 {
                self.publish(Truth { state: "away".to_owned(), reason: why, ..self.truth() });
            }
            tokio::time::sleep(backoff.next(random())).await;
        }
    }

    fn truth(&self) -> Truth {
        self.views.borrow().as_ref().map(|view| view.truth.clone()).unwrap_or_default()
    }

    /// Follows one server until it fails; says why.
    async fn session(&mut self, server: &str) -> String {
        let fetcher = match Fetcher::new(server, &self.config.credentials) {
            Ok(fetcher) => fetcher,
            Err(error) => return error.to_string(),
        };
        let mut listed: Option<Instant> = None;
        loop {
            let asked = Instant::now();
            let since = self.mirror.index().map(str::to_owned);
            let answer = match &since {
                Some(index) => {
                    let path = format!("/v1/delta?since={index}&wait={}s{}", WAIT.as_secs(), self.config.filter);
                    fetcher.get(&path, &[], PATIENCE).await
                }
                None => {
                    let apart = listed.map_or(Duration::ZERO, |at| APART.saturating_sub(at.elapsed()));
                    tokio::time::sleep(apart.mul_f64(0.5 + random() / 2.0)).await;
                    listed = Some(Instant::now());
                    fetcher
                        .get(&format!("/v1/delta?{}", self.config.filter.trim_start_matches('&')), &[], LISTING)
                        .await
                }
            };
            let answer = match answer {
                Ok(answer) => answer,
                Err(error) => return error.to_string(),
            };
            if answer.status == StatusCode::GONE && since.is_some() {
                self.mirror.forget_index();
                continue;
            }
            let delta = match whole(&answer).and_then(|body| Delta::read(body).map_err(|bad| bad.to_string())) {
                Ok(delta) => delta,
                Err(why) => return format!("{server}: {why}"),
            };
            let quiet = since.is_some() && delta.changed.is_empty() && delta.removed.is_empty();
            if let Err(why) = self.take(since.as_deref(), delta, &answer, &fetcher) {
                return format!("{server}: {why}");
            }
            if quiet {
                tokio::time::sleep(QUICK.saturating_sub(asked.elapsed())).await;
            }
        }
    }

    fn take(
        &mut self,
        since: Option<&str>,
        delta: Delta,
        answer: &Fetched,
        fetcher: &Fetcher,
    ) -> Result<(), &'static str> {
        let boot = boot_of(&delta.index).to_owned();
        let changed = match since {
            None => self.mirror.replace(delta, Instant::now()),
            Some(index) if boot_of(index) == boot => self.mirror.apply(delta, Instant::now()),
            Some(_) => {
                self.mirror.forget_index();
                return Err("an answer of another life than was asked for");
            }
        };
        self.upstream.send_if_modified(|upstream| {
            let new = Upstream { fetcher: fetcher.clone(), boot };
            let same =
                upstream.as_ref().is_some_and(|it| it.boot == new.boot && it.fetcher.base() == new.fetcher.base());
            if !same {
                *upstream = Some(new);
            }
            !same
        });
        if self.said.take().is_some() {
            tracing::info!(server = fetcher.base(), "pools are followed again");
        }
        let truth = self.truth_of(answer);
        if changed || truth != self.truth() || self.views.borrow().is_none() {
            self.publish(truth);
        }
        Ok(())
    }

    fn truth_of(&self, answer: &Fetched) -> Truth {
        let header = |name: &str| {
            let value = answer.headers.get(name).and_then(|value| value.to_str().ok());
            value.unwrap_or_default().to_owned()
        };
        let mut truth = Truth {
            state: header("tidegate-state"),
            synced_at: header("tidegate-synced-at"),
            reason: header("tidegate-reason"),
        };
        if self.mirror.held() > 0 {
            "held".clone_into(&mut truth.state);
            truth.reason = format!("{} pools that the server no longer names are held", self.mirror.held());
        }
        truth
    }

    /// Hands the pools on. Before a server or a file has told some, there is nothing to hand on.
    fn publish(&self, truth: Truth) {
        if self.mirror.index().is_none() && self.views.borrow().is_none() {
            return;
        }
        self.views.send_modify(|slot| {
            let hosts = slot.as_ref().and_then(|view| view.hosts.clone());
            *slot = Some(Arc::new(View { pools: self.mirror.pools().clone(), hosts, truth }));
        });
    }
}

/// Follows the hosts of whichever server is followed. Never ends.
pub(super) async fn hosts(mut upstream: watch::Receiver<Option<Upstream>>, views: watch::Sender<Option<Arc<View>>>) {
    let mut known: Option<(String, String)> = None;
    let mut held: Option<Instant> = None;
    let mut backoff = Backoff::new(Duration::from_millis(200), Duration::from_secs(5));
    loop {
        let Ok(server) = upstream.wait_for(Option::is_some).await.map(|it| it.clone()) else { return };
        let Some(server) = server else { continue };
        let asked = Instant::now();
        let tag = known.as_ref().map(|(tag, _)| tag.as_str());
        let headers: Vec<_> = tag.map(|tag| ("if-none-match", tag)).into_iter().collect();
        let path = format!("/v1/hosts?wait={}s", WAIT.as_secs());
        let answer = tokio::select! {
            answer = server.fetcher.get(&path, &headers, PATIENCE) => answer,
            _ = upstream.wait_for(|now| now.as_ref().is_none_or(|now| now.boot != server.boot)) => continue,
        };
        let answer = match answer {
            Ok(answer) if answer.status == StatusCode::NOT_MODIFIED => {
                backoff.reset();
                tokio::time::sleep(QUICK.saturating_sub(asked.elapsed())).await;
                continue;
            }
            // A server of before there were hosts: it has none to tell.
            Ok(answer) if answer.status == StatusCode::NOT_FOUND && known.is_none() => {
                set_hosts(&views, |hosts| hosts.unwrap_or_default());
                tokio::time::sleep(WITHOUT_HOSTS).await;
                continue;
            }
            Ok(answer) => answer,
            Err(_) => {
                tokio::time::sleep(backoff.next(random())).await;
                continue;
            }
        };
        let told = whole(&answer).and_then(|body| read_hosts(body).map_err(|bad| bad.to_string()));
        let told: Arc<[Host]> = match told {
            Ok(told) => told.into(),
            Err(why) => {
                tracing::warn!(server = server.fetcher.base(), why, "hosts cannot be had; those that are known stay");
                tokio::time::sleep(backoff.next(random())).await;
                continue;
            }
        };
        backoff.reset();
        let before = views.borrow().as_ref().and_then(|view| view.hosts.clone()).unwrap_or_default();
        let live = known.as_ref().is_some_and(|(_, boot)| *boot == server.boot);
        let lost = before.iter().filter(|host| !told.contains(host)).count();
        // As with pools: another server that lacks most of them may be one of something else.
        if !live && lost * 2 > before.len() && held.get_or_insert(asked).elapsed() < HELD {
            tracing::warn!(
                server = server.fetcher.base(),
                lost,
                "most hosts are not known there; they stay for ten minutes"
            );
            tokio::time::sleep(backoff.next(random()).max(APART)).await;
            continue;
        }
        held = None;
        let tag = answer.headers.get("etag").and_then(|tag| tag.to_str().ok()).unwrap_or_default().to_owned();
        known = Some((tag, server.boot.clone()));
        set_hosts(&views, |_| told);
        tokio::time::sleep(QUICK.saturating_sub(asked.elapsed())).await;
    }
}

fn set_hosts(views: &watch::Sender<Option<Arc<View>>>, hosts: impl FnOnce(Option<Arc<[Host]>>) -> Arc<[Host]>) {
    views.send_if_modified(|slot| {
        let Some(view) = slot else { return false };
        let hosts = hosts(view.hosts.clone());
        let same = view.hosts.as_ref() == Some(&hosts);
        Arc::make_mut(view).hosts = Some(hosts);
        !same
    });
}

/// Keeps what is known in a file. Never ends.
pub(super) async fn keep(path: PathBuf, mut views: watch::Receiver<Option<Arc<View>>>) {
    let mut kept: Option<Arc<View>> = None;
    while views.changed().await.is_ok() {
        let Some(view) = views.borrow_and_update().clone() else { continue };
        let same = |it: &Arc<View>| it.pools == view.pools && it.hosts == view.hosts;
        if kept.as_ref().is_some_and(same) {
            continue;
        }
        let content = Kept {
            pools: view.pools.values().map(|pool| (**pool).clone()).collect(),
            hosts: view.hosts.as_deref().map(<[Host]>::to_vec),
        };
        let to = path.clone();
        let stored = tokio::task::spawn_blocking(move || state::store(&to, &content)).await;
        match stored.unwrap_or_else(|error| Err(std::io::Error::other(error))) {
            Ok(()) => kept = Some(view),
            Err(error) => tracing::warn!(file = %path.display(), %error, "the last known pools cannot be kept"),
        }
        tokio::time::sleep(KEEP).await;
    }
}

/// A body, or what the server says in its place.
fn whole(answer: &Fetched) -> Result<&[u8], String> {
    if answer.status == StatusCode::OK {
        return Ok(&answer.body);
    }
    let said: Option<String> = serde_json::from_slice::<serde_json::Value>(&answer.body)
        .ok()
        .and_then(|value| Some(value.get("error")?.as_str()?.chars().take(300).collect()));
    Err(format!("answers {}: {}", answer.status.as_u16(), said.as_deref().unwrap_or("and nothing more")))
}

/// The life of a server that an index is of.
fn boot_of(index: &str) -> &str {
    index.rsplit_once(':').map_or(index, |(boot, _)| boot)
}
