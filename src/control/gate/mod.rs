//! The gate before a switch: hubs know every new pod, every new pod answers, and nobody who is asked objects.

pub(super) mod job;
mod outside;
mod pods;

use std::time::Duration;

use k8s_openapi::api::core::v1::Pod;

pub(super) use self::outside::Outside;
use super::apply::Server;
use super::hubs::Hubs;
use super::plan::GateSeen;
use super::resource::gate::Gate;
use super::resource::release::Release;
use super::standing::{standing, target_of};

/// What a gate is about.
pub(super) struct Question<'a> {
    /// The pool of the new revision; none where nobody asks hubs for it.
    pub(super) pool: Option<String>,
    /// Where its pods are.
    pub(super) cluster: &'a str,
    pub(super) release: &'a Release,
    pub(super) revision: &'a str,
    /// How many of its pods are available.
    pub(super) ready: u32,
    pub(super) pods: &'a [Pod],
    /// The step of the plan that asks.
    pub(super) step: u32,
    /// For how long it was asked already.
    pub(super) waited: Duration,
}

/// Why a part of a gate has not passed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Not {
    /// Later, it may.
    Yet(String),
    /// It will not.
    AtAll(String),
}

// === impl Question ===

impl Question<'_> {
    fn gate(&self) -> &Gate {
        &self.release.spec.gate
    }
}

/// Beyond its own time limit, a Job has this long to be made and to be known as ended.
const MARGIN_SECONDS: u32 = 30;

/// How the Job of the gate is doing; passed where there is none.
pub(super) async fn ask_job(question: &Question<'_>, server: &Server) -> GateSeen {
    let Some(gate) = &question.gate().job else { return GateSeen::Passed };
    match job::look(question, server).await {
        job::Seen::Absent => GateSeen::Startable,
        job::Seen::Answered(answered) => {
            let seconds = gate.timeout_seconds.saturating_add(MARGIN_SECONDS);
            not(answered, question, seconds).unwrap_or(GateSeen::Passed)
        }
    }
}

/// Asks once, one part after the other: the first that has not passed tells why.
pub(super) async fn ask(question: &Question<'_>, hubs: &Hubs, outside: &Outside) -> GateSeen {
    // A switch to a pool that a hub does not know yet would be one to nothing.
    let ignored = &question.release.spec.control.ignore_gateways;
    if let Some(pool) = &question.pool {
        let standing = standing(question.pods, question.revision).map(target_of).collect();
        if let Some(why) = hubs.unpublished(pool, (question.ready, &standing), ignored).await {
            return GateSeen::Waiting(why);
        }
    }
    let gate = question.gate();
    if let Some(http) = &gate.http {
        let answered = pods::ask(question, |pod| pods::http(pod, http)).await;
        if let Some(seen) = not(answered, question, http.timeout_seconds) {
            return seen;
        }
    }
    if let Some(tcp) = &gate.tcp {
        let answered = pods::ask(question, |pod| pods::tcp(pod, tcp)).await;
        if let Some(seen) = not(answered, question, tcp.timeout_seconds) {
            return seen;
        }
    }
    if let Some(grpc) = &gate.grpc {
        let answered = pods::ask(question, |pod| pods::grpc(pod, grpc)).await;
        if let Some(seen) = not(answered, question, grpc.timeout_seconds) {
            return seen;
        }
    }
    if let Some(webhook) = &gate.webhook {
        let answered = outside.webhook(question, webhook).await;
        if let Some(seen) = not(answered, question, webhook.timeout_seconds) {
            return seen;
        }
    }
    if let Some(metric) = &gate.metric {
        let answered = outside.metric(question, metric).await;
        if let Some(seen) = not(answered, question, metric.timeout_seconds) {
            return seen;
        }
    }
    GateSeen::Passed
}

