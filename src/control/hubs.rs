//! What hubs and data planes publish, and what gateways have acknowledged to them.
//!
//! A switch is acknowledged once every hub publishes it, and every gateway that must has said so to one of them: those of the
//! configuration, and every other that asked for the pool within the last minute. A hub that cannot be asked is missing
//! itself: an answer that did not come is neither yes nor no.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use serde::Deserialize;
use serde_json::Value;

use super::config::HubConfig;
use super::resource::moment::Moment;
use crate::base::percent::encoded;
use crate::net::fetch::{FetchError, Fetched, Fetcher};

/// A gateway that asked for a pool so lately serves it.
const LATELY: Duration = Duration::from_secs(60);
/// For one answer of a hub.
const ANSWER: Duration = Duration::from_secs(3);

/// All hubs of the configuration.
#[derive(Debug)]
pub(super) struct Hubs {
    configs: Vec<HubConfig>,
    required: Vec<String>,
}

/// What is to be acknowledged.
#[derive(Clone, Copy, Debug)]
pub(super) struct Switch {
    /// The TrafficPolicy's generation, which gateways acknowledge.
    pub(super) generation: i64,
    /// How many of its members are for some requests, which gateways must know as well.
    pub(super) matched: usize,
}

#[derive(Debug, Deserialize)]
struct GatewaysBody {
    gateways: Vec<GatewayBody>,
}

/// A gateway as a hub tells of it.
#[derive(Clone, Debug, Deserialize)]
struct GatewayBody {
    name: String,
    #[serde(default)]
    pools: BTreeMap<String, PoolBody>,
    #[serde(default)]
    error: Option<String>,
    /// It tells requests apart: only the built-in gateway says so.
    #[serde(default)]
    matches: bool,
}

#[derive(Clone, Debug, Default, Deserialize)]
struct PoolBody {
    #[serde(default)]
    applied: Option<Value>,
    #[serde(default)]
    asked_at: Option<Moment>,
    /// How many parts that are for some requests alone it serves of that.
    #[serde(default)]
    matched: usize,
    #[serde(default)]
    current: bool,
}

#[derive(Debug, Default, Deserialize)]
struct PublishedPool {
    #[serde(default)]
    traffic_generation: Option<i64>,
    #[serde(default)]
    endpoints: Vec<PublishedEndpoint>,
}

#[derive(Debug, Deserialize)]
struct PublishedEndpoint {
    #[serde(default)]
    state: String,
    /// `NAMESPACE/POD`.
    #[serde(default)]
    target: String,
}

/// What one hub says about a pool.
struct Word {
    hub: String,
    /// Absent: it does not publish the pool.
    generation: Option<i64>,
    gateways: Vec<GatewayBody>,
}

// === impl Hubs ===

impl Hubs {
    pub(super) fn new(configs: Vec<HubConfig>, required: Vec<String>) -> Self {
        Self { configs, required }
    }

    /// Who has not acknowledged a switch of a pool.
    pub(super) async fn missing(&self, pool: &str, switch: Switch, ignored: &[String], now: Moment) -> Vec<String> {
        let asked = self
            .configs
            .iter()
            .map(|config| async move { self.ask_switch(config, pool).await.map_err(|why| (config, why)) });
        let (mut words, mut missing) = (Vec::new(), Vec::new());
        for answer in futures_util::future::join_all(asked).await {
            match answer {
                Ok(word) => words.push(word),
                Err((config, why)) => missing.push(format!("hub {} ({why})", config.url)),
            }
        }
        missing.extend(behind(&words, pool, switch, &self.required, now));
        // As it is named in messages, less why.
        missing.retain(|name| !ignored.iter().any(|it| name == it || name.strip_prefix(&format!("{it} (")).is_some()));
        missing
    }

    /// Gateways that serve a pool and cannot tell requests apart.
    ///
    /// # Errors
    /// A hub cannot be asked: then it is not known which there are.
    pub(super) async fn unmatching(&self, pool: &str, ignored: &[String], now: Moment) -> Result<Vec<String>, String> {
        let mut words = Vec::new();
        for config in self.configs.iter().filter(|config| !ignored.contains(&format!("hub {}", config.url))) {
            words.push(self.ask_switch(config, pool).await.map_err(|why| format!("hub {} ({why})", config.url))?);
        }
        let mut names = blind(&words, pool, &self.required, now);
        names.retain(|name| !ignored.contains(name));
        Ok(names)
    }

