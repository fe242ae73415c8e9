//! What balancers, breakers and limits do, in numbers: each test measures through the running gateway, holds the number to what it
//! must be, and prints a row of `RESULTS.md`.

use std::time::{Duration, Instant};

use serde_json::Value;

use crate::backend::{Backend, count};
use crate::bed::wait_until;
use crate::support::{Gateway, SOON, Setup};

const SPLIT_REQUESTS: usize = 100_000;
/// 99.9 % of all samples are below, for two degrees of freedom.
const CHI_SQUARED: f64 = 13.82;

fn row(what: &str, setting: &str, measured: &str, must: &str) {
    println!("| {what} | {setting} | {measured} | {must} |");
}

fn counted(gateway: &Gateway, requests: usize, further: &[&str]) -> Value {
    let (url, requests) = (gateway.url("/"), requests.to_string());
    count(&[&["-url", &url, "-n", &requests], further].concat())
}

fn of(result: &Value, instance: &str) -> u64 {
    result["instances"][instance].as_u64().unwrap_or(0)
}

fn with_status(result: &Value, status: u16) -> u64 {
    result["statuses"][status.to_string()].as_u64().unwrap_or(0)
}

#[test]
fn a_split_by_share_is_what_chance_makes_of_it() {
    let backends = Backend::several(3);
    let gateway = Setup::new()
        .pool("stable", &backends[..1])
        .pool("canary", &backends[1..2])
        .pool("next", &backends[2..])
        .route("split = [{ pool = \"stable\", share = 90 }, { pool = \"canary\", share = 9 }, { pool = \"next\", share = 1 }]")
        .start();
    let result = counted(&gateway, SPLIT_REQUESTS, &["-connections", "16"]);
    assert_eq!(with_status(&result, 200), SPLIT_REQUESTS as u64, "{result}");
    let expected = [0.9, 0.09, 0.01].map(|share| share * SPLIT_REQUESTS as f64);
    let seen = ["b0", "b1", "b2"].map(|name| of(&result, name) as f64);
    let chi: f64 = expected.iter().zip(seen).map(|(expected, seen)| (seen - expected).powi(2) / expected).sum();
    row(
        "split",
        "90 : 9 : 1, 100 000 requests",
        &format!("{seen:?}, χ² {chi:.2}"),
        &format!("χ² ≤ {CHI_SQUARED} (p = 0.001)"),
    );
    assert!(chi <= CHI_SQUARED, "{seen:?}: χ² {chi}");
}

#[test]
fn a_consistent_hash_moves_little_when_an_endpoint_leaves_and_when_one_comes() {
    const KEYS: usize = 10_000;
    let backends = Backend::several(8);
    let mut gateway = Setup::over(&backends)
        .route("pool = \"web\"\nbalancer = \"consistent_hash\"\nhash_by = \"header:X-User\"")
        .start();
    let assigned = |gateway: &Gateway| {
        let result = counted(gateway, KEYS, &["-connections", "16", "-assign", "-header", "X-User: user-{}"]);
        assert_eq!(with_status(&result, 200), KEYS as u64, "{result}");
        result["assigned"].as_object().unwrap().clone()
    };
    let all = assigned(&gateway);
    let most = all.values().fold(std::collections::BTreeMap::<&str, usize>::new(), |mut counts, who| {
        *counts.entry(who.as_str().unwrap()).or_default() += 1;
        counts
    });
    let spread = most.values().max().copied().unwrap_or_default() as f64 / (KEYS as f64 / 8.0);
    gateway.set_pool("web", &backends[..7].iter().collect::<Vec<_>>());
    let fewer = assigned(&gateway);
    gateway.set_pool("web", &backends.iter().collect::<Vec<_>>());
    let again = assigned(&gateway);
    let moved = |one: &serde_json::Map<String, Value>, other: &serde_json::Map<String, Value>| {
        one.iter().filter(|(key, who)| other[*key] != **who).count() as f64 / KEYS as f64
    };
    for (what, share, n) in
        [("one of 8 leaves", moved(&all, &fewer), 8.0), ("one comes to 7", moved(&fewer, &again), 8.0)]
    {
        let most = 1.0 / n + 0.02;
        row(
            "consistent hash",
            &format!("{what}, {KEYS} keys"),
            &format!("{:.2} % of keys moved", share * 100.0),
            &format!("≤ {:.1} %", most * 100.0),
        );
        assert!(share <= most, "{what}: {share}");
    }
    row("consistent hash", "8 endpoints alike", &format!("the busiest has {spread:.2} × its part"), "≤ 1.3");
    assert!(spread <= 1.3, "{spread}");
    assert_eq!(all, again, "who comes back gets what it had");
}

