//! The pull API over a socket, on snapshots that a real registry publishes.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use arc_swap::ArcSwap;
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::config::{ClientLimits, DiscoveryConfig, Scope, Token};
use super::server::Discovery;
use crate::base::drain::Drain;
use crate::endpoints::config::HoldConfig;
use crate::endpoints::hosts::{Claim, Claimants, HostPath};
use crate::endpoints::pool::{Endpoint, PoolContent, PoolId};
use crate::endpoints::{Listener, Registry, Shard, Snapshot, SourceEvent, Update, Watched};

/// A registry with the clusters east and west, and the pull API over it.
struct Bed {
    registry: Registry,
    snapshot: Arc<ArcSwap<Snapshot>>,
    listener: Listener,
    address: SocketAddr,
    drain: Drain,
}

struct Answer {
    status: u16,
    head: String,
    body: String,
}

const PATH: &str = "/v1/pools/east/shop/web/http";

impl Bed {
    async fn start() -> Self {
        Self::start_with(Vec::new()).await
    }

    async fn start_with(tokens: Vec<Token>) -> Self {
        let config = DiscoveryConfig {
            listen: (Ipv4Addr::LOCALHOST, 0).into(),
            tls: None,
            tokens,
            anonymous_reads: true,
            anonymous_said: false,
            limits: ClientLimits { waits: 3, requests_per_second: 1_000 },
            max_connections: 100,
            envoy_listeners: Vec::new(),
            envoy_access_log: None,
            export: None,
        };
        let discovery = Discovery::bind(config).await.unwrap();
        let shards = ["east", "west"].map(|name| Shard::new(name.into(), Some(name.into())));
        let hold = HoldConfig { max_drop_percent: 50, max_age: Duration::from_secs(600) };
        let registry = Registry::new(shards.into(), Vec::new(), hold, None);
        let (address, listener, drain) = (discovery.address(), discovery.listener(), Drain::new());
        let snapshot = Arc::new(ArcSwap::new(registry.published().clone()));
        drop(discovery.serve(snapshot.clone(), drain.clone()));
        let mut bed = Self { registry, snapshot, listener, address, drain };
        bed.publish();
        bed
    }

    /// A bed whose clusters have told their pools: `east/shop/web/http` with one endpoint, and `west/shop/api/http`.
    async fn synced() -> Self {
        let mut bed = Self::start().await;
        bed.tell(0, Update::Reset(vec![pool("east/shop/web/http", &[1])]));
        bed.tell(1, Update::Reset(vec![pool("west/shop/api/http", &[9])]));
        bed
    }

    fn tell(&mut self, shard: usize, update: Update) {
        let now = SystemTime::now();
        self.registry.apply(shard, SourceEvent::Pools(vec![update]), now);
        self.registry.apply(shard, SourceEvent::Contact(Watched::Endpoints), now);
        self.publish();
    }

    fn publish(&mut self) {
        if let Some(published) = self.registry.publish() {
            self.snapshot.store(published.snapshot.clone());
            (self.listener)(&published);
        }
    }

    async fn get(&self, path: &str) -> Answer {
        request(self.address, "GET", path, "", "").await
    }

    async fn get_with(&self, path: &str, headers: &str) -> Answer {
        request(self.address, "GET", path, headers, "").await
    }

    /// A request that waits, and has had the time to begin.
    async fn waiting(&self, path: &str, headers: &str) -> tokio::task::JoinHandle<Answer> {
        let (address, path, headers) = (self.address, path.to_owned(), headers.to_owned());
        let asking = tokio::spawn(async move { request(address, "GET", &path, &headers, "").await });
        tokio::time::timeout(Duration::from_millis(100), std::future::pending::<()>()).await.unwrap_err();
        assert!(!asking.is_finished(), "it waits");
        asking
    }
}

impl Answer {
    fn header(&self, name: &str) -> &str {
        let line = self.head.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "));
        line.unwrap_or_else(|| panic!("no {name} in {}", self.head))
    }

    fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|_| panic!("{}", self.body))
    }

    fn addresses(&self) -> Vec<String> {
        let endpoints = self.json()["endpoints"].as_array().unwrap().clone();
        endpoints.iter().map(|it| it["address"].as_str().unwrap().replace("10.0.0.", "")).collect()
    }
}

/// The answer of a request that waited, long before its wait would be over.
async fn soon(waiting: tokio::task::JoinHandle<Answer>) -> Answer {
    tokio::time::timeout(Duration::from_secs(10), waiting).await.expect("an answer at once").unwrap()
}