    /// What a hub says of a pool. Of gateways it is asked for those that serve the pool, and those that must: of all and everything that
    /// they serve, a question would cost the more, the more Apps there are.
    async fn ask_switch(&self, config: &HubConfig, pool: &str) -> Result<Word, String> {
        let generation = published(config, pool).await?.traffic_generation;
        let required = self.required.iter().map(|name| format!("&gateway={}", encoded(name)));
        let path = format!("/v1/gateways?id={}{}", encoded(pool), required.collect::<String>());
        let body: GatewaysBody = read(&get(config, &path).await?)?;
        Ok(Word { hub: config.url.clone(), generation, gateways: body.gateways })
    }

    /// Why hubs do not know so many of these pods as ready endpoints of a pool yet; `None` once all do. Other endpoints do not count: a
    /// hub may still have some whose pods have gone.
    pub(super) async fn unpublished(
        &self,
        pool: &str,
        (ready, pods): (u32, &BTreeSet<String>),
        ignored: &[String],
    ) -> Option<String> {
        for config in self.configs.iter().filter(|config| !ignored.contains(&format!("hub {}", config.url))) {
            match published(config, pool).await {
                Err(why) => return Some(format!("hub {} ({why})", config.url)),
                Ok(published) => {
                    let known = published.endpoints.iter().filter(|it| it.is_ready_of(pods)).count();
                    if known < usize::try_from(ready).unwrap_or(usize::MAX) {
                        return Some(format!("hub {} knows {known} of {ready} ready endpoints of {pool}", config.url));
                    }
                }
            }
        }
        None
    }
}

// === impl PublishedEndpoint ===

impl PublishedEndpoint {
    fn is_ready_of(&self, pods: &BTreeSet<String>) -> bool {
        self.state == "ready" && pods.contains(&self.target)
    }
}

// === impl GatewayBody ===

impl GatewayBody {
    /// Whether it serves a pool: it asked for it lately.
    fn asks(&self, pool: &str, now: Moment) -> bool {
        self.pools.get(pool).and_then(|state| state.asked_at).is_some_and(|at| now.since(at) <= LATELY)
    }
}

/// Names of gateways that serve the pool, or must, and do not say that they tell requests apart. One that nobody heard of is not known
/// to be such a one.
fn blind(words: &[Word], pool: &str, required: &[String], now: Moment) -> Vec<String> {
    let mut matches: BTreeMap<&str, bool> = BTreeMap::new();
    for gateway in words.iter().flat_map(|word| &word.gateways) {
        if gateway.asks(pool, now) || required.contains(&gateway.name) {
            *matches.entry(&gateway.name).or_default() |= gateway.matches;
        }
    }
    matches.into_iter().filter(|(_, matches)| !matches).map(|(name, _)| name.to_owned()).collect()
}

/// Names of hubs and gateways that do not serve a switch.
fn behind(words: &[Word], pool: &str, switch: Switch, required: &[String], now: Moment) -> Vec<String> {
    let Switch { generation, matched } = switch;
    let mut missing = Vec::new();
    for word in words.iter().filter(|word| word.generation.is_none_or(|it| it < generation)) {
        let has =
            word.generation.map_or("does not publish the pool".to_owned(), |it| format!("publishes generation {it}"));
        missing.push(format!("hub {} ({has})", word.hub));
    }
    // A gateway may have told one hub and ask another: the best word counts.
    let mut gateways: BTreeMap<&str, (bool, Option<String>)> =
        required.iter().map(|name| (&**name, (false, None))).collect();
    for word in words {
        for gateway in &word.gateways {
            let state = gateway.pools.get(pool).cloned().unwrap_or_default();
            if !gateway.asks(pool, now) && !gateways.contains_key(&*gateway.name) {
                continue;
            }
            let serves = match &state.applied {
                Some(Value::Number(applied)) => applied.as_i64().is_some_and(|applied| applied >= generation),
                // By its content: what it applied is what this hub publishes now, with a generation of its own.
                Some(Value::String(_)) => state.current && word.generation.is_some_and(|it| it >= generation),
                _ => false,
            };
            // Who has the generation and not all requests that it tells apart serves a part of it.
            let lacks = (serves && state.matched < matched)
                .then(|| format!("it tells {} of {matched} kinds of requests apart", state.matched));
            let (known, error) = gateways.entry(&gateway.name).or_default();
            *known |= serves && lacks.is_none();
            *error = gateway.error.clone().or(lacks).or(error.take());
        }
    }
    let behind = gateways.into_iter().filter(|(_, (serves, _))| !serves);
    missing.extend(behind.map(|(name, (_, error))| match error {
        Some(error) => format!("{name} ({error})"),
        None => name.to_owned(),
    }));
    missing
}

