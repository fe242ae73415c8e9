//! An API server that answers, and answers badly: errors, too slowly, that a version is gone, or nothing more on a watch
//! that stays open.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::bed::{http, poll, wait_until};
use crate::kube::objects::{slice, slice_path};
use crate::kube::{ApiProxy, Cluster, Gone};
use crate::oracle::{Oracle, Pools};
use crate::support::{Plane, SOON, Setup};

fn ports() -> Value {
    json!([{"name": "http", "port": 8080, "protocol": "TCP"}])
}

/// Three endpoints, other ones in each round.
fn endpoints(round: usize) -> Value {
    let addresses = (0..3).map(|at| format!("10.244.70.{}", 1 + 3 * round + at));
    json!(addresses.map(|it| json!({"addresses": [it]})).collect::<Vec<_>>())
}

/// A pool of three endpoints of a plane that follows a shared cluster through a proxy.
struct Bed {
    cluster: &'static Cluster,
    proxy: ApiProxy,
    namespace: String,
    plane: Plane,
    id: String,
}

impl Bed {
    fn start(name: &str) -> Self {
        let cluster = Cluster::shared(0);
        let (namespace, proxy) = (cluster.namespace(name), ApiProxy::start(cluster));
        cluster.client().create(&slice(&namespace, "a", "a", &endpoints(0), &ports()));
        let plane = Setup::new("").kubeconfig("east", &proxy.kubeconfig()).start();
        let id = format!("east/{namespace}/a/http");
        Self { cluster, proxy, namespace, plane, id }
    }

    fn header(&self, name: &str) -> String {
        self.plane.header(&format!("/v1/pools/{}", self.id), name)
    }

    fn wait_state(&self, wanted: &str) {
        wait_until(Duration::from_secs(90), wanted, || self.header("tidegate-state") == wanted);
    }

    /// Replaces the pool's endpoints, past the proxy.
    fn change(&self, round: usize) {
        let object = slice(&self.namespace, "a", "a", &endpoints(round), &ports());
        self.cluster.client().replace(&slice_path(&self.namespace, "a"), &object);
    }

    fn wait_equal(&self) {
        self.plane.wait_equal("east", self.cluster, &self.namespace);
    }

    /// Looks at the pool all the time: it has three ready endpoints whatever happens meanwhile.
    fn never_less(&self, meanwhile: impl FnOnce()) {
        struct Over<'a>(&'a AtomicBool);
        impl Drop for Over<'_> {
            fn drop(&mut self) {
                self.0.store(true, Ordering::SeqCst);
            }
        }
        let over = AtomicBool::new(false);
        std::thread::scope(|scope| {
            let looking = scope.spawn(|| {
                poll(Duration::from_secs(600), || {
                    let pool = self.plane.pool(&self.id);
                    let ready = pool.iter().flatten().filter(|line| line.ends_with(" ready")).count();
                    assert_eq!(ready, 3, "{pool:?}");
                    over.load(Ordering::SeqCst).then_some(())
                })
            });
            let ended = Over(&over);
            meanwhile();
            drop(ended);
            looking.join().expect("the pool was never empty");
        });
    }
}

#[test]
fn errors_of_every_kind_make_a_pool_stale_with_the_reason_and_nothing_else() {
    let bed = Bed::start("refused");
    assert!(!bed.plane.get(&format!("/v1/pools/{}", bed.id)).head.contains("tidegate-reason"));
    bed.never_less(|| {
        for (round, code) in [429, 500, 503, 401].into_iter().enumerate() {
            bed.proxy.refuse(code);
            bed.wait_state("stale");
            let reason = bed.header("tidegate-reason");
            assert!(reason.starts_with("source east lost since 20"), "{reason}");
            wait_until(SOON, "the answer's code", || bed.header("tidegate-reason").contains(&code.to_string()));
            let since = bed.plane.tidegate.metric("tidegate_discovery_source_lost_since_timestamp_seconds");
            assert!(since > 1e9, "{since}");
            bed.change(round + 1);
            bed.proxy.heal();
            bed.wait_state("fresh");
            bed.wait_equal();
            // Policies are followed by themselves, and are back when it is their turn.
            wait_until(SOON, "nothing lost", || {
                bed.plane.tidegate.metric("tidegate_discovery_source_lost_since_timestamp_seconds") == 0.0
            });
        }
    });
}

#[test]
fn a_version_that_is_gone_is_followed_by_a_list_and_by_the_truth() {
    let bed = Bed::start("forgotten");
    bed.never_less(|| {
        for (round, how) in [Gone::Status, Gone::Event, Gone::Status].into_iter().enumerate() {
            let before = bed.proxy.listed();
            // Nothing is heard of this change but by a list.
            bed.proxy.refuse(503);
            bed.wait_state("stale");
            bed.change(round + 1);
            bed.proxy.gone(how);
            bed.wait_state("fresh");
            bed.wait_equal();
            assert!(bed.proxy.listed() > before, "{how:?}");
            bed.proxy.heal();
        }
    });
}

