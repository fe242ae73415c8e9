//! The last words of containers that failed, asked of the API server once for each run of a container, and kept: what a
//! status says must not change with every look. Where they cannot be had for a reason that may pass, they are asked for a few
//! times more.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use k8s_openapi::api::core::v1::Pod;
use kube::Client;
use kube::api::{Api, LogParams};
use tokio::time::timeout;

use super::plan::{Goal, LogOf, Observed};
use super::trouble::one_line;
use crate::base::backoff::{Backoff, random};

/// For one answer: a deploy goes on without.
const ANSWER: Duration = Duration::from_secs(2);
/// Lines of a log, and their bytes at most.
const LINES: i64 = 5;
const BYTES: i64 = 4_096;
/// Logs that are asked for in one look: one of each kind of trouble.
const AT_ONCE: usize = 3;
/// Logs that are kept.
const KEPT: usize = 512;
/// How often one is asked for that cannot be had for now…
const TRIES: u32 = 5;
/// …and after how long again: doubled from one time to the next.
const PAUSE: (Duration, Duration) = (Duration::from_secs(2), Duration::from_secs(60));

/// The run of a container: the pod's identity, the container, its restarts.
type Run = (String, String, i32);

/// What came of asking for a log.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Answer {
    /// Its end in one line; `None`: there is nothing, or no such log.
    Had(Option<String>),
    /// Nobody answered in time, or not for now.
    NotNow,
}

/// What is known of a run.
#[derive(Debug)]
struct Known {
    said: Option<String>,
    /// How often it was asked for.
    tries: u32,
    backoff: Backoff,
    /// When it is asked for again; absent: never.
    again: Option<Instant>,
}

/// What was said, by run.
#[derive(Debug, Default)]
pub(super) struct Logs {
    known: Mutex<BTreeMap<Run, Known>>,
}

/// The end of a container's log, or of that of its run before, in one line; `None` where there is nothing, or it cannot be had soon.
pub(super) async fn last_words(
    client: &Client,
    namespace: &str,
    pod: &str,
    container: String,
    previous: bool,
) -> Option<String> {
    match ask(client, namespace, pod, container, previous).await {
        Answer::Had(said) => said,
        Answer::NotNow => None,
    }
}

async fn ask(client: &Client, namespace: &str, pod: &str, container: String, previous: bool) -> Answer {
    let params = LogParams {
        container: Some(container),
        previous,
        tail_lines: Some(LINES),
        limit_bytes: Some(BYTES),
        ..LogParams::default()
    };
    let api: Api<Pod> = Api::namespaced(client.clone(), namespace);
    match timeout(ANSWER, api.logs(pod, &params)).await {
        Ok(Ok(text)) => Answer::Had(Some(one_line(&text)).filter(|it| !it.is_empty())),
        Ok(Err(kube::Error::Api(status))) if is_final(status.code) => Answer::Had(None),
        Ok(Err(_)) | Err(_) => Answer::NotNow,
    }
}

/// Whether an API server that says this says it again: there is no such log, or it is not for us.
fn is_final(code: u16) -> bool {
    // Who is asked too much or too late, or does not know us just now, may answer later.
    (400..500).contains(&code) && !matches!(code, 401 | 408 | 429)
}

// === impl Known ===

impl Known {
    fn new() -> Self {
        Self { said: None, tries: 0, backoff: Backoff::new(PAUSE.0, PAUSE.1), again: None }
    }

    fn note(&mut self, answer: Answer, now: Instant, random: f64) {
        self.tries += 1;
        match answer {
            Answer::Had(said) => (self.said, self.again) = (said, None),
            Answer::NotNow => {
                let pause = self.backoff.next(random);
                self.again = (self.tries < TRIES).then(|| now + pause);
            }
        }
    }
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
            let run = (uid, log.container, log.restarts);
            if self.is_due(&run, Instant::now()) {
                let answer = ask(client, namespace, &pod, run.1.clone(), log.previous).await;
                self.note(&run, answer, Instant::now(), random());
            }
            let said = self.said(&run);
            let ailing = seen.revisions.get_mut(&goal.revision).map(|it| it.ailing.as_mut_slice()).unwrap_or_default();
            if let Some(it) = ailing.iter_mut().find(|it| it.uid == run.0) {
                it.said = said.or(it.said.take());
            }
        }
    }

    /// Whether a run's log is to be asked for now.
    fn is_due(&self, run: &Run, now: Instant) -> bool {
        self.lock().get(run).is_none_or(|it| it.again.is_some_and(|at| at <= now))
    }

    fn note(&self, run: &Run, answer: Answer, now: Instant, random: f64) {
        let mut all = self.lock();
        let mut known = all.remove(run).unwrap_or_else(Known::new);
        known.note(answer, now, random);
        while all.len() >= KEPT {
            all.pop_first();
        }
        all.insert(run.clone(), known);
    }

    fn said(&self, run: &Run) -> Option<String> {
        self.lock().get(run)?.said.clone()
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<Run, Known>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(restarts: i32) -> Run {
        ("uid-1".to_owned(), "web".to_owned(), restarts)
    }

    /// Asks at every second for five minutes, and is answered like this; says how often, and at which seconds.
    fn asked(logs: &Logs, answer: impl Fn(usize) -> Answer) -> Vec<u64> {
        let began = Instant::now();
        let mut asked = Vec::new();
        for second in 0..300 {
            let now = began + Duration::from_secs(second);
            if logs.is_due(&run(0), now) {
                logs.note(&run(0), answer(asked.len()), now, 1.0);
                asked.push(second);
            }
        }
        asked
    }

    #[test]
    fn a_log_that_cannot_be_had_for_now_is_asked_for_again_a_few_times_and_less_and_less_often() {
        let logs = Logs::default();
        assert_eq!(asked(&logs, |_| Answer::NotNow), [0, 2, 6, 14, 30]);
        assert_eq!(logs.said(&run(0)), None);
        assert!(logs.is_due(&run(1), Instant::now()), "another run has another log");
    }

    #[test]
    fn what_was_said_is_kept_and_asked_for_no_more() {
        let logs = Logs::default();
        let said = || Answer::Had(Some("no database".to_owned()));
        assert_eq!(asked(&logs, |at| if at < 2 { Answer::NotNow } else { said() }), [0, 2, 6]);
        assert_eq!(logs.said(&run(0)).as_deref(), Some("no database"));
        let logs = Logs::default();
        assert_eq!(asked(&logs, |_| Answer::Had(None)), [0]);
    }

    #[test]
    fn an_api_server_that_is_busy_is_asked_again_and_one_that_has_no_such_log_is_not() {
        assert!([400, 403, 404, 410].into_iter().all(is_final));
        assert!(![401, 408, 429, 500, 502, 503, 504].into_iter().any(is_final));
    }

    #[test]
    fn no_more_logs_are_kept_than_that() {
        let logs = Logs::default();
        for restarts in 0..i32::try_from(KEPT).unwrap() + 9 {
            logs.note(&run(restarts), Answer::Had(None), Instant::now(), 0.0);
        }
        assert_eq!(logs.lock().len(), KEPT);
    }
}