async fn published(config: &HubConfig, pool: &str) -> Result<PublishedPool, String> {
    let answer = get(config, &format!("/v1/pools/{pool}")).await?;
    if answer.status == 404 {
        return Ok(PublishedPool::default());
    }
    let state = answer.headers.get("tidegate-state").and_then(|it| it.to_str().ok()).unwrap_or_default();
    // What it knew last is not what is.
    if state == "stale" {
        return Err("what it knows is stale".to_owned());
    }
    read(&answer)
}

async fn get(config: &HubConfig, path: &str) -> Result<Fetched, String> {
    let asked = |error: FetchError| error.to_string();
    // Made anew each time: its files may have changed.
    let fetcher = Fetcher::new(&config.url, &config.credentials).map_err(asked)?;
    fetcher.get(path, &[], ANSWER).await.map_err(asked)
}

fn read<T: serde::de::DeserializeOwned>(answer: &Fetched) -> Result<T, String> {
    if !answer.status.is_success() {
        return Err(format!("answers {}", answer.status));
    }
    serde_json::from_slice(&answer.body).map_err(|error| format!("answers what is not understood: {error}"))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const POOL: &str = "app/shop/web/http";

    fn now() -> Moment {
        Moment::from_millis(1_700_000_000_000)
    }

    fn word(generation: Option<i64>, gateways: Value) -> Word {
        Word { hub: "http://hub".to_owned(), generation, gateways: serde_json::from_value(gateways).unwrap() }
    }

    fn gateway(name: &str, applied: Value, seconds_ago: u64) -> Value {
        let asked_at = Moment::from_millis(1_700_000_000_000 - i64::try_from(seconds_ago).unwrap() * 1_000);
        json!({"name": name, "pools": {POOL: {"applied": applied, "asked_at": asked_at, "current": true}}})
    }

    fn missing(words: &[Word], required: &[&str]) -> Vec<String> {
        let required: Vec<String> = required.iter().map(|it| (*it).to_owned()).collect();
        behind(words, POOL, Switch { generation: 7, matched: 0 }, &required, now())
    }

    #[test]
    fn a_gateway_that_cannot_tell_requests_apart_has_not_acknowledged_a_switch_with_some_that_go_elsewhere() {
        let mut built_in = gateway("built-in", json!(7), 1);
        (built_in["matches"], built_in["pools"][POOL]["matched"]) = (json!(true), json!(1));
        // One behind a hub of before, which does not pass on what is for some requests.
        let mut behind_old = gateway("node/edge", json!(7), 1);
        behind_old["matches"] = json!(true);
        let all = json!([built_in, behind_old, gateway("edge", json!(7), 1), gateway("old", json!(7), 61)]);
        let words = [word(Some(7), all), word(Some(7), json!([gateway("built-in", json!(5), 1)]))];
        let switch = |matched| Switch { generation: 7, matched };
        assert_eq!(behind(&words, POOL, switch(0), &[], now()), [""; 0]);
        let why = "it tells 0 of 1 kinds of requests apart";
        assert_eq!(
            behind(&words, POOL, switch(1), &[], now()),
            [format!("edge ({why})"), format!("node/edge ({why})")]
        );
        let required = ["old".to_owned(), "silent".to_owned()];
        assert_eq!(blind(&words, POOL, &required, now()), ["edge", "old"]);
    }

    #[test]
    fn who_asked_within_the_last_minute_must_serve_the_generation() {
        let all = json!([
            gateway("a", json!(7), 1),
            gateway("b", json!(6), 59),
            gateway("c", json!(6), 61),
            gateway("d", Value::Null, 1)
        ]);
        assert_eq!(missing(&[word(Some(7), all)], &[]), ["b", "d"]);
    }

    #[test]
    fn a_gateway_that_is_required_is_missing_even_if_nobody_heard_of_it() {
        assert_eq!(missing(&[word(Some(7), json!([]))], &["edge-1"]), ["edge-1"]);
        let silent = json!([gateway("edge-1", json!(6), 3_600)]);
        assert_eq!(missing(&[word(Some(7), silent)], &["edge-1"]), ["edge-1"]);
        assert!(missing(&[word(Some(7), json!([gateway("edge-1", json!(8), 3_600)]))], &["edge-1"]).is_empty());
    }

    #[test]
    fn an_etag_counts_only_where_the_hub_publishes_the_generation() {
        let by_tag = || json!([gateway("a", json!("\"tag\""), 1)]);
        assert!(missing(&[word(Some(7), by_tag())], &[]).is_empty());
        assert_eq!(missing(&[word(Some(6), by_tag())], &[]), ["hub http://hub (publishes generation 6)", "a"]);
    }

    #[test]
    fn a_gateway_may_tell_one_hub_and_ask_another() {
        let told = word(Some(7), json!([gateway("a", json!(7), 500)]));
        let asked = word(Some(7), json!([gateway("a", json!(5), 1)]));
        assert_eq!(missing(&[asked, told], &["a"]), [""; 0]);
    }

    #[test]
    fn a_hub_that_does_not_publish_the_pool_is_missing() {
        assert_eq!(missing(&[word(None, json!([]))], &[]), ["hub http://hub (does not publish the pool)"]);
    }

    /// One that answers like this.
    async fn hub(router: axum::Router) -> HubConfig {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        tokio::spawn(async move { axum::serve(listener, router).await });
        HubConfig { url, credentials: crate::net::fetch::Credentials::default() }
    }

    #[tokio::test]
    async fn of_gateways_a_hub_is_asked_for_those_of_one_pool_and_those_that_must_however_many_there_are() {
        let serving = |asked: axum::http::Uri| async move {
            assert_eq!(asked.query().unwrap(), "id=app/shop/web/http&gateway=edge%261&gateway=edge-2");
            json!({"gateways": [gateway("edge&1", json!(7), 1)]}).to_string()
        };
        let published = || async { json!({"id": POOL, "traffic_generation": 7}).to_string() };
        let router = axum::Router::new().route("/v1/gateways", axum::routing::get(serving)).fallback(published);
        let required = ["edge&1", "edge-2"].map(str::to_owned).to_vec();
        let hubs = Hubs::new(vec![hub(router).await], required);
        assert_eq!(hubs.missing(POOL, Switch { generation: 7, matched: 0 }, &[], now()).await, ["edge-2"]);
    }

    #[tokio::test]
    async fn a_hub_knows_pods_by_their_names_and_not_by_their_number() {
        let endpoint = |target: &str, state: &str| json!({"address": "10.0.0.1", "state": state, "target": target});
        let endpoints = [("shop/gone", "ready"), ("shop/web-1", "ready"), ("shop/web-2", "draining")];
        let body =
            json!({"id": POOL, "endpoints": endpoints.map(|(target, state)| endpoint(target, state))}).to_string();
        let hub = hub(axum::Router::new().fallback(move || async move { body.clone() })).await;
        let hubs = Hubs::new(vec![hub], Vec::new());
        let pods = |names: &[&str]| names.iter().map(|it| (*it).to_owned()).collect::<BTreeSet<String>>();
        assert_eq!(hubs.unpublished(POOL, (1, &pods(&["shop/web-1"])), &[]).await, None);
        for new in [["shop/web-1", "shop/web-2"], ["shop/web-1", "shop/web-3"]] {
            let why = hubs.unpublished(POOL, (2, &pods(&new)), &[]).await.unwrap();
            assert!(why.contains("knows 1 of 2 ready endpoints"), "{why}");
        }
    }

    #[tokio::test]
    async fn a_hub_that_cannot_be_asked_is_missing_until_somebody_ignores_it() {
        let hub =
            HubConfig { url: "http://127.0.0.1:1".to_owned(), credentials: crate::net::fetch::Credentials::default() };
        let hubs = Hubs::new(vec![hub], Vec::new());
        let switch = Switch { generation: 7, matched: 1 };
        let missing = hubs.missing(POOL, switch, &[], now()).await;
        assert!(missing.len() == 1 && missing[0].starts_with("hub http://127.0.0.1:1 ("), "{missing:?}");
        let ignored = ["hub http://127.0.0.1:1".to_owned()];
        assert!(hubs.missing(POOL, switch, &ignored, now()).await.is_empty());
        assert!(hubs.unmatching(POOL, &[], now()).await.unwrap_err().starts_with("hub http://127.0.0.1:1 ("));
    }
}
