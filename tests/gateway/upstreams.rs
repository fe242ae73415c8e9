//! Who gets a request, who gets none, and what becomes of requests that fail.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::backend::{Backend, Load, count};
use crate::bed::wait_until;
use crate::recorder::{self, Recorder};
use crate::support::{Gateway, SOON, Setup, endpoint};

fn counted(gateway: &Gateway, path: &str, requests: usize, further: &[&str]) -> Value {
    let (url, requests) = (gateway.url(path), requests.to_string());
    count(&[&["-url", &url, "-n", &requests], further].concat())
}

fn of(result: &Value, instance: &str) -> u64 {
    result["instances"][instance].as_u64().unwrap_or(0)
}

fn assert_all_served(result: &Value, requests: u64) {
    assert_eq!(result["statuses"]["200"].as_u64(), Some(requests), "{result}");
    assert_eq!(result["statuses"].as_object().unwrap().len(), 1, "{result}");
    assert_eq!(result["errors"].as_object().unwrap().len(), 0, "{result}");
}

#[test]
fn an_idle_connection_that_was_closed_costs_none_of_the_routes_tries() {
    let asked = AtomicUsize::new(0);
    // Its second answer never comes: the connection, idle until then, is closed under the request.
    let recorder = Recorder::answering(move |request| {
        (asked.fetch_add(1, Ordering::SeqCst) != 1).then(|| recorder::ok(&request.target))
    });
    let gateway = Setup::new()
        .endpoints("web", vec![endpoint(recorder.address, "")])
        .route("pool = \"web\"\nretries = 0")
        .start();
    assert_eq!(gateway.curl("/a", &[]).status, 200);
    assert_eq!(gateway.curl("/b", &[]).status, 200, "sent again, on a new connection");
    let targets: Vec<String> = recorder.requests().into_iter().map(|request| request.target).collect();
    assert_eq!(targets, ["/a", "/b", "/b"]);
    // What may not be repeated is not, and there is no try beyond that one.
    assert_eq!(gateway.tidegate.metric("tidegate_gateway_retries_total"), 1.0);
}

#[test]
fn round_robin_deals_evenly_and_by_weight() {
    let backends = Backend::several(3);
    let weights = [100, 100, 200];
    let endpoints = backends.iter().zip(weights).map(|(it, weight)| endpoint(it.http, &format!(", weight = {weight}")));
    let gateway =
        Setup::new().endpoints("web", endpoints.collect()).route("pool = \"web\"\nbalancer = \"round_robin\"").start();
    let result = counted(&gateway, "/", 400, &["-connections", "1"]);
    assert_all_served(&result, 400);
    // A turn's beginning is chance.
    for (name, part) in [("b0", 100), ("b1", 100), ("b2", 200)] {
        assert!(of(&result, name).abs_diff(part) <= 2, "{name}: {result}");
    }
}

