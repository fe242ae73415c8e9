//! The client against a server that is scripted: what it asks, what it keeps, what it says.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::extract::{Query, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use serde_json::{Value, json};

use super::{Acknowledged, Applied, Pull, PullConfig, View};

/// What the server is at the moment.
#[derive(Clone, Debug, Default)]
struct Script {
    boot: String,
    revision: u64,
    /// Addresses by pool.
    pools: BTreeMap<String, Vec<String>>,
    /// `None` for a server of before there were hosts.
    hosts: Option<Vec<String>>,
    /// Answers so, whatever is asked.
    instead: Option<(u16, &'static str)>,
    acks: Vec<Value>,
}

type Shared = Arc<Mutex<Script>>;

async fn serve(script: &Shared) -> (String, tokio::task::JoinHandle<()>) {
    let router = Router::new()
        .route("/v1/delta", get(delta))
        .route("/v1/hosts", get(hosts))
        .route("/v1/ack", post(ack))
        .with_state(script.clone());
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    (url, tokio::spawn(async move { axum::serve(listener, router).await.unwrap() }))
}

fn now(script: &Shared) -> Script {
    script.lock().unwrap().clone()
}

async fn delta(State(script): State<Shared>, Query(query): Query<BTreeMap<String, String>>) -> Response {
    let since = query.get("since").cloned();
    for _ in 0..200 {
        let it = now(&script);
        if let Some((status, body)) = it.instead {
            return (StatusCode::from_u16(status).unwrap(), body).into_response();
        }
        let index = format!("{}:{}", it.boot, it.revision);
        if since.as_ref().is_some_and(|since| !since.starts_with(&format!("{}:", it.boot))) {
            return StatusCode::GONE.into_response();
        }
        if since.as_ref() != Some(&index) {
            let endpoint = |at: &String| json!({"address": at, "port": 80, "weight": 100, "state": "ready"});
            let pool = |(id, at): (&String, &Vec<String>)| json!({"id": id, "endpoints": at.iter().map(endpoint).collect::<Vec<_>>()});
            let changed: Vec<Value> = it.pools.iter().map(pool).collect();
            return json!({"index": index, "changed": changed, "removed": []}).to_string().into_response();
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let index = since.unwrap_or_default();
    json!({"index": index, "changed": [], "removed": []}).to_string().into_response()
}

async fn hosts(State(script): State<Shared>) -> Response {
    let it = now(&script);
    match it.hosts {
        None => StatusCode::NOT_FOUND.into_response(),
        Some(hosts) => {
            tokio::time::sleep(Duration::from_millis(20)).await;
            let host = |host: &String| json!({"host": host, "path_prefix": "/", "pool": "a", "namespace": "n"});
            let body = json!({"index": "x:1", "hosts": hosts.iter().map(host).collect::<Vec<_>>()});
            ([("etag", format!("\"{}\"", hosts.join("-")))], body.to_string()).into_response()
        }
    }
}

async fn ack(State(script): State<Shared>, body: String) -> StatusCode {
    script.lock().unwrap().acks.push(serde_json::from_str(&body).unwrap());
    StatusCode::NO_CONTENT
}

fn script(boot: &str, pools: &[(&str, &[&str])]) -> Shared {
    let pools =
        pools.iter().map(|(id, at)| ((*id).to_owned(), at.iter().map(|it| (*it).to_owned()).collect())).collect();
    Arc::new(Mutex::new(Script { boot: boot.into(), revision: 1, pools, ..Script::default() }))
}

fn change(script: &Shared, act: impl FnOnce(&mut Script)) {
    let mut script = script.lock().unwrap();
    script.revision += 1;
    act(&mut script);
}

fn config(servers: &[&String]) -> PullConfig {
    let servers = servers.iter().map(|it| (*it).clone()).collect();
    PullConfig { servers, gateway: "g".into(), ..PullConfig::default() }
}

/// Waits for a view of which something holds.
async fn until(pull: &mut Pull, holds: impl Fn(&View) -> bool) -> Arc<View> {
    let wait = pull.views.wait_for(|view| view.as_ref().is_some_and(|view| holds(view)));
    let found = tokio::time::timeout(Duration::from_secs(20), wait).await.expect("in time").unwrap();
    found.clone().unwrap()
}

fn addresses(view: &View, id: &str) -> Vec<String> {
    let endpoints = view.pools.get(id).map(|pool| pool.endpoints.as_slice()).unwrap_or_default();
    endpoints.iter().map(|it| it.address.to_string()).collect()
}

async fn until_acked(script: &Shared, holds: impl Fn(&Value) -> bool) {
    for _ in 0..2_000 {
        if now(script).acks.last().is_some_and(&holds) {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("{:?}", now(script).acks);
}

#[tokio::test]
async fn whatever_is_no_answer_changes_nothing_and_the_next_good_one_does() {
    let server = script("b", &[("a", &["10.0.0.1"])]);
    let (url, _task) = serve(&server).await;
    let mut pull = Pull::start(config(&[&url]), false).unwrap();
    until(&mut pull, |view| addresses(view, "a") == ["10.0.0.1"]).await;
    for instead in [
        (503, "{\"error\":\"not in step\"}"),
        (200, "<html>"),
        (200, "{\"index\":\"b:9\",\"changed\":[{\"id\":\"a\""),
        (404, "{}"),
        (500, ""),
        (200, "{\"index\":\"z:1\",\"changed\":[],\"removed\":[]}"),
    ] {
        change(&server, |it| it.instead = Some(instead));
        let view = until(&mut pull, |view| view.truth.state == "away").await;
        assert_eq!(addresses(&view, "a"), ["10.0.0.1"], "{instead:?}");
        change(&server, |it| it.instead = None);
        until(&mut pull, |view| view.truth.state != "away").await;
    }
    change(&server, |it| drop(it.pools.insert("a".into(), Vec::new())));
    until(&mut pull, |view| view.pools["a"].endpoints.is_empty()).await;
}

#[tokio::test]
async fn what_is_served_is_told_to_each_life_of_the_server() {
    let server = script("b", &[("a", &["10.0.0.1"])]);
    let (url, _task) = serve(&server).await;
    let mut pull = Pull::start(config(&[&url]), false).unwrap();
    let view = until(&mut pull, |view| !view.pools.is_empty()).await;
    let applied = BTreeMap::from([("a".to_owned(), Applied::of(&view.pools["a"]))]);
    pull.acks.tell(Acknowledged { applied: applied.clone(), error: None });
    let tag = view.pools["a"].etag.clone();
    let told = |ack: &Value| ack["applied"]["a"] == *tag && ack["gateway"] == "g" && ack.get("error").is_none();
    until_acked(&server, told).await;
    change(&server, |it| {
        it.boot = "other".into();
        it.acks.clear();
    });
    until_acked(&server, told).await;
    pull.acks.tell(Acknowledged { applied, error: Some("nginx -t".into()) });
    until_acked(&server, |ack| ack["error"] == "nginx -t").await;
}

#[tokio::test]
async fn hosts_are_followed_and_another_server_s_lack_of_them_is_no_reason_to_drop_them() {
    let server = script("b", &[("a", &["10.0.0.1"])]);
    change(&server, |it| it.hosts = Some(vec!["one.example".into()]));
    let (url, task) = serve(&server).await;

    let mut pull = Pull::start(config(&[&url]), true).unwrap();
    let names = |view: &View| view.hosts.iter().flat_map(|it| it.iter()).map(|it| it.host.clone()).collect::<Vec<_>>();
    until(&mut pull, |view| names(view) == ["one.example"]).await;
    change(&server, |it| it.hosts = Some(vec!["one.example".into(), "two.example".into()]));
    until(&mut pull, |view| names(view).len() == 2).await;
    change(&server, |it| it.hosts = Some(Vec::new()));
    until(&mut pull, |view| names(view).is_empty()).await;
    change(&server, |it| it.hosts = Some(vec!["one.example".into()]));
    until(&mut pull, |view| names(view).len() == 1).await;
    // The same address, another life, no hosts.
    change(&server, |it| {
        it.boot = "c".into();
        it.hosts = Some(Vec::new());
        drop(it.pools.insert("b".into(), vec!["10.0.0.2".into()]));
    });
    let view = until(&mut pull, |view| view.pools.contains_key("b")).await;
    assert_eq!(names(&view), ["one.example"]);
    tokio::time::sleep(Duration::from_millis(500)).await;
    assert_eq!(names(pull.views.borrow().as_ref().unwrap()), ["one.example"]);
    task.abort();
}

#[tokio::test]
async fn a_start_with_every_server_away_has_the_pools_of_the_state_file() {
    let directory = tempfile::tempdir().unwrap();
    let state_file = directory.path().join("state.json");
    let server = script("b", &[("a", &["10.0.0.1"])]);
    let (url, task) = serve(&server).await;
    let config = PullConfig { state_file: Some(state_file.clone()), ..config(&[&url]) };
    let mut pull = Pull::start(config.clone(), false).unwrap();
    until(&mut pull, |view| !view.pools.is_empty()).await;
    for _ in 0..500 {
        if state_file.exists() {
            break;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    task.abort();
    let mut pull = Pull::start(config, false).unwrap();
    let view = until(&mut pull, |view| view.truth.state == "away").await;
    assert_eq!(addresses(&view, "a"), ["10.0.0.1"]);
    assert!(!view.pools["a"].etag.is_empty(), "it can be acknowledged");
}