async fn request(address: SocketAddr, method: &str, path: &str, headers: &str, body: &str) -> Answer {
    let mut stream = TcpStream::connect(address).await.unwrap();
    let length = body.len();
    let text = format!(
        "{method} {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Length: {length}\r\n{headers}\r\n{body}"
    );
    stream.write_all(text.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    Answer { status: head.split(' ').nth(1).unwrap().parse().unwrap(), head: head.to_owned(), body: body.to_owned() }
}

pub(super) fn pool(id: &str, addresses: &[u8]) -> PoolContent {
    let endpoint = |last: &u8| Endpoint::new([10, 0, 0, *last].into(), 80);
    PoolContent {
        id: PoolId::parse(id).unwrap(),
        endpoints: addresses.iter().map(endpoint).collect(),
        namespace: id.split('/').nth(1).map(Into::into),
        labels: Arc::default(),
        relayed: None,
    }
}

fn etag(tag: &str) -> String {
    format!("If-None-Match: {tag}\r\n")
}

#[tokio::test]
async fn until_the_sources_have_told_their_pools_every_format_answers_503_and_never_an_empty_200() {
    let mut bed = Bed::start().await;
    for path in [
        PATH,
        "/v1/pools",
        "/v1/delta",
        "/v1/render/nginx",
        "/v1/render/haproxy/west/shop/api/http",
        "/v1/prometheus/targets",
    ] {
        let answer = bed.get(path).await;
        assert_eq!((answer.status, answer.header("retry-after")), (503, "1"), "{path}");
    }
    bed.tell(0, Update::Reset(vec![pool("east/shop/web/http", &[1])]));
    assert_eq!(bed.get(PATH).await.status, 200, "its cluster has told");
    assert_eq!(bed.get("/v1/pools/east/shop/other/http").await.status, 404);
    assert_eq!(bed.get("/v1/pools/west/shop/api/http").await.status, 503);
    assert_eq!((bed.get("/v1/pools").await.status, bed.get("/v1/pools?cluster=east").await.status), (503, 200));
}

#[tokio::test]
async fn an_answer_says_what_it_is_how_true_and_as_of_when() {
    let mut bed = Bed::synced().await;
    let answer = bed.get(PATH).await;
    assert_eq!(
        answer.body,
        r#"{"id":"east/shop/web/http","endpoints":[{"address":"10.0.0.1","port":80,"weight":100,"state":"ready"}]}"#
    );
    assert_eq!((answer.header("tidegate-state"), answer.header("content-type")), ("fresh", "application/json"));
    let synced: jiff::Timestamp = answer.header("tidegate-synced-at").parse().unwrap();
    assert!(synced.duration_until(jiff::Timestamp::now()).as_secs() < 60);
    assert_eq!(bed.get_with(PATH, &etag(answer.header("etag"))).await.status, 304);
    bed.registry.apply(0, SourceEvent::Lost(Watched::Endpoints, "gone".into()), SystemTime::now());
    bed.publish();
    let stale = bed.get(PATH).await;
    assert_eq!((stale.header("tidegate-state"), &stale.body), ("stale", &answer.body));
    let reason = stale.header("tidegate-reason");
    assert!(reason.starts_with("source east lost since 20") && reason.ends_with("Z: gone"), "{reason}");
    assert_eq!(bed.get("/v1/pools/west/shop/api/http").await.header("tidegate-state"), "fresh");
    bed.tell(0, Update::Reset(vec![]));
    let held = bed.get(PATH).await;
    assert_eq!((held.header("tidegate-state"), &held.body), ("held", &answer.body));
    let reason = held.header("tidegate-reason");
    assert!(reason.starts_with("pool east/shop/web/http held since 20") && reason.contains(" until 20"), "{reason}");
    assert!(!bed.get("/v1/pools/west/shop/api/http").await.head.contains("tidegate-reason"), "only where there is one");
}

#[tokio::test]
async fn who_knows_the_content_waits_whatever_the_index_says_and_hears_of_the_change() {
    let mut bed = Bed::synced().await;
    let known = bed.get(PATH).await;
    let path = format!("{PATH}?index=another:99&wait=30s");
    let waiting = bed.waiting(&path, &etag(known.header("etag"))).await;
    bed.tell(1, Update::Add(pool("west/shop/api/http", &[8])));
    bed.tell(0, Update::Add(pool("east/shop/web/http", &[1, 2])));
    assert_eq!(soon(waiting).await.addresses(), ["1", "2"]);
}

#[tokio::test]
async fn an_index_of_this_life_waits_and_one_of_another_gets_all_at_once() {
    let mut bed = Bed::synced().await;
    let index = bed.get(PATH).await.header("tidegate-index").to_owned();
    let waiting = bed.waiting(&format!("{PATH}?index={index}&wait=30s"), "").await;
    bed.tell(0, Update::Add(pool("east/shop/web/http", &[])));
    assert_eq!(soon(waiting).await.addresses(), [""; 0], "known and empty is not unknown");
    assert_eq!(bed.get(&format!("{PATH}?index=another:99&wait=30s")).await.status, 200);
}

#[tokio::test]
async fn a_wait_ends_with_304_and_at_once_when_the_process_ends() {
    let bed = Bed::synced().await;
    let known = bed.get(PATH).await;
    let began = Instant::now();
    let answer = bed.get_with(&format!("{PATH}?wait=200ms"), &etag(known.header("etag"))).await;
    assert_eq!((answer.status, answer.header("etag")), (304, known.header("etag")));
    assert!(began.elapsed() >= Duration::from_millis(180), "{:?}", began.elapsed());
    let waiting = bed.waiting(&format!("{PATH}?wait=10m"), &etag(known.header("etag"))).await;
    bed.drain.finish(Duration::from_secs(10)).await.unwrap();
    assert_eq!(soon(waiting).await.status, 304);
}

#[tokio::test]
async fn who_waits_for_an_unknown_pool_gets_it_when_it_comes_and_who_had_one_hears_that_it_went() {
    let mut bed = Bed::synced().await;
    let path = "/v1/pools/east/shop/new/http?wait=30s";
    let waiting = bed.waiting(path, "").await;
    bed.tell(0, Update::Add(pool("east/shop/new/http", &[7])));
    let answer = soon(waiting).await;
    assert_eq!(answer.addresses(), ["7"]);
    let waiting = bed.waiting(path, &etag(answer.header("etag"))).await;
    bed.tell(0, Update::Remove(PoolId::parse("east/shop/new/http").unwrap()));
    assert_eq!(soon(waiting).await.status, 404);
    assert_eq!(bed.get(path.replace("30s", "100ms").as_str()).await.status, 404, "it stayed unknown");
}

#[tokio::test]
async fn one_request_waits_for_many_pools_and_only_for_these() {
    let mut bed = Bed::synced().await;
    let path = "/v1/pools?id=east/shop/web/http&id=west/shop/api/http&id=east/shop/none/http";
    let known = bed.get(path).await;
    let list = known.json();
    assert_eq!(list["pools"].as_array().unwrap().len(), 2);
    assert_eq!(list["pools"][0]["endpoints"], 1);
    assert_eq!(list["pools"][0]["etag"].as_str().unwrap(), bed.get(PATH).await.header("etag"));
    let waiting = bed.waiting(&format!("{path}&wait=30s"), &etag(known.header("etag"))).await;
    bed.tell(0, Update::Add(pool("east/shop/other/http", &[5])));
    bed.tell(1, Update::Add(pool("west/shop/api/http", &[9, 8])));
    let answer = soon(waiting).await.json();
    assert_eq!(
        (&answer["pools"][0]["id"], &answer["pools"][1]["endpoints"]),
        (&"east/shop/web/http".into(), &2.into())
    );
}

#[tokio::test]
async fn a_list_is_filtered_and_waits_for_changes_of_what_fits() {
    let mut bed = Bed::synced().await;
    let ids = |answer: &Answer| -> Vec<String> {
        answer.json()["pools"].as_array().unwrap().iter().map(|it| it["id"].as_str().unwrap().to_owned()).collect()
    };
    assert_eq!(ids(&bed.get("/v1/pools").await), ["east/shop/web/http", "west/shop/api/http"]);
    for filter in ["cluster=west", "prefix=west/", "namespace=shop&prefix=west"] {
        assert_eq!(ids(&bed.get(&format!("/v1/pools?{filter}")).await), ["west/shop/api/http"], "{filter}");
    }
    assert_eq!(ids(&bed.get("/v1/pools?label=team").await), [""; 0]);
    assert_eq!(bed.get("/v1/pools?colour=red").await.status, 400);
    let index = bed.get("/v1/pools?prefix=west/").await.header("tidegate-index").to_owned();
    let waiting = bed.waiting(&format!("/v1/pools?prefix=west/&index={index}&wait=30s"), "").await;
    bed.tell(0, Update::Add(pool("east/shop/web/http", &[3])));
    bed.tell(1, Update::Remove(PoolId::parse("west/shop/api/http").unwrap()));
    assert_eq!(ids(&soon(waiting).await), [""; 0]);
}

#[tokio::test]
async fn deltas_in_turn_give_what_the_list_gives_and_a_foreign_index_begins_anew() {
    let mut bed = Bed::synced().await;
    let all = bed.get("/v1/delta").await.json();
    assert_eq!(all["changed"].as_array().unwrap().len(), 2);
    let since = all["index"].as_str().unwrap().to_owned();
    let waiting = bed.waiting(&format!("/v1/delta?since={since}&wait=30s"), "").await;
    bed.tell(0, Update::Add(pool("east/shop/web/http", &[1, 2])));
    let delta = soon(waiting).await.json();
    assert_eq!(
        (delta["changed"][0]["endpoints"].as_array().unwrap().len(), &delta["removed"]),
        (2, &serde_json::json!([]))
    );
    bed.tell(1, Update::Remove(PoolId::parse("west/shop/api/http").unwrap()));
    let delta = bed.get(&format!("/v1/delta?since={}", delta["index"].as_str().unwrap())).await.json();
    assert_eq!(
        (&delta["changed"], &delta["removed"]),
        (&serde_json::json!([]), &serde_json::json!(["west/shop/api/http"]))
    );
    assert_eq!(bed.get("/v1/delta?since=another:3").await.status, 410);
    let boot = since.split(':').next().unwrap();
    assert_eq!(bed.get(&format!("/v1/delta?since={boot}:999999")).await.status, 410);
}

#[tokio::test]
async fn a_client_that_waits_too_often_at_once_is_told_so() {
    let bed = Bed::synced().await;
    let known = etag(bed.get(PATH).await.header("etag"));
    let path = format!("{PATH}?wait=10m");
    let mut waiting = Vec::new();
    for _ in 0..3 {
        waiting.push(bed.waiting(&path, &known).await);
    }
    let refused = bed.get_with(&path, &known).await;
    assert_eq!((refused.status, refused.header("retry-after")), (429, "1"));
    assert_eq!(bed.get(PATH).await.status, 200, "what does not wait is answered");
    waiting.iter().for_each(tokio::task::JoinHandle::abort);
}

#[tokio::test]
async fn a_token_sees_its_scope_and_nothing_of_the_rest() {
    let token = |name: &str, clusters: &[&str], may_write| Token {
        name: name.into(),
        secret: format!("{name}-secret"),
        certificate: false,
        scope: Scope { clusters: clusters.iter().map(|it| (*it).to_owned()).collect(), namespaces: vec![] },
        may_write,
        gateways: vec![name.into()],
    };
    let mut bed = Bed::start_with(vec![token("edge", &["east"], true), token("all", &[], false)]).await;
    bed.tell(0, Update::Reset(vec![pool("east/shop/web/http", &[1])]));
    bed.tell(1, Update::Reset(vec![pool("west/shop/api/http", &[9])]));
    let edge = "Authorization: Bearer edge-secret\r\n";
    assert_eq!(bed.get_with("/v1/pools", edge).await.json()["pools"].as_array().unwrap().len(), 1);
    assert_eq!(bed.get_with("/v1/pools/west/shop/api/http", edge).await.status, 404);
    let all = bed.get_with("/v1/delta", edge).await.json();
    bed.tell(1, Update::Remove(PoolId::parse("west/shop/api/http").unwrap()));
    let delta = bed.get_with(&format!("/v1/delta?since={}", all["index"].as_str().unwrap()), edge).await.json();
    assert_eq!(delta["removed"], serde_json::json!([]));
    assert_eq!(bed.get_with("/v1/pools", "Authorization: Bearer nonsense\r\n").await.status, 401);

    let ack = |headers: &'static str, body: &'static str| request(bed.address, "POST", "/v1/ack", headers, body);
    let body = r#"{"gateway":"edge","applied":{"east/shop/web/http":"\"x\""}}"#;
    assert_eq!(ack("Authorization: Bearer edge-secret\r\n", body).await.status, 204);
    assert_eq!(ack("Authorization: Bearer edge-secret\r\n", r#"{"gateway":"other"}"#).await.status, 403);
    assert_eq!(ack("Authorization: Bearer all-secret\r\n", body).await.status, 403);
    assert_eq!(ack("Authorization: Bearer edge-secret\r\n", "{").await.status, 400);
    let gateways = bed.get_with("/v1/gateways", edge).await.json();
    assert_eq!(gateways["gateways"][0]["pools"]["east/shop/web/http"]["current"], false);
}

#[tokio::test]
async fn an_acknowledgement_of_what_is_published_is_current() {
    let bed = Bed::synced().await;
    let answer = bed.get_with(PATH, "Tidegate-Gateway: edge-1\r\n").await;
    let body =
        serde_json::json!({"gateway": "edge-1", "applied": {"east/shop/web/http": answer.header("etag")}}).to_string();
    assert_eq!(request(bed.address, "POST", "/v1/ack", "", &body).await.status, 204);
    let edge = bed.get("/v1/gateways").await.json()["gateways"][0].clone();
    let state = &edge["pools"]["east/shop/web/http"];
    assert_eq!((&edge["name"], &state["current"]), (&"edge-1".into(), &true.into()));
    assert!(state["asked_at"].is_string() && state["applied_at"].is_string());
    let of_it = bed.get("/v1/gateways?id=east/shop/web/http").await.json();
    assert_eq!((&of_it["gateways"], of_it.get("relays")), (&serde_json::json!([edge]), None));
    let named = bed.get("/v1/gateways?id=east/shop/other/http&gateway=edge%2D1").await.json()["gateways"][0].clone();
    assert_eq!((&named["name"], &named["pools"]), (&edge["name"], &serde_json::json!({})));
    assert_eq!(
        bed.get("/v1/gateways?pool=east/shop/web/http").await.status,
        400,
        "what is not known is not passed over"
    );
    assert_eq!(request(bed.address, "DELETE", "/v1/gateways/edge-1", "", "").await.status, 200);
    assert_eq!(bed.get("/v1/gateways").await.json()["gateways"], serde_json::json!([]));
}

#[tokio::test]
async fn files_for_gateways_are_whole_and_wait_as_well() {
    let mut bed = Bed::synced().await;
    let one = bed.get("/v1/render/nginx/east/shop/web/http").await;
    assert_eq!(one.body, "upstream east_shop_web_http {\n    server 10.0.0.1:80 weight=100;\n}\n");
    let all = bed.get("/v1/render/nginx").await;
    assert!(all.body.starts_with(&one.body) && all.body.contains("upstream west_shop_api_http"), "{}", all.body);
    assert!(bed.get("/v1/render/haproxy").await.body.contains("backend west_shop_api_http\n"));
    assert_eq!(bed.get("/v1/prometheus/targets").await.json()[0]["targets"][0], "10.0.0.1:80");
    let waiting = bed.waiting("/v1/render/nginx?wait=30s", &etag(all.header("etag"))).await;
    bed.tell(0, Update::Add(pool("east/shop/web/http", &[2])));
    assert!(soon(waiting).await.body.contains("10.0.0.2:80"));
    bed.tell(0, Update::Add(pool("east/shop_web/http", &[3])));
    assert_eq!(bed.get("/v1/render/nginx").await.status, 409, "two pools of one name are refused");
}

#[tokio::test]
async fn hosts_are_a_list_that_waits_with_conflicts_in_it() {
    let mut bed = Bed::synced().await;
    let claim = |at: &str, namespace: &str, since| Claim {
        at: HostPath::parse(at).unwrap(),
        pool: PoolId::parse(&format!("east/{namespace}/web/http")).unwrap(),
        namespace: Some(namespace.into()),
        since,
    };
    let empty = bed.get("/v1/hosts").await;
    assert_eq!((empty.status, empty.json()["hosts"].as_array().map(Vec::len)), (200, Some(0)));
    let tag = format!("If-None-Match: {}\r\n", empty.header("etag"));
    let waiting = bed.waiting("/v1/hosts?wait=60s", &tag).await;
    let claims = vec![claim("a.example/x", "shop", 1), claim("a.example", "late", 2)];
    bed.registry.apply(0, SourceEvent::Hosts(Claimants::Source, claims), SystemTime::now());
    bed.publish();
    let body = soon(waiting).await.json();
    let host = serde_json::json!([{"host": "a.example", "path_prefix": "/x", "pool": "east/shop/web/http", "namespace": "shop"}]);
    assert_eq!(body["hosts"], host);
    assert_eq!(
        (&body["conflicts"][0]["namespace"], &body["conflicts"][0]["taken_by"]),
        (&"late".into(), &"shop".into())
    );
    let index = body["index"].as_str().unwrap();
    assert_eq!(bed.get(&format!("/v1/hosts?index={index}&wait=1ms")).await.status, 304);
    assert_eq!(bed.get("/v1/hosts?namespace=none").await.json()["hosts"].as_array().unwrap().len(), 0);
    assert_eq!(bed.get("/v1/hosts?label=x").await.status, 400);
}