#[test]
fn least_request_and_peak_ewma_spare_a_slow_endpoint() {
    for balancer in ["least_request", "peak_ewma"] {
        let backends = Backend::several(3);
        backends[0].behave(r#"{"delay_ms": 100}"#);
        let gateway = Setup::over(&backends).route(&format!("pool = \"web\"\nbalancer = \"{balancer}\"")).start();
        let result = counted(&gateway, "/", 2000, &["-connections", "16"]);
        assert_all_served(&result, 2000);
        // An even share would be 667.
        assert!(of(&result, "b0") < 200, "{balancer}: {result}");
    }
}

#[test]
fn a_hashed_key_stays_with_its_endpoint_and_few_move_when_one_leaves() {
    let backends = Backend::several(4);
    let mut gateway = Setup::over(&backends)
        .route("pool = \"web\"\nbalancer = \"consistent_hash\"\nhash_by = \"header:X-User\"")
        .start();
    let keys = ["-assign", "-header", "X-User: user-{}"];
    let before = counted(&gateway, "/", 2000, &keys);
    let again = counted(&gateway, "/", 2000, &keys);
    assert_eq!(before["assigned"], again["assigned"], "the same keys went elsewhere without a change");
    let (left, rest) = backends.split_last().unwrap();
    gateway.set_pool("web", &rest.iter().collect::<Vec<_>>());
    let after = counted(&gateway, "/", 2000, &keys);
    let (before, after) = (before["assigned"].as_object().unwrap(), after["assigned"].as_object().unwrap());
    let moved = before.iter().filter(|(key, who)| **who != *left.name && after[*key] != **who).count();
    let stayed = before.values().filter(|who| **who != *left.name).count();
    assert!(after.values().all(|who| *who != *left.name));
    // Of those that need not move at most 2 % do.
    assert!(moved * 50 <= stayed, "{moved} of {stayed} moved");
}

#[test]
fn requests_stay_in_the_zone_while_it_can_carry_them() {
    let backends = Backend::several(4);
    let zones = ["a", "a", "b", "b"];
    let endpoints = backends.iter().zip(zones).map(|(it, zone)| endpoint(it.http, &format!(", zone = \"{zone}\"")));
    let gateway = Setup::new()
        .source("zone = \"a\"")
        .endpoints("web", endpoints.collect())
        .route("pool = \"web\"")
        .section("[[gateway.pool]]\nid = \"web\"\nzone_aware = true")
        .start();
    let result = counted(&gateway, "/", 200, &[]);
    assert_all_served(&result, 200);
    assert_eq!(of(&result, "b2") + of(&result, "b3"), 0, "{result}");
}

#[test]
fn a_failed_health_check_takes_an_endpoint_out_and_a_good_one_brings_it_back() {
    let backends = Backend::several(2);
    let gateway = Setup::over(&backends)
        .route("pool = \"web\"")
        .section(
            "[[gateway.pool]]\nid = \"web\"\npanic_threshold_percent = 0\n\
             health_check = { kind = \"http\", path = \"/healthz\", interval_ms = 50, timeout_ms = 500, rise = 2, fall = 2 }",
        )
        .start();
    backends[0].behave(r#"{"health": 503}"#);
    wait_until(SOON, "only b1 answers", || of(&counted(&gateway, "/", 20, &[]), "b0") == 0);
    assert_all_served(&counted(&gateway, "/", 100, &[]), 100);
    backends[0].behave("{}");
    wait_until(SOON, "both answer", || of(&counted(&gateway, "/", 20, &[]), "b0") > 0);
    assert_eq!(gateway.state_of("web", backends[0].http), "serving");
}

#[test]
fn health_survives_a_change_of_the_pool() {
    let backends = Backend::several(3);
    // It takes a hundred good checks to be trusted again: whoever forgets that it was out takes it at once.
    let section = "[[gateway.pool]]\nid = \"web\"\npanic_threshold_percent = 0\n\
        health_check = { kind = \"http\", path = \"/healthz\", interval_ms = 500, timeout_ms = 500, rise = 100, fall = 1 }";
    backends[0].behave(r#"{"health": 503}"#);
    let mut gateway = Setup::over(&backends[..2]).route("pool = \"web\"").section(section).start();
    wait_until(SOON, "only b1 answers", || gateway.state_of("web", backends[0].http) == "unhealthy");
    backends[0].behave("{}");
    gateway.set_pool("web", &backends.iter().collect::<Vec<_>>());
    let result = counted(&gateway, "/", 200, &[]);
    assert_all_served(&result, 200);
    assert_eq!(of(&result, "b0"), 0, "{result}");
    assert!(of(&result, "b2") > 0, "{result}");
}

#[test]
fn tcp_and_grpc_health_checks_tell_a_live_endpoint_from_a_dead_one() {
    for check in ["kind = \"tcp\"", "kind = \"grpc\""] {
        let mut backends = Backend::several(2);
        let endpoints = backends.iter().map(|backend| endpoint(backend.grpc, "")).collect();
        let health = format!("health_check = {{ {check}, interval_ms = 50, timeout_ms = 500, rise = 1, fall = 2 }}");
        let gateway = Setup::new()
            .endpoints("rpc", endpoints)
            .section(&format!("[[gateway.pool]]\nid = \"rpc\"\nprotocol = \"http2\"\noutlier = false\n{health}"))
            .route("pool = \"rpc\"")
            .start();
        let [dead, live] = [0, 1].map(|number: usize| backends[number].grpc);
        backends[0].kill9();
        wait_until(SOON, &format!("{check}: the dead one is out"), || gateway.state_of("rpc", dead) == "unhealthy");
        assert_eq!(gateway.state_of("rpc", live), "serving");
    }
}

#[test]
fn an_endpoint_that_fails_again_and_again_is_ejected_for_a_while() {
    let backends = Backend::several(3);
    let gateway = Setup::over(&backends)
        .route("pool = \"web\"\nretries = 0")
        .section(
            "[[gateway.pool]]\nid = \"web\"\n\
             outlier = { consecutive_5xx = 3, consecutive_gateway_failures = 3, base_ejection_time_ms = 4000, max_ejected_percent = 50 }",
        )
        .start();
    backends[0].behave(r#"{"status": 503}"#);
    let result = counted(&gateway, "/", 300, &["-connections", "1"]);
    assert_eq!(result["statuses"]["503"].as_u64(), Some(3), "{result}");
    assert_eq!(of(&result, "b0"), 3, "{result}");
    backends[0].behave("{}");
    wait_until(SOON, "it is back", || of(&counted(&gateway, "/", 30, &[]), "b0") > 0);
}

#[test]
fn no_more_of_a_pool_is_ejected_than_allowed() {
    let backends = Backend::several(4);
    let gateway = Setup::over(&backends)
        .route("pool = \"web\"\nretries = 0")
        .section(
            "[[gateway.pool]]\nid = \"web\"\n\
             outlier = { consecutive_5xx = 2, base_ejection_time_ms = 60000, max_ejected_percent = 50 }\npanic_threshold_percent = 0",
        )
        .start();
    backends.iter().for_each(|backend| backend.behave(r#"{"status": 500}"#));
    counted(&gateway, "/", 100, &[]);
    backends.iter().for_each(|backend| backend.behave("{}"));
    let result = counted(&gateway, "/", 200, &[]);
    assert_all_served(&result, 200);
    let serving = backends.iter().filter(|backend| of(&result, &backend.name) > 0).count();
    assert_eq!(serving, 2, "{result}");
}

#[test]
fn too_many_unhealthy_endpoints_mean_that_the_checks_are_wrong() {
    let backends = Backend::several(4);
    backends[..3].iter().for_each(|backend| backend.behave(r#"{"health": 500}"#));
    let check = "health_check = { kind = \"http\", path = \"/healthz\", interval_ms = 50, timeout_ms = 500, rise = 1, fall = 1 }";
    let gateway = Setup::over(&backends)
        .route("pool = \"web\"")
        .section(&format!("[[gateway.pool]]\nid = \"web\"\npanic_threshold_percent = 50\n{check}"))
        .start();
    wait_until(SOON, "the checks have failed", || {
        backends.iter().all(|it| it.statistics()["health"].as_u64() > Some(3))
    });
    let result = counted(&gateway, "/", 200, &[]);
    assert_all_served(&result, 200);
    assert!(backends.iter().all(|backend| of(&result, &backend.name) > 20), "{result}");
}

#[test]
fn a_new_endpoint_gets_its_share_by_and_by() {
    let backends = Backend::several(2);
    let (old, new) = backends.split_at(1);
    let mut gateway = Setup::over(old)
        .route("pool = \"web\"")
        .section("[[gateway.pool]]\nid = \"web\"\nslow_start_seconds = 4")
        .start();
    gateway.set_pool("web", &[&old[0], &new[0]]);
    let appeared = Instant::now();
    let first = counted(&gateway, "/", 200, &["-connections", "1"]);
    assert_all_served(&first, 200);
    assert!(appeared.elapsed() < Duration::from_secs(2), "too slow to tell: {:?}", appeared.elapsed());
    assert!(of(&first, "b1") < 80 && of(&first, "b1") > 0, "{first}");
    wait_until(SOON, "its whole share", || of(&counted(&gateway, "/", 200, &["-connections", "1"]), "b1") >= 95);
}

#[test]
fn a_safe_request_that_fails_is_tried_elsewhere_and_one_that_may_have_been_done_is_not() {
    let backends = Backend::several(2);
    backends[0].behave(r#"{"reset": true}"#);
    let gateway = Setup::over(&backends)
        .route("pool = \"web\"")
        .section("[[gateway.pool]]\nid = \"web\"\noutlier = false\nretry_budget_min = 100")
        .start();
    let result = counted(&gateway, "/", 100, &[]);
    assert_all_served(&result, 100);
    assert_eq!(of(&result, "b1"), 100);
    assert!(gateway.tidegate.metric("tidegate_gateway_retries_total") >= 40.0);
    let before = backends[0].requests() + backends[1].requests();
    let posts: Vec<_> = (0..10).map(|number| gateway.curl(&format!("/post/{number}"), &["-d", "x"])).collect();
    let failed: Vec<_> = posts.iter().filter(|answer| answer.status != 200).collect();
    assert!(!failed.is_empty() && failed.len() < 10, "{posts:?}");
    failed.iter().for_each(|answer| answer.assert_refused(502, "reset"));
    assert_eq!(backends[0].requests() + backends[1].requests() - before, 10, "a POST was sent twice");
}

#[test]
fn a_post_to_an_endpoint_that_does_not_listen_is_tried_elsewhere_because_nothing_was_sent() {
    let mut backends = Backend::several(2);
    let gateway = Setup::over(&backends)
        .route("pool = \"web\"")
        .section("[[gateway.pool]]\nid = \"web\"\noutlier = false")
        .start();
    backends[0].kill9();
    for number in 0..20 {
        let answer = gateway.curl(&format!("/post/{number}"), &["-d", "body"]);
        assert_eq!((answer.status, answer.instance()), (200, "b1"), "{answer:?}");
    }
}

#[test]
fn a_status_that_the_route_names_is_tried_again() {
    let backends = Backend::several(2);
    backends[0].behave(r#"{"status": 503}"#);
    let gateway = Setup::over(&backends)
        .route("pool = \"web\"\nretry_on = [\"503\"]")
        .section("[[gateway.pool]]\nid = \"web\"\noutlier = false")
        .start();
    assert_all_served(&counted(&gateway, "/", 100, &["-connections", "1"]), 100);
}

#[test]
fn retries_stay_within_their_budget() {
    let backends = Backend::several(3);
    backends.iter().for_each(|backend| backend.behave(r#"{"status": 503, "delay_ms": 50}"#));
    let gateway = Setup::over(&backends)
        .route("pool = \"web\"\nretries = 3\nretry_on = [\"503\"]")
        .section("[[gateway.pool]]\nid = \"web\"\noutlier = false\nretry_budget_percent = 20\nretry_budget_min = 1")
        .start();
    let result = counted(&gateway, "/", 600, &["-connections", "40"]);
    assert_eq!(result["statuses"]["503"].as_u64(), Some(600), "{result}");
    let sent: u64 = backends.iter().map(Backend::requests).sum();
    // Without a budget there would be 2400.
    assert!((600..=1000).contains(&sent), "{sent} requests for 600");
}

#[test]
fn a_pool_at_its_limit_refuses_at_once_and_serves_what_it_has() {
    let backends = Backend::several(1);
    let gateway = Setup::over(&backends)
        .route("pool = \"web\"")
        .section("[[gateway.pool]]\nid = \"web\"\nmax_requests = 5\noutlier = false")
        .start();
    let result = counted(&gateway, "/delay/300", 30, &["-connections", "30"]);
    let (served, refused) = (result["statuses"]["200"].as_u64().unwrap(), result["statuses"]["503"].as_u64().unwrap());
    assert_eq!(served + refused, 30, "{result}");
    assert!(served >= 5 && backends[0].statistics()["greatest_in_flight"].as_u64() <= Some(5), "{result}");
    assert_eq!(gateway.failures("overloaded"), refused as f64);
}

#[test]
fn a_pool_with_few_connections_never_has_more() {
    let backends = Backend::several(1);
    let gateway = Setup::over(&backends)
        .route("pool = \"web\"")
        .section("[[gateway.pool]]\nid = \"web\"\nmax_connections = 3\noutlier = false")
        .start();
    let result = counted(&gateway, "/delay/20", 200, &["-connections", "30"]);
    assert_eq!(result["errors"].as_object().unwrap().len(), 0, "{result}");
    assert!(backends[0].statistics()["greatest_in_flight"].as_u64() <= Some(3), "{}", backends[0].statistics());
}

#[test]
fn an_empty_and_an_unknown_pool_are_told_apart_and_a_fallback_answers_for_both() {
    let backends = Backend::several(1);
    let gateway = Setup::over(&backends)
        .endpoints("empty", Vec::new())
        .route("name = \"empty\"\npath = \"/empty\"\npool = \"empty\"")
        .route("name = \"fixed\"\npath = \"/fixed\"\npool = \"empty\"\nfallback = { status = 200, body = \"sorry\" }")
        .route("name = \"other\"\npath_prefix = \"/other\"\npool = \"empty\"\nfallback = { pool = \"web\" }")
        .route("pool = \"web\"")
        .start();
    gateway.curl("/empty", &[]).assert_refused(503, "no_endpoint");
    let fixed = gateway.curl("/fixed", &[]);
    assert_eq!((fixed.status, &*fixed.text()), (200, "sorry"));
    assert_eq!(gateway.curl("/other", &["-d", "x"]).echo().text("target"), "/other");
}

#[test]
fn a_draining_endpoint_finishes_what_it_has() {
    let backends = Backend::several(2);
    let mut gateway = Setup::over(&backends[..1]).route("pool = \"web\"").start();
    let url = gateway.url("/delay/1500");
    let slow = Load::start(&["count", "-url", &url, "-n", "5", "-connections", "5"]);
    wait_until(SOON, "five requests in flight", || backends[0].statistics()["in_flight"] == 5);
    gateway.set_pool("web", &[&backends[1]]);
    assert_eq!(gateway.curl("/", &[]).instance(), "b1");
    let result = slow.result(SOON);
    assert_all_served(&result, 5);
    assert_eq!(of(&result, "b0"), 5);
    wait_until(SOON, "its idle connections are closed", || backends[0].statistics()["connections"] == 0);
}

#[test]
fn a_mirror_gets_copies_and_its_answers_and_failures_reach_nobody() {
    let backends = Backend::several(2);
    backends[1].behave(r#"{"status": 500}"#);
    let gateway = Setup::over(&backends[..1])
        .pool("copy", &backends[1..])
        .route("pool = \"web\"\nmirror = { pool = \"copy\" }")
        .start();
    assert_all_served(&counted(&gateway, "/", 50, &[]), 50);
    wait_until(SOON, "the copies", || backends[1].requests() >= 50);
    assert_eq!((backends[0].requests(), backends[1].requests()), (50, 50));
}

#[test]
fn a_split_follows_shares_headers_and_a_stable_identity() {
    let backends = Backend::several(2);
    let gateway = Setup::splitting(&backends).start();
    let shares = counted(&gateway, "/shares", 2000, &[]);
    // Five standard deviations around 200.
    assert!((133..=267).contains(&of(&shares, "b1")), "{shares}");
    assert_eq!(of(&counted(&gateway, "/canary", 50, &[]), "b1"), 0);
    assert_eq!(of(&counted(&gateway, "/canary", 50, &["-header", "X-Canary: yes"]), "b1"), 50);
    let sticky = ["-assign", "-header", "Cookie: user={}"];
    let (one, other) = (counted(&gateway, "/sticky", 300, &sticky), counted(&gateway, "/sticky", 300, &sticky));
    assert_eq!(one["assigned"], other["assigned"]);
    assert!((80..=220).contains(&of(&one, "b1")), "{one}");
}
