//! The last words of containers that failed, asked of the API server once for each run of a container, and kept: what a
//! status says must not change with every look.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use k8s_openapi::api::core::v1::Pod;
use kube::Client;
use kube::api::{Api, LogParams};
use tokio::time::timeout;

use super::plan::{Goal, LogOf, Observed};
use super::trouble::one_line;

/// For one answer: a deploy goes on without.
const ANSWER: Duration = Duration::from_secs(2);
/// Lines of a log, and their bytes at most.
const LINES: i64 = 5;
const BYTES: i64 = 4_096;
/// Logs that are asked for in one look: one of each kind of trouble.
const AT_ONCE: usize = 3;
/// Logs that are kept.
const KEPT: usize = 512;

/// The run of a container: the pod's identity, the container, its restarts.
type Run = (String, String, i32);

/// What was said, by run; `None`: it could not be had.
#[derive(Debug, Default)]
pub(super) struct Logs {
    known: Mutex<BTreeMap<Run, Option<String>>>,
}

/// The end of a container's log, or of that of its run before, in one line; `None` where there is nothing, or it cannot be had soon.
pub(super) async fn last_words(
    client: &Client,
    namespace: &str,
    pod: &str,
    container: String,
    previous: bool,
) -> Option<String> {
    let params = LogParams {
        container: Some(container),
        previous,
        tail_lines: Some(LINES),
        limit_bytes: Some(BYTES),
        ..LogParams::default()
    };
    let api: Api<Pod> = Api::namespaced(client.clone(), namespace);
    let text = timeout(ANSWER, api.logs(pod, &params)).await.ok()?.ok()?;
    Some(one_line(&text)).filter(|it| !it.is_empty())
}

// === impl Logs ===

impl Logs {
    /// Adds last words to pods of the goal's revision that have failed: of one pod for each kind of trouble.
    pub(super) async fn add(&self, client: &Client, namespace: &str, seen: &mut Observed, goal: &Goal) {
        let mut kinds = BTreeSet::new();
        let wanted = seen.failed(goal).into_iter().filter(|it| it.log.is_some() && kinds.insert(it.why.clone()));
        let wanted: Vec<(String, String, LogOf)> =
            wanted.take(AT_ONCE).filter_map(|it| Some((it.name.clone(), it.uid.clone(), it.log.clone()?))).collect();
        for (pod, uid, log) in wanted {
            let said = self.of(client, namespace, &pod, &uid, log).await;
            let ailing = seen.revisions.get_mut(&goal.revision).map(|it| it.ailing.as_mut_slice()).unwrap_or_default();
            if let Some(it) = ailing.iter_mut().find(|it| it.uid == uid) {
                it.said = said.or(it.said.take());
            }
        }
    }

    async fn of(&self, client: &Client, namespace: &str, pod: &str, uid: &str, log: LogOf) -> Option<String> {
        let run = (uid.to_owned(), log.container.clone(), log.restarts);
        if let Some(known) = self.lock().get(&run) {
            return known.clone();
        }
        let said = last_words(client, namespace, pod, log.container, log.previous).await;
        let mut known = self.lock();
        while known.len() >= KEPT {
            known.pop_first();
        }
        known.insert(run, said.clone());
        said
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<Run, Option<String>>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