#[test]
fn an_api_server_that_answers_slowly_is_waited_for_and_one_that_does_not_answer_is_not() {
    let cluster = Cluster::shared(0);
    let (namespace, proxy) = (cluster.namespace("slow"), ApiProxy::start(cluster));
    cluster.client().create(&slice(&namespace, "a", "a", &endpoints(0), &ports()));
    proxy.delay(Duration::from_secs(3));
    let plane = Setup::new("").kubeconfig("east", &proxy.kubeconfig()).start_unsynced();
    assert_eq!(plane.get("/v1/pools").status, 503, "nothing is known, and no list is empty");
    plane.wait_synced();
    let bed = Bed { cluster, proxy, id: format!("east/{namespace}/a/http"), namespace, plane };
    bed.never_less(|| {
        bed.wait_equal();
        // Longer than an answer is waited for.
        bed.proxy.delay(Duration::from_secs(20));
        bed.proxy.cut();
        bed.wait_state("stale");
        wait_until(SOON, "the reason", || bed.header("tidegate-reason").contains("no answer to a watch within 10s"));
        bed.change(1);
        bed.proxy.heal();
        bed.wait_state("fresh");
        bed.wait_equal();
    });
}

#[test]
fn rule_11_a_watch_that_stays_open_and_brings_nothing_is_noticed_within_seconds_and_told_fresh_no_longer() {
    let bed = Bed::start("silent");
    bed.never_less(|| {
        // The watch that a streamed list became is ended by who reads it, silent or not, and then nothing is lost.
        wait_until(SOON, "a watch that goes on from a version", || bed.proxy.continued() > 0);
        bed.proxy.silence();
        bed.change(1);
        let began = Instant::now();
        // What was on its way when the proxy fell silent may still arrive.
        let silent_since = jiff::Timestamp::now() + Duration::from_secs(2);
        wait_until(Duration::from_secs(60), "the change", || {
            // Until it is noticed, the time of the last contact says how old the answer may be. It is read first.
            let before = bed.plane.get(&format!("/v1/pools/{}", bed.id));
            let told = |name| before.header(name).unwrap_or_default().to_owned();
            let (still, state) = (told("tidegate-synced-at"), told("tidegate-state"));
            let changed = before.text().contains("\"10.244.70.4\"");
            let at: jiff::Timestamp = still.parse().expect("a time");
            assert!(changed || at <= silent_since, "outdated, and said to be as of {still}");
            let age = jiff::Timestamp::now().duration_since(at).as_secs_f64();
            // 15 s, and what a busy machine takes to look.
            assert!(state != "fresh" || age < 25.0, "fresh, as of {age} s ago");
            changed
        });
        println!("right again after {:?}", began.elapsed());
        let lost = bed.plane.tidegate.metric_with("tidegate_discovery_source_lost_total", "cluster=\"east\"");
        assert!(lost >= 1.0, "it was told before it was mended");
        assert!(began.elapsed() < Duration::from_secs(40), "{:?}", began.elapsed());
        bed.wait_equal();
    });
}

/// A hundred services of a hundred endpoints, other ones in each round.
fn many(client: &crate::kube::ApiClient, namespace: &str, round: usize) {
    for service in 0..100 {
        let address = |at: usize| json!({"addresses": [format!("10.{}.{service}.{}", 244 + round % 2, 1 + at)]});
        let all: Vec<Value> = (0..100).map(address).collect();
        let name = format!("s{service}");
        let object = slice(namespace, &name, &name, &json!(all), &ports());
        if round == 0 {
            client.create(&object);
        } else {
            client.replace(&slice_path(namespace, &name), &object);
        }
    }
}

#[test]
fn ten_thousand_endpoints_that_all_changed_are_right_within_a_second_of_the_first_list_after_a_fault() {
    let cluster = Cluster::shared(0);
    let (namespace, proxy) = (cluster.namespace("many"), ApiProxy::start(cluster));
    many(cluster.client(), &namespace, 0);
    // Other tests' pools vanish meanwhile: nothing is held here.
    let setup = Setup::new("hold = { max_drop_percent = 100, max_age_seconds = 600 }");
    let plane = setup.kubeconfig("east", &proxy.kubeconfig()).start();
    let state = || plane.header(&format!("/v1/pools/east/{namespace}/s0/http"), "tidegate-state");
    let mut times = Vec::new();
    for round in 1..=3 {
        proxy.refuse(500);
        wait_until(SOON, "stale", || state() == "stale");
        many(cluster.client(), &namespace, round);
        let list = cluster.client().get(&format!("/apis/discovery.k8s.io/v1/namespaces/{namespace}/endpointslices"));
        let mut oracle = Oracle::new("east");
        for object in list["items"].as_array().unwrap() {
            oracle.apply(&json!({"type": "ADDED", "object": object}));
        }
        let index = plane.header("/v1/delta", "tidegate-index");
        let path = format!("/v1/delta?prefix=east/{namespace}/&since={index}&wait=60s");
        let waiting = std::thread::spawn({
            let address = plane.address;
            move || (http::get(address, &path).unwrap(), Instant::now())
        });
        proxy.gone(Gone::Status);
        let (answer, at) = waiting.join().unwrap();
        let delta: Value = serde_json::from_slice(&answer.body).unwrap();
        let found = delta["changed"].as_array().unwrap().iter();
        let found: Pools = found.map(|pool| (pool["id"].as_str().unwrap().to_owned(), pool.clone().into())).collect();
        assert!(found == oracle.pools(), "round {round}: one revision has all of the list");
        assert_eq!(state(), "fresh");
        times.push(at.saturating_duration_since(proxy.listed().unwrap()));
        proxy.heal();
    }
    println!("10 000 endpoints, from the list's end to a waiting client: {times:?}");
    // The quickest of three: other suites may have the processors.
    assert!(times.iter().min() < Some(&Duration::from_secs(1)), "{times:?}");
}
