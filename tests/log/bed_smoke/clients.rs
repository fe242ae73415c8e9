//! The client drivers and the raw client against a real redis-server.

use super::SOON;
use crate::bed::{Driver, Mode, RedisServer, Reply, RespClient, record, resp, unique};
use std::time::{Duration, Instant};

#[test]
fn every_driver_sends_the_bytes_it_should_in_every_mode() {
    let server = RedisServer::start();
    let mut client = RespClient::connect(server.address());
    let count = 237;
    for driver in Driver::all() {
        for mode in Mode::ALL {
            let key = unique("app");
            let start = Instant::now();
            driver
                .run(server.address(), &key, count, mode, None, SOON * 3)
                .expect_ok(count);
            println!("{} {mode:?}: {:?}", driver.name, start.elapsed());
            assert_eq!(client.command(["LLEN", &key]), Reply::Integer(237));
            let stored = client.command(["LRANGE", &key, "0", "-1"]);
            // The newest comes first.
            for (i, value) in stored.array().iter().rev().enumerate() {
                assert_eq!(value.bytes(), record(&key, i), "{} {mode:?}", driver.name);
            }
        }
    }
}

#[test]
fn every_driver_logs_in_and_reports_a_refusal() {
    let server = RedisServer::start();
    let mut client = RespClient::connect(server.address());
    client.command(["ACL", "SETUSER", "ann", "on", ">secret", "~app*", "+@all"]);
    client.command(["ACL", "SETUSER", "default", "off"]);
    for driver in Driver::all() {
        let run = |user| {
            let login = Some((user, "secret"));
            driver.run(server.address(), "app", 3, Mode::Single, login, SOON * 6)
        };
        run("ann").expect_ok(3);
        let refused = run("bob");
        assert_eq!(refused.code, Some(1), "{} {refused:?}", driver.name);
        assert!(!refused.stderr.is_empty());
    }
}

#[test]
fn the_redis_client_pipelines_and_reads_both_protocols() {
    let server = RedisServer::start();
    let mut client = RespClient::connect(server.address());
    let many = 50_000;
    let one = resp::encode(["RPUSH", "list", "value"]);
    let start = Instant::now();
    let replies = client.pipeline(&one.repeat(many), many);
    println!("{many} commands in {:?}", start.elapsed());
    for (i, reply) in replies.iter().enumerate() {
        assert_eq!(reply.integer(), i64::try_from(i).unwrap() + 1);
    }
    assert_eq!(client.command(["GET", "none"]), Reply::Null);
    assert!(
        client
            .command(["GET", "list"])
            .error()
            .starts_with("WRONGTYPE")
    );
    let Reply::Map(hello) = client.hello3() else {
        panic!("no map")
    };
    assert!(hello.contains(&(Reply::Bulk(b"proto".into()), Reply::Integer(3))));
    assert_eq!(client.command(["GET", "none"]), Reply::Null);
    assert_eq!(client.command(["PING"]), Reply::Simple("PONG".into()));
    client.expect_silence(Duration::from_millis(50));
    client.send(["QUIT"]);
    assert_eq!(client.read(), Reply::Simple("OK".into()));
    client.expect_close();
}