/// What it is taken for that a part has not passed; `None` where it has.
fn not(answered: Result<(), Not>, question: &Question<'_>, timeout_seconds: u32) -> Option<GateSeen> {
    Some(match answered {
        Ok(()) => return None,
        Err(Not::AtAll(why)) => GateSeen::Failed(why),
        Err(Not::Yet(why)) if question.waited >= Duration::from_secs(timeout_seconds.into()) => GateSeen::Failed(why),
        Err(Not::Yet(why)) => GateSeen::Waiting(why),
    })
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use http_body_util::StreamBody;
    use hyper::Response;
    use hyper::body::{Bytes, Frame};
    use hyper::header::{HeaderName, HeaderValue};
    use hyper::service::service_fn;
    use hyper_util::rt::{TokioExecutor, TokioIo};
    use serde_json::{Value, json};

    use super::super::children::{REVISION_LABEL, tests::app_and_release};
    use super::*;

    fn pod() -> Pod {
        serde_json::from_value(json!({
            "metadata": {"name": "p", "labels": {REVISION_LABEL: "0a"}},
            "status": {"podIP": "127.0.0.1", "conditions": [{"type": "Ready", "status": "True"}]},
        }))
        .unwrap()
    }

    /// A server that answers each request with the same status and body.
    async fn served(status: &str, body: &str) -> u16 {
        let status = axum::http::StatusCode::from_u16(status.parse().unwrap()).unwrap();
        let body = body.to_owned();
        let router = axum::Router::new().fallback(move || async move { (status, body) });
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        tokio::spawn(async move { axum::serve(listener, router).await });
        port
    }

    async fn asked(gate: Value, ready: u32, waited: u64, outside: &Outside) -> GateSeen {
        let (_, mut release) = app_and_release();
        release.spec.gate = serde_json::from_value(gate).unwrap();
        let pods = [pod()];
        let (pool, waited) = (Some(String::new()), Duration::from_secs(waited));
        let question =
            Question { pool, cluster: "east", release: &release, revision: "0a", ready, pods: &pods, step: 2, waited };
        ask(&question, &Hubs::new(Vec::new(), Vec::new()), outside).await
    }

    fn waits(seen: GateSeen) -> String {
        let GateSeen::Waiting(why) = seen else { panic!("{seen:?}") };
        why
    }

    fn failed(seen: GateSeen) -> String {
        let GateSeen::Failed(why) = seen else { panic!("{seen:?}") };
        why
    }

    #[tokio::test]
    async fn a_gate_passes_only_when_every_pod_answers_and_fails_only_after_its_time() {
        let none = Outside::default();
        let http = |port: u16| json!({"http": {"path": "/health", "port": port}});
        let (good, bad) = (served("204", "").await, served("503", "").await);
        assert_eq!(asked(http(good), 1, 0, &none).await, GateSeen::Passed);
        let why = waits(asked(http(bad), 1, 59, &none).await);
        assert!(why.contains("/health answered 503"), "{why}");
        failed(asked(http(bad), 1, 60, &none).await);
        waits(asked(http(good), 2, 0, &none).await);
        waits(asked(http(1), 1, 0, &none).await);
    }

    #[tokio::test]
    async fn a_pod_that_accepts_passes_tcp_and_one_that_speaks_no_grpc_does_not_pass_that() {
        let none = Outside::default();
        let port = served("200", "").await;
        assert_eq!(asked(json!({"tcp": {"port": port}}), 1, 0, &none).await, GateSeen::Passed);
        let why = waits(asked(json!({"tcp": {"port": 1}}), 1, 0, &none).await);
        assert!(why.contains("pod p: tcp 127.0.0.1:1"), "{why}");
        let why = waits(asked(json!({"grpc": {"port": port}}), 1, 0, &none).await);
        assert!(why.contains("grpc.health.v1"), "{why}");
    }

    /// A server of gRPC's health protocol that gives each call the same status.
    async fn grpc_served(status: u8) -> u16 {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        tokio::spawn(async move {
            let answer = service_fn(move |_| async move {
                let frames: [Result<_, Infallible>; 2] = [
                    Ok(Frame::data(Bytes::from(vec![0, 0, 0, 0, 2, 8, status]))),
                    Ok(Frame::trailers(
                        [(HeaderName::from_static("grpc-status"), HeaderValue::from_static("0"))].into_iter().collect(),
                    )),
                ];
                Ok::<_, Infallible>(Response::new(StreamBody::new(futures_util::stream::iter(frames))))
            });
            while let Ok((stream, _)) = listener.accept().await {
                let builder = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
                tokio::spawn(builder.serve_connection(TokioIo::new(stream), answer));
            }
        });
        port
    }

    #[tokio::test]
    async fn a_pod_that_says_serving_passes_grpc_and_one_that_says_something_else_does_not() {
        let none = Outside::default();
        let gate = |port: u16| json!({"grpc": {"port": port, "service": "shop.Web"}});
        assert_eq!(asked(gate(grpc_served(1).await), 1, 0, &none).await, GateSeen::Passed);
        let why = waits(asked(gate(grpc_served(2).await), 1, 0, &none).await);
        assert!(why.contains("NOT_SERVING"), "{why}");
        waits(asked(gate(grpc_served(0).await), 1, 0, &none).await);
    }

    #[tokio::test]
    async fn a_webhook_says_yes_not_yet_or_no_and_only_where_it_may_be_asked() {
        let hook = |port: u16| json!({"webhook": {"url": format!("http://127.0.0.1:{port}/x")}});
        let allowed = Outside { allowed: vec!["127.0.0.1".to_owned()], ..Outside::default() };
        assert_eq!(asked(hook(served("200", "").await), 1, 0, &allowed).await, GateSeen::Passed);
        for later in ["202", "503"] {
            let why = waits(asked(hook(served(later, "wait").await), 1, 0, &allowed).await);
            assert!(why.contains(later), "{why}");
        }
        let why = failed(asked(hook(served("403", "not on Fridays").await), 1, 0, &allowed).await);
        assert!(why.contains("not on Fridays"), "{why}");
        let why = failed(asked(hook(served("200", "").await), 1, 0, &Outside::default()).await);
        assert!(why.contains("egress_allow"), "{why}");
    }

    #[tokio::test]
    async fn a_webhook_is_not_asked_twice_within_a_second_by_one_step() {
        let asked_for = std::sync::Arc::new(std::sync::atomic::AtomicUsize::new(0));
        let count = asked_for.clone();
        let router = axum::Router::new().fallback(move || async move {
            count.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
            axum::http::StatusCode::ACCEPTED
        });
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/x", listener.local_addr().unwrap());
        tokio::spawn(async move { axum::serve(listener, router).await });
        let allowed = Outside { allowed: vec!["127.0.0.1".to_owned()], ..Outside::default() };
        let gate = json!({"webhook": {"url": url}});
        let began = std::time::Instant::now();
        for _ in 0..20 {
            waits(asked(gate.clone(), 1, 0, &allowed).await);
        }
        let seconds = usize::try_from(began.elapsed().as_secs()).unwrap();
        assert!(asked_for.load(std::sync::atomic::Ordering::SeqCst) <= 1 + seconds);
        // What has changed since then is another question.
        waits(asked(gate, 0, 0, &allowed).await);
        assert!(asked_for.load(std::sync::atomic::Ordering::SeqCst) >= 2);
    }

    #[tokio::test]
    async fn each_value_of_a_query_must_lie_within_its_bounds() {
        let answer = |values: &[&str]| {
            let result: Vec<Value> = values.iter().map(|it| json!({"metric": {}, "value": [1, it]})).collect();
            json!({"status": "success", "data": {"resultType": "vector", "result": result}}).to_string()
        };
        let gate = || json!({"metric": {"query": "errors{revision=\"$revision\"}", "atLeast": 0.0, "atMost": 0.5}});
        let over = |port: u16| Outside { prometheus: Some(format!("http://127.0.0.1:{port}")), ..Outside::default() };
        let good = over(served("200", &answer(&["0.1", "0.5"])).await);
        assert_eq!(asked(gate(), 1, 0, &good).await, GateSeen::Passed);
        for (values, said) in
            [(vec!["0.1", "0.6"], "0.6"), (vec!["-1"], "-1"), (vec!["NaN"], "NaN"), (vec![], "no value")]
        {
            let why = waits(asked(gate(), 1, 0, &over(served("200", &answer(&values)).await)).await);
            assert!(why.contains(said) && why.contains("errors{revision=\"0a\"}"), "{why}");
        }
        let mut passes = gate();
        passes["metric"]["noData"] = json!("Pass");
        assert_eq!(asked(passes, 1, 0, &over(served("200", &answer(&[])).await)).await, GateSeen::Passed);
        let why = waits(asked(gate(), 1, 0, &over(served("400", "parse error").await)).await);
        assert!(why.contains("parse error"), "{why}");
        let why = failed(asked(gate(), 1, 0, &Outside::default()).await);
        assert!(why.contains("[control] prometheus"), "{why}");
    }
}
