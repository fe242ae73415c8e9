//! Who gets a request and who gets none, asked for by programs that anybody has: h2load, wrk and curl. The back ends say who got how
//! many.

use std::process::Command;
use std::time::Instant;

use crate::backend::Backend;
use crate::bed::wait_until;
use crate::support::{Gateway, SOON, Setup, endpoint};

/// h2load over HTTP/1.1, one request at a time on each connection: how many answers were of 2xx, 3xx, 4xx and 5xx.
fn h2load(gateway: &Gateway, path: &str, requests: usize, connections: usize) -> [u64; 4] {
    let (requests, connections) = (format!("-n{requests}"), format!("-c{connections}"));
    let output = Command::new("h2load").args(["--h1", "-m1", &requests, &connections, &gateway.url(path)]).output();
    let said = String::from_utf8_lossy(&output.expect("h2load starts").stdout).into_owned();
    let line = said.lines().find_map(|line| line.strip_prefix("status codes: ")).unwrap_or_else(|| panic!("{said}"));
    let counts: Vec<u64> = line.split_whitespace().filter_map(|word| word.parse().ok()).collect();
    counts.try_into().unwrap_or_else(|_| panic!("{line}"))
}

/// Requests that each back end had while this was done.
fn shares(backends: &[Backend], act: impl FnOnce()) -> Vec<u64> {
    let before: Vec<u64> = backends.iter().map(Backend::requests).collect();
    act();
    backends.iter().zip(before).map(|(backend, before)| backend.requests() - before).collect()
}

/// A gateway over the pool `web` with these settings, and one route to it.
fn over(backends: &[Backend], pool: &str, route: &str) -> Gateway {
    let section = format!("[[gateway.pool]]\nid = \"web\"\n{pool}");
    Setup::over(backends).section(&section).route(&format!("pool = \"web\"\n{route}")).start()
}

