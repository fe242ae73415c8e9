//! Rate limits: what is over them is refused at once and whole, as the route says, and nobody else notices.

use crate::bed::{Reply, RespClient, unique, wait_until};
use crate::support::{SOON, Setup, connect, consumed};
use std::net::IpAddr;
use std::time::{Duration, Instant};

fn limited(per_second: u32, burst: u32, per: &str) -> String {
    format!("rate_limit = {{ records_per_second = {per_second}, burst = {burst}, per = {per:?} }}\nhold_ms = 20000")
}

#[test]
fn what_is_over_the_limit_is_refused_at_once_and_counted_and_other_routes_go_on() {
    let (key, free) = (unique("limited"), unique("free"));
    let tidegate = Setup::shared().topic(&key, 1, &limited(1, 10, "route")).topic(&free, 1, "").start();
    let mut client = connect(&tidegate);
    let start = Instant::now();
    assert_eq!(client.command(["LPUSH", &key, "1", "2", "3", "4", "5", "6"]), Reply::Integer(6));
    // Six are within what is left of ten only if a minute passed: the command is taken whole or not at all.
    let refused = client.command(["RPUSH", &key, "a", "b", "c", "d", "e", "f"]);
    let text = format!("ERR rate limit of key '{key}': the route takes 1 records a second, 10 at once");
    assert_eq!(refused.error(), text);
    assert!(start.elapsed() < Duration::from_secs(10), "not held: {:?}", start.elapsed());
    assert_eq!(client.command(["LPUSH", &key, "7", "8", "9", "10"]), Reply::Integer(4));
    let eleven: Vec<String> = (0..11).map(|n| n.to_string()).collect();
    let refused = client.command(["LPUSH", key.as_str()].into_iter().chain(eleven.iter().map(String::as_str)));
    assert!(refused.error().ends_with("a command of 11 records is above the route's burst of 10"), "{refused:?}");
    for _ in 0..50 {
        assert_eq!(client.command(["LPUSH", &free, "x"]), Reply::Integer(1));
    }
    assert_eq!(consumed(&key, 10).len(), 10);
    let reason = "reason=\"rate_limit\"";
    wait_until(SOON, "the count", || tidegate.metric_with("tidegate_log_records_refused_total", reason) == 17.0);
}

#[test]
fn a_route_that_closes_closes_at_its_limit() {
    let key = unique("closing");
    let route = format!("{}\non_refusal = \"close\"", limited(1, 1, "route"));
    let tidegate = Setup::shared().topic(&key, 1, &route).start();
    let mut client = connect(&tidegate);
    assert_eq!(client.command(["LPUSH", &key, "x"]), Reply::Integer(1));
    client.send(["LPUSH", &key, "x", "y"]);
    client.expect_close();
}

#[test]
fn each_client_address_has_a_limit_of_its_own() {
    let key = unique("each");
    let tidegate = Setup::shared().topic(&key, 1, &limited(1, 5, "client")).start();
    let from = |host: [u8; 4]| RespClient::connect_from(IpAddr::from(host), tidegate.redis_addr());
    let (mut one, mut same, mut other) = (from([127, 0, 0, 1]), from([127, 0, 0, 1]), from([127, 0, 0, 2]));
    let push = |client: &mut RespClient| client.command(["LPUSH", &key, "a", "b", "c", "d", "e"]);
    assert_eq!(push(&mut one), Reply::Integer(5));
    assert!(push(&mut same).error().contains("1 records a second from one client"), "another port is no other client");
    assert_eq!(push(&mut other), Reply::Integer(5));
}

#[test]
fn all_workers_share_the_limit_of_a_route() {
    let key = unique("shared");
    let tidegate = Setup::shared().log("threads = 4").topic(&key, 1, &limited(100, 500, "route")).start();
    let start = Instant::now();
    let address = tidegate.redis_addr();
    let taken: usize = std::thread::scope(|scope| {
        let connections: Vec<_> = (0..8)
            .map(|_| {
                let key = &key;
                scope.spawn(move || {
                    let bytes = crate::bed::resp::encode(["LPUSH", key, "x"]).repeat(400);
                    let replies = RespClient::connect(address).pipeline(&bytes, 400);
                    replies.iter().filter(|reply| **reply == Reply::Integer(1)).count()
                })
            })
            .collect();
        connections.into_iter().map(|connection| connection.join().unwrap()).sum()
    });
    let most = 500 + usize::try_from(start.elapsed().as_millis() / 10).unwrap() + 1;
    assert!((500..=most).contains(&taken), "{taken} taken, {most} at most");
    assert_eq!(consumed(&key, taken).len(), taken);
}

#[test]
fn a_transaction_over_the_limit_of_one_route_takes_from_none() {
    let (wide, narrow) = (unique("wide"), unique("narrow"));
    let setup = Setup::shared().topic(&wide, 1, &limited(1, 3, "route")).topic(&narrow, 1, &limited(1, 1, "route"));
    let tidegate = setup.start();
    let mut client = connect(&tidegate);
    for (count, outcome) in [(2, Err("ERR rate limit")), (1, Ok(2))] {
        client.command(["MULTI"]);
        assert_eq!(client.command(["LPUSH", &wide, "x"]).bytes(), b"QUEUED");
        let values = ["LPUSH", &narrow].into_iter().chain(std::iter::repeat_n("x", count));
        assert_eq!(client.command(values).bytes(), b"QUEUED");
        match (client.command(["EXEC"]), outcome) {
            (Reply::Error(text), Err(start)) => assert!(text.starts_with(start), "{text}"),
            (Reply::Array(replies), Ok(length)) => assert_eq!(replies.len(), length),
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(client.command(["LPUSH", &wide, "x", "x"]), Reply::Integer(2), "the refused one took nothing");
    assert_eq!(consumed(&narrow, 1).len(), 1);
}

#[test]
fn a_reload_that_leaves_a_limit_as_it_is_does_not_fill_it_up() {
    let key = unique("filled");
    let setup = Setup::shared().topic(&key, 1, &limited(1, 50, "route"));
    let mut tidegate = setup.start();
    let mut client = connect(&tidegate);
    let fifty: Vec<String> = (0..50).map(|n| n.to_string()).collect();
    let push = ["LPUSH", key.as_str()].into_iter().chain(fifty.iter().map(String::as_str));
    assert_eq!(client.command(push.clone()), Reply::Integer(50));
    std::fs::write(tidegate.directory().join("tidegate.toml"), setup.route("key = \"more\"").text()).unwrap();
    tidegate.signal("HUP");
    tidegate.wait_metric("tidegate_config_reloads_total", SOON, |count| count >= 1.0);
    assert!(client.command(push).error().starts_with("ERR rate limit"));
}
