//! What others are asked: a webhook, a Prometheus. Only servers of the configuration, whatever a Release says.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use hyper::Uri;
use kube::ResourceExt;
use serde::Deserialize;
use serde_json::{Value, json};

use super::super::resource::gate::{MetricGate, NoData, WebhookGate};
use super::{Not, Question};
use crate::base::percent::encoded;
use crate::net::fetch::{Credentials, Fetched, Fetcher};

/// For one answer.
const ANSWER: Duration = Duration::from_secs(5);
/// A webhook's answer holds for so long: a deploy is looked at more often than others are to be asked.
const HOLDS: Duration = Duration::from_secs(1);
/// How much of an answer is shown.
const SHOWN: usize = 200;

/// When webhooks were asked, and what they said.
type Said = BTreeMap<String, (Instant, Result<(), Not>)>;

/// Servers that gates may ask.
#[derive(Debug, Default)]
pub(in crate::control) struct Outside {
    /// Hosts of webhooks: a name, or `*.` and the end of names.
    pub(in crate::control) allowed: Vec<String>,
    /// The Prometheus.
    pub(in crate::control) prometheus: Option<String>,
    /// What webhooks said last, by who asked them what.
    pub(in crate::control) said: Mutex<Said>,
}

/// Of Prometheus: `GET /api/v1/query`.
#[derive(Debug, Deserialize)]
struct Answer {
    data: Data,
}

#[derive(Debug, Deserialize)]
struct Data {
    #[serde(rename = "resultType")]
    kind: String,
    result: Value,
}

/// A value, with its time before it.
type Sampled = (f64, String);

#[derive(Debug, Deserialize)]
struct Sample {
    value: Sampled,
}

// === impl Outside ===

impl Outside {
    /// A webhook's word about this step of a release: that of less than a second ago, or a new one.
    pub(super) async fn webhook(&self, question: &Question<'_>, gate: &WebhookGate) -> Result<(), Not> {
        let (release, step) = (question.release, question.step);
        // A release has no uid in another cluster than its own.
        let (namespace, name) = (release.namespace().unwrap_or_default(), release.name_any());
        let uid = release.metadata.uid.as_deref().unwrap_or_default();
        let whose = format!("{} {namespace} {name} {uid}", question.cluster);
        let key = format!("{whose} {} {step} {} {}", question.revision, question.ready, gate.url);
        let known = {
            let mut said = self.said.lock().unwrap_or_else(PoisonError::into_inner);
            said.retain(|_, (at, _)| at.elapsed() < HOLDS);
            said.get(&key).map(|(_, answer)| answer.clone())
        };
        if let Some(known) = known {
            return known;
        }
        let answer = self.ask_webhook(question, gate).await;
        self.said.lock().unwrap_or_else(PoisonError::into_inner).insert(key, (Instant::now(), answer.clone()));
        answer
    }

    async fn ask_webhook(&self, question: &Question<'_>, gate: &WebhookGate) -> Result<(), Not> {
        let url: Uri = gate.url.parse().map_err(|_| Not::AtAll(format!("{} is no address", gate.url)))?;
        let host = url.host().unwrap_or_default();
        if !self.allowed.iter().any(|pattern| fits(pattern, host)) {
            return Err(Not::AtAll(format!("{host} may not be asked: add it to [control] egress_allow")));
        }
        let what = format!("POST {}", gate.url);
        let base = format!("http://{}", url.authority().map_or(host, |it| it.as_str()));
        let path = url.path_and_query().map_or("/", |it| it.as_str());
        let fetcher = Fetcher::new(&base, &Credentials::default());
        let fetcher = fetcher.map_err(|error| Not::AtAll(format!("{what}: {error}")))?;
        let (release, spec) = (question.release, &question.release.spec);
        let body = json!({
            "namespace": release.namespace(), "app": spec.app, "release": release.name_any(), "image": spec.image,
            "revision": question.revision, "cluster": question.cluster, "readyPods": question.ready,
        });
        let answer = fetcher.post(path, body.to_string().into_bytes(), ANSWER).await;
        let answer = answer.map_err(|error| Not::Yet(format!("{what}: {error}")))?;
        let said = || format!("{what} answered {}{}", answer.status.as_u16(), shown(&answer));
        match answer.status.as_u16() {
            202 => Err(Not::Yet(said())),
            200..=299 => Ok(()),
            400..=499 => Err(Not::AtAll(said())),
            _ => Err(Not::Yet(said())),
        }
    }