#[test]
fn h2load_is_dealt_out_by_turns_by_weight_and_away_from_who_is_slow() {
    let backends = Backend::several(3);
    let weighted =
        backends.iter().zip([100, 100, 200]).map(|(it, weight)| endpoint(it.http, &format!(", weight = {weight}")));
    let gateway =
        Setup::new().endpoints("web", weighted.collect()).route("pool = \"web\"\nbalancer = \"round_robin\"").start();
    let dealt = shares(&backends, || assert_eq!(h2load(&gateway, "/", 400, 1), [400, 0, 0, 0]));
    // A turn's beginning is chance.
    assert!(dealt.iter().zip([100_u64, 100, 200]).all(|(got, part)| got.abs_diff(part) <= 2), "{dealt:?}");
    backends[0].behave(r#"{"delay_ms": 100}"#);
    for balancer in ["least_request", "peak_ewma"] {
        let gateway = over(&backends, "", &format!("balancer = \"{balancer}\""));
        let dealt = shares(&backends, || assert_eq!(h2load(&gateway, "/", 2000, 16), [2000, 0, 0, 0]));
        // An even share would be 667.
        assert!(dealt[0] < 200, "{balancer}: {dealt:?}");
    }
}

#[test]
fn curl_of_a_user_finds_the_same_endpoint_again_and_wrk_stays_in_its_zone() {
    let backends = Backend::several(4);
    let gateway = over(&backends, "", "balancer = \"consistent_hash\"\nhash_by = \"header:X-User\"");
    let who = |user: usize| gateway.curl("/", &["-H", &format!("X-User: {user}")]).instance().to_owned();
    let first: Vec<String> = (0..24).map(who).collect();
    assert_eq!((0..24).map(who).collect::<Vec<_>>(), first);
    assert!(first.iter().any(|it| *it != first[0]), "all at one: {first:?}");
    let zones = backends.iter().zip(["a", "a", "b", "b"]);
    let gateway = Setup::new()
        .source("zone = \"a\"")
        .endpoints("web", zones.map(|(it, zone)| endpoint(it.http, &format!(", zone = \"{zone}\""))).collect())
        .route("pool = \"web\"")
        .section("[[gateway.pool]]\nid = \"web\"\nzone_aware = true")
        .start();
    let dealt = shares(&backends, || {
        let output = Command::new("wrk").args(["-t1", "-c8", "-d1s", &gateway.url("/")]).output().unwrap();
        assert!(output.status.success(), "{output:?}");
    });
    assert!(dealt[0] > 0 && dealt[1] > 0 && dealt[2..] == [0, 0], "{dealt:?}");
}

#[test]
fn h2load_finds_a_new_endpoint_by_and_by_and_all_of_them_when_the_checks_must_be_wrong() {
    let backends = Backend::several(2);
    let mut gateway = Setup::over(&backends[..1])
        .route("pool = \"web\"")
        .section("[[gateway.pool]]\nid = \"web\"\nslow_start_seconds = 4")
        .start();
    gateway.set_pool("web", &[&backends[0], &backends[1]]);
    let appeared = Instant::now();
    let first = shares(&backends, || assert_eq!(h2load(&gateway, "/", 200, 1)[0], 200));
    assert!(appeared.elapsed().as_secs() < 2, "too slow to tell: {:?}", appeared.elapsed());
    assert!((1..80).contains(&first[1]), "{first:?}");
    wait_until(SOON, "its whole share", || {
        let dealt = shares(&backends, || assert_eq!(h2load(&gateway, "/", 200, 1)[0], 200));
        dealt[1] >= 95
    });
    let backends = Backend::several(4);
    backends[..3].iter().for_each(|backend| backend.behave(r#"{"health": 500}"#));
    let check = "health_check = { kind = \"http\", path = \"/healthz\", interval_ms = 50, timeout_ms = 500, rise = 1, fall = 1 }";
    let gateway = over(&backends, &format!("panic_threshold_percent = 50\n{check}"), "");
    wait_until(SOON, "the checks have failed", || {
        backends.iter().all(|it| it.statistics()["health"].as_u64() > Some(3))
    });
    let dealt = shares(&backends, || assert_eq!(h2load(&gateway, "/", 200, 4), [200, 0, 0, 0]));
    assert!(dealt.iter().all(|got| *got > 20), "{dealt:?}");
}

#[test]
fn curl_never_finds_who_fails_its_checks_even_after_the_pool_changed() {
    let backends = Backend::several(3);
    let check = "panic_threshold_percent = 0\nhealth_check = { kind = \"http\", path = \"/healthz\", interval_ms = 500, timeout_ms = 500, rise = 4, fall = 1 }";
    backends[0].behave(r#"{"health": 503}"#);
    let mut gateway = over(&backends[..2], check, "");
    wait_until(SOON, "b0 is out", || gateway.state_of("web", backends[0].http) == "unhealthy");
    gateway.set_pool("web", &backends.iter().collect::<Vec<_>>());
    let found: Vec<String> = (0..40).map(|_| gateway.curl("/", &[]).instance().to_owned()).collect();
    assert!(!found.contains(&"b0".to_owned()) && found.contains(&"b2".to_owned()), "{found:?}");
    backends[0].behave("{}");
    wait_until(SOON, "b0 is back", || gateway.curl("/", &[]).instance() == "b0");
}

#[test]
fn h2load_costs_an_outlier_few_requests_and_no_more_of_a_pool_goes_than_allowed() {
    let backends = Backend::several(4);
    let outlier = "outlier = { consecutive_5xx = 3, consecutive_gateway_failures = 3, base_ejection_time_ms = 60000, max_ejected_percent = 50 }\npanic_threshold_percent = 0";
    let gateway = over(&backends, outlier, "retries = 0");
    backends[0].behave(r#"{"status": 503}"#);
    assert_eq!(h2load(&gateway, "/", 300, 1), [297, 0, 0, 3]);
    backends.iter().for_each(|backend| backend.behave(r#"{"status": 500}"#));
    h2load(&gateway, "/", 100, 1);
    backends.iter().for_each(|backend| backend.behave("{}"));
    let dealt = shares(&backends, || assert_eq!(h2load(&gateway, "/", 200, 1), [200, 0, 0, 0]));
    assert_eq!(dealt.iter().filter(|got| **got > 0).count(), 2, "{dealt:?}");
}

#[test]
fn h2load_hears_nothing_of_what_may_be_tried_again_and_of_the_rest_no_more_than_the_budget() {
    let backends = Backend::several(2);
    backends[0].behave(r#"{"reset": true}"#);
    let gateway = over(&backends, "outlier = false\nretry_budget_min = 100", "");
    assert_eq!(h2load(&gateway, "/", 100, 4), [100, 0, 0, 0]);
    backends.iter().for_each(|backend| backend.behave(r#"{"status": 503, "delay_ms": 50}"#));
    let gateway = over(
        &backends,
        "outlier = false\nretry_budget_percent = 20\nretry_budget_min = 1",
        "retries = 3\nretry_on = [\"503\"]",
    );
    let sent = shares(&backends, || assert_eq!(h2load(&gateway, "/", 600, 40), [0, 0, 0, 600]));
    // Without a budget there would be 2400.
    let sent: u64 = sent.iter().sum();
    assert!((600..=1000).contains(&sent), "{sent} requests for 600");
}

#[test]
fn h2load_above_the_limits_of_a_pool_or_a_route_is_refused_at_once() {
    let backends = Backend::several(1);
    let gateway = over(&backends, "max_requests = 5\noutlier = false", "");
    let [served, _, _, refused] = h2load(&gateway, "/delay/300", 30, 30);
    assert!(served >= 5 && served + refused == 30, "{served} {refused}");
    assert!(backends[0].statistics()["greatest_in_flight"].as_u64() <= Some(5));
    assert_eq!(gateway.failures("overloaded"), refused as f64);
    let backends = Backend::several(1);
    let gateway = over(&backends, "max_connections = 3\noutlier = false", "");
    assert_eq!(h2load(&gateway, "/delay/20", 200, 30).iter().sum::<u64>(), 200);
    assert!(backends[0].statistics()["greatest_in_flight"].as_u64() <= Some(3), "{}", backends[0].statistics());
    let gateway = over(&backends, "", "rate_limit = { requests_per_second = 5, burst = 5, per = \"client\" }");
    let began = Instant::now();
    let [taken, _, refused, _] = h2load(&gateway, "/", 40, 4);
    assert_eq!(taken + refused, 40);
    assert!((5..=6 + (began.elapsed().as_secs_f64() * 5.0) as u64).contains(&taken), "{taken}");
    let again = (0..6).map(|_| gateway.curl("/", &[])).find(|answer| answer.status == 429).expect("a refusal");
    again.assert_refused(429, "rate_limited");
}

#[test]
fn h2load_is_split_by_share_and_copied_and_curl_goes_where_its_header_or_cookie_says() {
    let backends = Backend::several(2);
    let gateway = Setup::splitting(&backends)
        .route("name = \"copied\"\npath_prefix = \"/copied\"\npool = \"stable\"\nmirror = { pool = \"canary\" }")
        .start();
    let dealt = shares(&backends, || assert_eq!(h2load(&gateway, "/shares", 2000, 4), [2000, 0, 0, 0]));
    // Five standard deviations around 200.
    assert!((133..=267).contains(&dealt[1]), "{dealt:?}");
    let before = backends[1].requests();
    assert_eq!(h2load(&gateway, "/copied", 50, 2), [50, 0, 0, 0]);
    wait_until(SOON, "the copies", || backends[1].requests() == before + 50);
    assert_eq!(gateway.curl("/canary", &[]).instance(), "b0");
    assert_eq!(gateway.curl("/canary", &["-H", "X-Canary: yes"]).instance(), "b1");
    let who = |user: usize| gateway.curl("/sticky", &["-b", &format!("user={user}")]).instance().to_owned();
    let first: Vec<String> = (0..24).map(who).collect();
    assert_eq!((0..24).map(who).collect::<Vec<_>>(), first);
    assert!(first.contains(&"b0".to_owned()) && first.contains(&"b1".to_owned()), "{first:?}");
}
