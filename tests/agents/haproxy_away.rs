//! HAProxy while Tidegate is killed, frozen, restarted, or something else answers in its place; and HAProxy itself
//! reloaded and restarted meanwhile.

use std::net::SocketAddr;
use std::time::Duration;

use crate::bed::{http, wait_until};
use crate::haproxy::{Haproxy, POOL, backend};
use crate::load::{Load, Tally};
use crate::pods::Pod;
use crate::support::{BadServer, Badly, Origin, SOON, runtime};

fn addresses(pods: &[Pod]) -> Vec<SocketAddr> {
    pods.iter().map(|pod| pod.address).collect()
}

/// Waits until clients got so many more answers.
fn more(load: &Load, answers: u64) {
    let before = load.ok();
    wait_until(SOON, "answers", || load.ok() > before + answers);
}

fn assert_whole(tally: &Tally) {
    assert!(tally.failures.is_empty(), "{:?}", tally.failures);
}

#[test]
fn whatever_becomes_of_tidegate_requests_are_answered_and_a_change_comes_through_afterwards() {
    let runtime = runtime();
    let mut pods: Vec<Pod> = (0..2).map(|_| Pod::start(runtime.handle())).collect();
    let others = [("vm/b", vec![pods[0].address]), ("vm/c", vec![pods[1].address])];
    let pools = |pods: &[Pod]| [&[(POOL, addresses(pods))], &others[..]].concat();
    let mut origin = Origin::start(&pools(&pods));
    let haproxy = Haproxy::start(&backend());
    let mut agent = haproxy.agent(&[origin.address], false);
    haproxy.wait_servers(&addresses(&pods));
    origin.wait_served("haproxy-1", POOL, 2);
    let load = Load::start(runtime.handle(), haproxy.listener, "shop.example", 50);
    more(&load, 100);
    origin.tidegate.kill9();
    more(&load, 100);
    for badly in [Badly::Noise, Badly::Garbage, Badly::Cut, Badly::Unsynced, Badly::NoPools] {
        let server = BadServer::start(origin.address, badly);
        server.wait_asked();
        haproxy.wait_servers(&addresses(&pods));
    }
    more(&load, 100);
    // It comes back, and what changed meanwhile is there at once.
    pods.push(Pod::start(runtime.handle()));
    origin.set(&pools(&pods));
    origin.tidegate.relaunch();
    haproxy.wait_servers(&addresses(&pods));
    // Frozen: nothing answers, nothing is closed.
    origin.tidegate.signal("STOP");
    more(&load, 200);
    origin.tidegate.signal("CONT");
    let gone = pods.pop().unwrap();
    origin.set(&pools(&pods));
    haproxy.wait_servers(&addresses(&pods));
    gone.end();
    // The agent ends, and begins while no Tidegate answers: what it kept is what HAProxy has.
    origin.tidegate.kill9();
    agent.process.terminate(Duration::from_secs(10));
    more(&load, 100);
    let agent = haproxy.agent(&[origin.address], false);
    wait_until(SOON, "the agent", || agent.metric("tidegate_haproxy_processes_total") == 1.0);
    haproxy.wait_servers(&addresses(&pods));
    assert_whole(&load.stop());
    // A scale to zero is meant, also when it is told after a gap.
    origin.set(&[&[(POOL, vec![])], &others[..]].concat());
    origin.tidegate.relaunch();
    haproxy.wait_servers(&[]);
    let answer = http::get_with(haproxy.listener, "/", "Host: shop.example\r\n").unwrap();
    assert_eq!(answer.status, 503, "nobody is there to answer: {}", answer.head);
}

#[test]
fn reloaded_and_restarted_while_tidegate_is_away_it_begins_with_the_last_known_servers() {
    let runtime = runtime();
    let pods: Vec<Pod> = (0..3).map(|_| Pod::start(runtime.handle())).collect();
    let mut origin = Origin::start(&[(POOL, addresses(&pods[..2]))]);
    // The backend itself is made by render, check and reload: nobody writes it by hand.
    let mut haproxy = Haproxy::start("# nothing yet\n");
    let agent = haproxy.agent(&[origin.address], true);
    haproxy.wait_servers(&addresses(&pods[..2]));
    origin.set(&[(POOL, addresses(&pods))]);
    haproxy.wait_servers(&addresses(&pods));
    let name = format!("{}_{}", pods[2].address.ip(), pods[2].address.port());
    let written = || std::fs::read_to_string(haproxy.files.path().join("tidegate.cfg")).unwrap().contains(&name);
    wait_until(SOON, "a file with the last known servers", written);
    let processes = agent.metric("tidegate_haproxy_processes_total");
    let load = Load::start(runtime.handle(), haproxy.listener, "shop.example", 50);
    more(&load, 200);
    origin.tidegate.kill9();
    haproxy.reload();
    wait_until(SOON, "the agent to meet the new process", || {
        agent.metric("tidegate_haproxy_processes_total") > processes
    });
    haproxy.wait_servers(&addresses(&pods));
    more(&load, 200);
    let tally = load.stop();
    assert_whole(&tally);
    // Killed and started with nothing beside it: the file alone has the servers.
    drop(agent);
    haproxy.kill();
    haproxy.run();
    let load = Load::start(runtime.handle(), haproxy.listener, "shop.example", 50);
    wait_until(SOON, "an answer of each pod", || pods.iter().all(|pod| load.times(pod.address).is_some()));
    assert_whole(&load.stop());
}

#[test]
fn an_agent_goes_to_another_tidegate_when_its_own_fails() {
    let runtime = runtime();
    let pods: Vec<Pod> = (0..2).map(|_| Pod::start(runtime.handle())).collect();
    let mut origins = [(); 2].map(|()| Origin::start(&[(POOL, addresses(&pods[..1]))]));
    let haproxy = Haproxy::start(&backend());
    let servers = [origins[0].address, origins[1].address];
    let _agent = haproxy.agent(&servers, false);
    haproxy.wait_servers(&addresses(&pods[..1]));
    let heard = |origin: &Origin| !origin.gateway("haproxy-1").is_null();
    wait_until(SOON, "an acknowledgement", || origins.iter().any(heard));
    let first = usize::from(heard(&origins[1]));
    origins[first].tidegate.kill9();
    let other = &origins[1 - first];
    other.set(&[(POOL, addresses(&pods))]);
    haproxy.wait_servers(&addresses(&pods));
    other.wait_served("haproxy-1", POOL, 2);
}
