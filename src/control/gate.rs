//! The gate before a switch: hubs know every new pod, and every new pod answers.

use std::time::Duration;

use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;

use super::children::REVISION_LABEL;
use super::hubs::Hubs;
use super::plan::GateSeen;
use super::resource::strategy::HttpGate;
use crate::net::fetch::{Credentials, Fetcher};

/// For one pod's answer.
const ANSWER: Duration = Duration::from_secs(2);
/// Pods asked at once.
const AT_ONCE: usize = 32;

/// What a gate is about.
pub(super) struct Question<'a> {
    /// The pool of the new revision.
    pub(super) pool: String,
    pub(super) revision: &'a str,
    /// How many of its pods are available.
    pub(super) ready: u32,
    pub(super) pods: &'a [Pod],
    /// Hubs that are not asked.
    pub(super) ignored: &'a [String],
    pub(super) http: Option<&'a HttpGate>,
    /// For how long it was asked already.
    pub(super) waited: Duration,
}

/// Asks once.
pub(super) async fn ask(question: &Question<'_>, hubs: &Hubs) -> GateSeen {
    // A switch to a pool that a hub does not know yet would be one to nothing.
    if let Some(why) = hubs.unpublished(&question.pool, question.ready, question.ignored).await {
        return GateSeen::Waiting(why);
    }
    let Some(http) = question.http else { return GateSeen::Passed };
    match ask_pods(question, http).await {
        Ok(()) => GateSeen::Passed,
        Err(why) if question.waited >= Duration::from_secs(http.timeout_seconds.into()) => GateSeen::Failed(why),
        Err(why) => GateSeen::Waiting(why),
    }
}

async fn ask_pods(question: &Question<'_>, http: &HttpGate) -> Result<(), String> {
    let ours = question
        .pods
        .iter()
        .filter(|pod| pod.labels().get(REVISION_LABEL).is_some_and(|it| it == question.revision) && is_ready(pod));
    let pods: Vec<&Pod> = ours.collect();
    if pods.len() < usize::try_from(question.ready).unwrap_or(usize::MAX) {
        return Err(format!("{} of {} ready pods are known", pods.len(), question.ready));
    }
    for some in pods.chunks(AT_ONCE) {
        let answers = some.iter().map(|pod| ask_pod(pod, http));
        for answer in futures_util::future::join_all(answers).await {
            answer?;
        }
    }
    Ok(())
}

async fn ask_pod(pod: &Pod, http: &HttpGate) -> Result<(), String> {
    let name = pod.name_any();
    let address = pod.status.as_ref().and_then(|status| status.pod_ip.as_deref());
    let address = address.ok_or_else(|| format!("pod {name} has no address"))?;
    let host = if address.contains(':') { format!("[{address}]") } else { address.to_owned() };
    let what = format!("pod {name}: GET http://{host}:{}{}", http.port, http.path);
    let fetcher = Fetcher::new(&format!("http://{host}:{}", http.port), &Credentials::default());
    let fetcher = fetcher.map_err(|error| format!("{what}: {error}"))?;
    let answer = fetcher.get(&http.path, &[], ANSWER).await.map_err(|error| format!("{what}: {error}"))?;
    if !answer.status.is_success() {
        return Err(format!("{what} answered {}", answer.status.as_u16()));
    }
    Ok(())
}

fn is_ready(pod: &Pod) -> bool {
    let conditions = pod.status.as_ref().and_then(|status| status.conditions.as_deref()).unwrap_or_default();
    pod.metadata.deletion_timestamp.is_none() && conditions.iter().any(|it| it.type_ == "Ready" && it.status == "True")
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    use super::*;

    fn pod(address: &str) -> Pod {
        serde_json::from_value(json!({
            "metadata": {"name": "p", "labels": {REVISION_LABEL: "0a"}},
            "status": {"podIP": address, "conditions": [{"type": "Ready", "status": "True"}]},
        }))
        .unwrap()
    }

    async fn served(answer: &'static str) -> u16 {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let _ = stream.read(&mut [0; 1024]).await;
                let _ = stream.write_all(answer.as_bytes()).await;
            }
        });
        port
    }

    async fn asked(port: u16, ready: u32, waited: u64) -> GateSeen {
        let http = HttpGate { path: "/health".to_owned(), port, timeout_seconds: 60 };
        let pods = [pod("127.0.0.1")];
        let pool = String::new();
        let waited = Duration::from_secs(waited);
        let question = Question { pool, revision: "0a", ready, pods: &pods, ignored: &[], http: Some(&http), waited };
        ask(&question, &Hubs::new(Vec::new(), Vec::new())).await
    }

    #[tokio::test]
    async fn a_gate_passes_only_when_every_pod_answers_and_fails_only_after_its_time() {
        let good = served("HTTP/1.1 204 No Content\r\n\r\n").await;
        let bad = served("HTTP/1.1 503 Service Unavailable\r\ncontent-length: 0\r\n\r\n").await;
        assert_eq!(asked(good, 1, 0).await, GateSeen::Passed);
        let GateSeen::Waiting(why) = asked(bad, 1, 59).await else { panic!("it has not passed") };
        assert!(why.contains("/health answered 503"), "{why}");
        assert!(matches!(asked(bad, 1, 60).await, GateSeen::Failed(_)));
        assert!(matches!(asked(good, 2, 0).await, GateSeen::Waiting(_)), "a pod that is not known was not asked");
        assert!(matches!(asked(1, 1, 0).await, GateSeen::Waiting(_)));
    }
}
