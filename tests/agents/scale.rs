//! Many pools in one HAProxy: memory, the time of one change, reloads. `make scale-haproxy` runs it with 3 000 pools of 20
//! endpoints; else it is small.

use std::fmt::Write as _;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use crate::bed::wait_until;
use crate::haproxy::Haproxy;
use crate::support::{Origin, quantile};

const ENDPOINTS: usize = 20;

fn endpoints(pool: usize, shift: usize) -> Vec<SocketAddr> {
    let at = |number: usize| {
        let [high, low] = u16::try_from(pool).unwrap().to_be_bytes();
        // Nobody is there, and nobody is asked: there are no checks.
        SocketAddr::from(([127, high + 1, low, u8::try_from(number + shift).unwrap()], 8080))
    };
    (1..=ENDPOINTS).map(at).collect()
}

#[test]
fn one_change_among_many_pools_is_one_pool_s_work_and_no_reload() {
    let scale = std::env::var_os("TIDEGATE_SCALE").is_some();
    let (pools, patience) = if scale { (3_000, Duration::from_secs(300)) } else { (100, Duration::from_secs(60)) };
    let ids: Vec<String> = (0..pools).map(|pool| format!("vm/p{pool}")).collect();
    let all = |changed: usize, shift: usize| -> Vec<(&str, Vec<SocketAddr>)> {
        let of = |(at, id)| (id, endpoints(at, if at == changed { shift } else { 0 }));
        ids.iter().map(String::as_str).enumerate().map(of).collect()
    };
    let mut config = String::from("backend vm_shop\n");
    for pool in 0..pools {
        let _ = writeln!(config, "backend vm_p{pool}\n    balance roundrobin");
    }
    let origin = Origin::start(&all(usize::MAX, 0));
    let haproxy = Haproxy::start(&config);
    let empty = haproxy.rss_bytes();
    let began = Instant::now();
    let agent = haproxy.agent_with(&[origin.address], false, &[("check inter 2s", "maxconn 10000")]);
    let wanted = (pools * ENDPOINTS) as f64;
    wait_until(patience, "all servers", || agent.metric("tidegate_haproxy_servers") == wanted);
    let first = began.elapsed();
    let pid = haproxy.pid();
    let commands = || agent.metric("tidegate_haproxy_commands_total");
    let seconds = || agent.metric("tidegate_haproxy_apply_seconds_sum");
    let mut times = Vec::new();
    let rounds = if scale { 10 } else { 3 };
    for _ in 0..rounds {
        let (sent, spent) = (commands(), seconds());
        // One endpoint goes and one comes.
        origin.set(&all(pools / 2, 1));
        let name = format!("127.{}.{}.{}_8080", ((pools / 2) >> 8) + 1, (pools / 2) & 255, ENDPOINTS + 1);
        let there = || haproxy.servers(&format!("vm_p{}", pools / 2)).iter().any(|(it, ..)| *it == name);
        wait_until(patience, "a changed pool", || there() && agent.metric("tidegate_haproxy_leaving_servers") == 0.0);
        times.push(Duration::from_secs_f64(seconds() - spent));
        assert!(commands() - sent <= 8.0, "{} commands for one endpoint", commands() - sent);
        let sent = commands();
        origin.set(&all(usize::MAX, 0));
        wait_until(patience, "the pool as before", || {
            !there() && agent.metric("tidegate_haproxy_leaving_servers") == 0.0
        });
        assert!(commands() - sent <= 8.0);
    }
    assert_eq!((haproxy.pid(), agent.metric("tidegate_haproxy_processes_total")), (pid, 1.0), "no reload");
    println!(
        "{pools} pools, {wanted} endpoints: first fill {first:?}, HAProxy {} MB without servers and {} MB with, agent {} MB, one change p50 {:?}, longest {:?}, 0 reloads",
        empty >> 20,
        haproxy.rss_bytes() >> 20,
        rss(agent.process.id()) >> 20,
        quantile(&mut times, 50),
        quantile(&mut times, 100)
    );
}

fn rss(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches("kB").trim().parse::<u64>().unwrap() * 1024
}