    pub(super) async fn metric(&self, question: &Question<'_>, gate: &MetricGate) -> Result<(), Not> {
        let Some(server) = &self.prometheus else {
            return Err(Not::AtAll("there is no Prometheus to ask: name one in [control] prometheus".to_owned()));
        };
        let query = filled(&gate.query, question);
        let fetcher = Fetcher::new(server, &Credentials::default());
        let fetcher = fetcher.map_err(|error| Not::AtAll(format!("{server}: {error}")))?;
        let path = format!("/api/v1/query?query={}", encoded(&query));
        let answer = fetcher.get(&path, &[], ANSWER).await;
        let answer = answer.map_err(|error| Not::Yet(format!("{server}: {error}")))?;
        if !answer.status.is_success() {
            return Err(Not::Yet(format!("{query}: {server} answered {}{}", answer.status.as_u16(), shown(&answer))));
        }
        let values = values(&answer).map_err(|why| Not::Yet(format!("{query}: {why}")))?;
        if values.is_empty() && gate.no_data == NoData::Wait {
            return Err(Not::Yet(format!("{query} has no value")));
        }
        // What is no number lies within no bounds.
        let holds =
            |it: &f64| gate.at_least.is_none_or(|bound| *it >= bound) && gate.at_most.is_none_or(|bound| *it <= bound);
        match values.iter().find(|it| !holds(it)) {
            None => Ok(()),
            Some(value) => Err(Not::Yet(format!("{query} is {value}, wanted {}", bounds(gate)))),
        }
    }
}

fn values(answer: &Fetched) -> Result<Vec<f64>, String> {
    let not_understood = |error: serde_json::Error| format!("an answer that is not understood: {error}");
    let number = |(_, text): &Sampled| text.parse::<f64>().map_err(|_| format!("{text} is no number"));
    let Answer { data } = serde_json::from_slice(&answer.body).map_err(not_understood)?;
    match data.kind.as_str() {
        "vector" => {
            let samples: Vec<Sample> = serde_json::from_value(data.result).map_err(not_understood)?;
            samples.iter().map(|it| number(&it.value)).collect()
        }
        "scalar" => Ok(vec![number(&serde_json::from_value(data.result).map_err(not_understood)?)?]),
        kind => Err(format!("it gives a {kind}: write a query that gives a vector or a scalar")),
    }
}

fn filled(query: &str, question: &Question<'_>) -> String {
    let release = question.release;
    let words = [
        ("$namespace", release.namespace().unwrap_or_default()),
        ("$revision", question.revision.to_owned()),
        ("$cluster", question.cluster.to_owned()),
        ("$release", release.name_any()),
        ("$app", release.spec.app.clone()),
    ];
    words.iter().fold(query.to_owned(), |text, (word, value)| text.replace(word, value))
}

fn bounds(gate: &MetricGate) -> String {
    let least = gate.at_least.map(|it| format!("at least {it}"));
    let most = gate.at_most.map(|it| format!("at most {it}"));
    least.into_iter().chain(most).collect::<Vec<_>>().join(" and ")
}

fn fits(pattern: &str, host: &str) -> bool {
    let (pattern, host) = (pattern.to_ascii_lowercase(), host.to_ascii_lowercase());
    match pattern.strip_prefix('*') {
        Some(end) => host.len() > end.len() && host.ends_with(&end) && end.starts_with('.'),
        None => host == pattern,
    }
}

/// What somebody says beside a status, in one line.
fn shown(answer: &Fetched) -> String {
    let text = String::from_utf8_lossy(&answer.body);
    let line: String = text.chars().map(|it| if it.is_control() { ' ' } else { it }).take(SHOWN).collect();
    if line.trim().is_empty() { String::new() } else { format!(": {}", line.trim()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_fits_by_its_name_or_by_the_end_of_it() {
        for (pattern, host, wanted) in [
            ("a.example", "a.example", true),
            ("a.example", "A.Example", true),
            ("a.example", "ba.example", false),
            ("*.example", "a.example", true),
            ("*.example", "b.a.example", true),
            ("*.example", ".example", false),
            ("*.example", "example", false),
            ("*.example", "a.example.evil", false),
            ("*", "anything", false),
        ] {
            assert_eq!(fits(pattern, host), wanted, "{pattern} {host}");
        }
    }
}