#[test]
fn an_outlier_costs_as_many_requests_as_the_setting_says_and_each_ejection_is_longer() {
    let backends = Backend::several(5);
    let outlier = "outlier = { consecutive_5xx = 5, consecutive_gateway_failures = 5, base_ejection_time_ms = 500, max_ejected_percent = 30 }";
    let gateway = Setup::over(&backends)
        .route("pool = \"web\"\nretries = 0")
        .section(&format!("[[gateway.pool]]\nid = \"web\"\n{outlier}"))
        .start();
    backends[0].behave(r#"{"status": 500}"#);
    let result = counted(&gateway, 1_000, &["-connections", "1"]);
    let failed = with_status(&result, 500);
    let (first, again) = (ejection(&gateway, &backends[0]), ejection(&gateway, &backends[0]));
    row(
        "outlier",
        "1 of 5 answers 500; after 5, 0.5 s at first",
        &format!("{failed} of 1 000 requests failed before its first ejection"),
        "5",
    );
    row(
        "outlier",
        "how long it was out, twice in a row",
        &format!("{:.1} s, {:.1} s", first.as_secs_f64(), again.as_secs_f64()),
        "longer each time",
    );
    // A thousand requests may take longer than the first ejection: then it fails five times more.
    assert!(failed == 5 || failed == 10, "{result}");
    assert!(again > first, "{first:?} {again:?}");
}

/// How long the next ejection of a failing back end lasts, requests going on.
fn ejection(gateway: &Gateway, backend: &Backend) -> Duration {
    wait_until(SOON, "it is in", || gateway.state_of("web", backend.http) == "serving");
    wait_until(SOON, "it is out", || {
        counted(gateway, 30, &["-connections", "1"]);
        gateway.state_of("web", backend.http) == "ejected"
    });
    let started = Instant::now();
    wait_until(SOON, "it is in again", || gateway.state_of("web", backend.http) != "ejected");
    started.elapsed()
}

#[test]
fn a_breaker_lets_through_what_its_limit_says() {
    const MOST: u64 = 10;
    let backends = Backend::several(1);
    backends[0].behave(r#"{"delay_ms": 100}"#);
    let gateway = Setup::over(&backends)
        .route("pool = \"web\"")
        .section(&format!("[[gateway.pool]]\nid = \"web\"\nmax_requests = {MOST}\noutlier = false"))
        .start();
    let result = counted(&gateway, 2_000, &["-connections", "50"]);
    let (served, refused) = (with_status(&result, 200), with_status(&result, 503));
    let greatest = backends[0].statistics()["greatest_in_flight"].as_u64().unwrap();
    row(
        "circuit limit",
        &format!("max_requests = {MOST}, 50 at once"),
        &format!("{greatest} in flight at most; {served} served, {refused} refused at once"),
        &format!("≤ {MOST} in flight, all others 503"),
    );
    assert_eq!((greatest, served + refused), (MOST, 2_000), "{result}");
    assert!(served >= MOST && refused > 0, "{result}");
}

#[test]
fn a_rate_limit_takes_its_burst_and_then_its_rate() {
    let backends = Backend::several(1);
    let gateway =
        Setup::over(&backends).route("pool = \"web\"\nrate_limit = { requests_per_second = 200, burst = 100 }").start();
    let result = counted(&gateway, 3_000, &["-connections", "8", "-rate", "1000"]);
    let (taken, seconds) = (with_status(&result, 200) as f64, result["seconds"].as_f64().unwrap());
    let allowed = 100.0 + 200.0 * seconds;
    row(
        "rate limit",
        "200 a second, burst 100; 1 000 a second for 3 s",
        &format!("{taken} taken in {seconds:.2} s, {} refused", with_status(&result, 429)),
        &format!("{allowed:.0} ± 2 %"),
    );
    assert!((allowed * 0.98..=allowed * 1.02).contains(&taken), "{taken} of {allowed}");
}

#[test]
fn slow_start_gives_a_new_endpoint_its_part_by_and_by() {
    const WINDOW: f64 = 8.0;
    let backends = Backend::several(2);
    let mut gateway = Setup::over(&backends[..1])
        .route("pool = \"web\"")
        .section(&format!("[[gateway.pool]]\nid = \"web\"\nslow_start_seconds = {WINDOW}"))
        .start();
    gateway.set_pool("web", &backends.iter().collect::<Vec<_>>());
    let started = Instant::now();
    let mut shares = Vec::new();
    while started.elapsed().as_secs_f64() < WINDOW + 2.0 {
        let at = started.elapsed().as_secs_f64();
        let result = counted(&gateway, 400, &["-connections", "1", "-rate", "800"]);
        shares.push((at, of(&result, "b1") as f64 / 400.0));
    }
    let text: Vec<String> = shares.iter().map(|(at, share)| format!("{at:.1} s: {:.0} %", share * 100.0)).collect();
    row("slow start", "the second of two, 8 s", &text.join(", "), "rises from about 10 % of a full weight to 50 %");
    let (first, last) = (shares[0].1, shares[shares.len() - 1].1);
    assert!(first < 0.25 && (0.48..=0.52).contains(&last), "{shares:?}");
    assert!(shares.windows(2).all(|pair| pair[1].1 >= pair[0].1 - 0.06), "{shares:?}");
}

#[test]
fn panic_begins_below_its_threshold_and_not_above() {
    let check = "health_check = { kind = \"http\", path = \"/healthz\", interval_ms = 50, timeout_ms = 500, rise = 1, fall = 1 }";
    for (unhealthy, panics) in [(4, false), (6, true)] {
        let backends = Backend::several(10);
        let gateway = Setup::over(&backends)
            .route("pool = \"web\"")
            .section(&format!("[[gateway.pool]]\nid = \"web\"\npanic_threshold_percent = 50\n{check}"))
            .start();
        backends[..unhealthy].iter().for_each(|backend| backend.behave(r#"{"health": 500}"#));
        wait_until(SOON, "the checks have failed", || {
            backends[..unhealthy].iter().all(|backend| gateway.state_of("web", backend.http) == "unhealthy")
        });
        let result = counted(&gateway, 1_000, &[]);
        let sick: u64 = backends[..unhealthy].iter().map(|backend| of(&result, &backend.name)).sum();
        row(
            "panic",
            &format!("{unhealthy} of 10 unhealthy, threshold 50 %"),
            &format!("{sick} of 1 000 requests went to them"),
            if panics { "their part, 600" } else { "0" },
        );
        assert!(if panics { (500..=700).contains(&sick) } else { sick == 0 }, "{result}");
    }
}
