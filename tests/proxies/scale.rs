//! Many pools in one gateway: memory, how long one change takes, and that nothing is reloaded. With `make scale-proxies`
//! 3 000 pools with 60 000 endpoints; in every other run a fiftieth of that, to see that it works.

use std::fmt::Write as _;
use std::time::{Duration, Instant};

use crate::backend::Backend;
use crate::bed::{free_port, poll};
use crate::envoy::{self, Envoy, ask};
use crate::gateway::Gateway;
use crate::kube;
use crate::nginx::Nginx;
use crate::plane::{Plane, SOON, pool_file};

const HOST: &str = "changed.example";
const CHANGES: usize = 11;

fn pools() -> usize {
    std::env::var("TIDEGATE_SCALE_POOLS").map_or(60, |it| it.parse().expect("TIDEGATE_SCALE_POOLS: a number"))
}

/// Pools of 20 endpoints each, with a host each, at addresses that nobody asks.
fn many(count: usize) -> String {
    let mut text = String::new();
    for pool in 0..count {
        let endpoint =
            |last: usize| format!("{{ address = \"10.{}.{}.{last}\", port = 8080 }}", 100 + pool / 250, pool % 250);
        let endpoints: Vec<String> = (1..=20).map(endpoint).collect();
        let _ = writeln!(
            text,
            "[[pool]]\nid = \"scale/pool-{pool}\"\nhosts = [\"h{pool}.example\"]\nendpoints = [{}]",
            endpoints.join(",")
        );
    }
    text
}

fn megabytes(bytes: u64) -> f64 {
    bytes as f64 / f64::from(1 << 20)
}

/// Changes one pool again and again. Gives the times from its publication to the first answer of the new endpoint.
fn change(plane: &Plane, gateway: &dyn Gateway, rest: &str) -> Vec<Duration> {
    let backends = [0, 1].map(|_| Backend::start([127, 0, 0, 1], free_port()));
    let mut times = Vec::new();
    for round in 0..CHANGES {
        let now = &backends[round % 2];
        plane.write(&format!("{}{rest}", pool_file("scale/changed", HOST, &[now])));
        let port = now.address.port();
        plane.wait_pool("scale/changed", |pool| pool["endpoints"][0]["port"] == port);
        let published = Instant::now();
        let answered = poll(SOON, || ask(gateway, HOST, "/").1.starts_with(&now.name()).then_some(()));
        answered.unwrap_or_else(|| panic!("a change does not get through\n{}", gateway.log()));
        times.push(published.elapsed());
    }
    // The first one is the beginning.
    times.remove(0);
    times.sort();
    times
}

#[test]
fn nginx_has_many_pools_in_one_dict_and_reloads_nothing() {
    kube::enter();
    let rest = many(pools());
    let plane = Plane::over_file(&rest, "");
    let begun = Instant::now();
    let nginx = Nginx::start(&[plane.address]);
    nginx.wait("all pools", |status| status["pools"] == pools());
    let loaded = begun.elapsed();
    let workers = nginx.workers();
    let times = change(&plane, &nginx, &rest);
    assert_eq!(nginx.workers(), workers, "no worker was replaced");
    let last = plane.json("/v1/gateways")["gateways"][0]["pools"].as_object().unwrap().len();
    assert!(last >= pools().min(9_000), "only {last} pools are acknowledged");
    println!(
        "nginx: {} pools, {} endpoints: all there after {loaded:?}, memory {:.1} MB (two workers and the dict), one change \
         p50 {:?} max {:?}, 0 reloads",
        pools(),
        pools() * 20,
        megabytes(nginx.memory()),
        times[times.len() / 2],
        times[times.len() - 1],
    );
}

#[test]
fn envoy_has_many_pools_over_one_stream() {
    kube::enter();
    let rest = many(pools());
    let (keys, listener) = envoy::listener();
    let plane = Plane::over_file(&rest, &keys);
    let begun = Instant::now();
    let envoy = Envoy::start(plane.address, listener, "DELTA_GRPC");
    // The last host answers that its endpoints cannot be reached, and not that it is unknown.
    let last = format!("h{}.example", pools() - 1);
    poll(3 * SOON, || (ask(&envoy, &last, "/").0 == 503).then_some(())).unwrap_or_else(|| panic!("{}", envoy.log()));
    let loaded = begun.elapsed();
    let times = change(&plane, &envoy, &rest);
    assert_eq!(envoy.stat("update_rejected"), 0, "{}", envoy.log());
    println!(
        "Envoy: {} pools, {} endpoints: all there after {loaded:?}, memory {:.1} MB, one change p50 {:?} max {:?}, 0 reloads",
        pools(),
        pools() * 20,
        megabytes(envoy.memory()),
        times[times.len() / 2],
        times[times.len() - 1],
    );
}
