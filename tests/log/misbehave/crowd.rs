//! Clients that are too many, too idle, or never read.

use super::{assert_only_well, assert_well, descriptors, raw, send_all, start};
use crate::bed::{Reply, RespClient, resp, wait_until};
use crate::support::{SOON, connect};
use std::io::Read as _;
use std::net::{Shutdown, TcpStream};
use std::time::{Duration, Instant};

#[test]
fn a_client_that_never_reads_is_stopped_and_costs_little() {
    let (tidegate, key) = start("max_output_buffer = \"1MiB\"");
    let echo = resp::encode(["ECHO", &"x".repeat(10_000)]);
    let ping = resp::encode(["PING"]);
    let address = tidegate.redis_addr();
    let (taken, deaf): (Vec<usize>, Vec<TcpStream>) = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..20)
            .map(|i| {
                let (piece, times) = if i % 2 == 0 { (&echo, 5_000) } else { (&ping, 2_000_000) };
                scope.spawn(move || {
                    let stream = raw(address);
                    // Taken until what it is answered fills the sockets; then no more is read from it, or it is cut off.
                    let bytes = piece.repeat(times);
                    let sent = send_all(&stream, &bytes).unwrap_or(0);
                    assert!(sent < bytes.len(), "all of {} bytes were taken", bytes.len());
                    (sent, stream)
                })
            })
            .collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).unzip()
    });
    let taken: usize = taken.into_iter().sum();
    println!("{} MiB taken of 20 deaf clients, {} MiB resident", taken >> 20, tidegate.rss_bytes() >> 20);
    assert_well(&tidegate, &key);
    drop(deaf);
    wait_until(SOON, "their ends", || tidegate.metric("tidegate_log_connections") == 0.0);
    assert_only_well(&key, 1);
}

#[test]
fn a_client_that_reads_late_gets_every_reply_in_order() {
    let (tidegate, _) = start("");
    let many = 50_000;
    let bytes: Vec<u8> = (0..many).flat_map(|i| resp::encode(["ECHO", &format!("{i} {}", "x".repeat(200))])).collect();
    let mut client = connect(&tidegate);
    for (i, reply) in client.pipeline(&bytes, many).iter().enumerate() {
        assert!(reply.bytes().starts_with(format!("{i} ").as_bytes()), "reply {i}");
    }
}

#[test]
fn twenty_thousand_idle_connections_are_kept_and_cost_little() {
    super::warm_up();
    // Where the hard limit on open files is itself 20 000, what this process and Tidegate use besides must fit below.
    let count = 20_000.min(descriptors() - 600);
    let (tidegate, key) = start("max_connections = 30000");
    assert_well(&tidegate, &key);
    let before = tidegate.rss_bytes();
    let begun = Instant::now();
    let idle: Vec<TcpStream> = (0..count).map(|_| raw(tidegate.redis_addr())).collect();
    tidegate.wait_metric("tidegate_log_connections", SOON, |connections| connections >= count as f64);
    let after = tidegate.rss_bytes();
    println!(
        "{count} connections in {:?}, {} bytes resident each",
        begun.elapsed(),
        after.saturating_sub(before) / count as u64
    );
    assert_well(&tidegate, &key);
    // They cost no time while they say nothing, and each is still served.
    let (cpu, begun) = (tidegate.cpu_time(), Instant::now());
    wait_until(SOON, "two seconds", || begun.elapsed() > Duration::from_secs(2));
    let cpu = tidegate.cpu_time() - cpu;
    assert!(cpu < Duration::from_millis(500), "{cpu:?} of processor time in two idle seconds");
    for stream in idle.iter().step_by(1_000) {
        send_all(stream, b"PING\r\n").unwrap();
        let mut said = [0; 7];
        (&mut &*stream).read_exact(&mut said).unwrap();
        assert_eq!(&said, b"+PONG\r\n");
    }
    drop(idle);
    tidegate.wait_metric("tidegate_log_connections", SOON * 2, |connections| connections == 0.0);
    assert_well(&tidegate, &key);
    assert_only_well(&key, 3);
}

#[test]
fn a_storm_of_connections_that_come_and_go_harms_nobody() {
    let (tidegate, key) = start("");
    std::thread::scope(|scope| {
        for thread in 0..4 {
            let address = tidegate.redis_addr();
            scope.spawn(move || {
                for i in 0..1_250 {
                    let stream = raw(address);
                    match (i + thread) % 3 {
                        0 => drop(stream),
                        1 => {
                            let _ = send_all(&stream, b"PING\r\n*3\r\n$5\r\nLPU");
                        }
                        _ => {
                            let _ = stream.shutdown(Shutdown::Both);
                        }
                    }
                }
            });
        }
        let mut client = connect(&tidegate);
        for _ in 0..100 {
            assert_eq!(client.command(["LPUSH", &key, "well"]), Reply::Integer(1));
        }
    });
    // The gauge alone may say 0 while the kernel still keeps connections that nobody has accepted yet.
    tidegate.wait_metric("tidegate_log_connections_total", SOON, |accepted| accepted >= 5_000.0);
    tidegate.wait_metric("tidegate_log_connections", SOON, |connections| connections == 0.0);
    assert_well(&tidegate, &key);
    assert_only_well(&key, 101);
}

#[test]
fn one_connection_too_many_gets_redis_error_and_a_place_when_one_is_free() {
    let (tidegate, key) = start("max_connections = 3");
    let mut inside: Vec<RespClient> = (0..3).map(|_| connect(&tidegate)).collect();
    inside.iter_mut().for_each(|client| assert_eq!(client.command(["PING"]).bytes(), b"PONG"));
    for _ in 0..3 {
        let mut outside = connect(&tidegate);
        assert_eq!(outside.read().error(), "ERR max number of clients reached");
        outside.expect_close();
    }
    assert_eq!(tidegate.metric("tidegate_log_connections_rejected_total"), 3.0);
    inside.pop();
    tidegate.wait_metric("tidegate_log_connections", SOON, |connections| connections == 2.0);
    assert_well(&tidegate, &key);
}

#[test]
fn an_idle_connection_is_closed_after_its_time_and_a_busy_one_is_not() {
    let (tidegate, key) = start("idle_timeout_seconds = 1");
    let (mut idle, mut busy) = (connect(&tidegate), connect(&tidegate));
    assert_eq!(idle.command(["PING"]).bytes(), b"PONG");
    let begun = Instant::now();
    wait_until(SOON, "the idle one's end", || {
        assert_eq!(busy.command(["PING"]).bytes(), b"PONG");
        tidegate.metric_with("tidegate_log_connections_closed_total", "reason=\"idle\"") == 1.0
    });
    assert!(begun.elapsed() >= Duration::from_millis(900), "{:?}", begun.elapsed());
    idle.expect_close();
    assert_eq!(busy.command(["LPUSH", &key, "well"]), Reply::Integer(1));
}
