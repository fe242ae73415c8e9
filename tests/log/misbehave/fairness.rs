//! A well-behaved client beside misbehaving ones, in one run.

use super::{assert_well, raw, send_all, start};
use crate::bed::{Reply, RespClient, resp};
use crate::support::connect;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// Below this a difference is the machine's noise.
const NOISE: Duration = Duration::from_millis(2);
const SAMPLES: usize = 1_500;

/// The 99th percentile of a push and its reply.
fn p99(client: &mut RespClient, key: &str) -> Duration {
    let mut times: Vec<Duration> = (0..SAMPLES)
        .map(|_| {
            let begun = Instant::now();
            assert_eq!(client.command(["LPUSH", key, "well"]), Reply::Integer(1));
            begun.elapsed()
        })
        .collect();
    times.sort_unstable();
    times[SAMPLES * 99 / 100]
}

/// One client after the other that does what it should not, until told to stop. Paced, as the machine's processors are
/// shared by those who attack and who is attacked: what is measured is what Tidegate lets them do, not who computes more.
fn misbehave(address: SocketAddr, stop: &AtomicBool) {
    let echo = resp::encode(["ECHO", &"x".repeat(10_000)]).repeat(500);
    let bad: [&[u8]; 6] = [
        b"*1000000000\r\n",
        b"*3\r\n$5\r\nLPUSH\r\n$1\r\na\r\n$999999999\r\n",
        b"*3\r\n$5\r\nLPUSH\r\n$100",
        b"\0\xff\xfe noise \r\n\r\n\x80",
        b"PING \"unbalanced\r\n",
        &echo,
    ];
    let mut left_open = Vec::new();
    let mut round = 0;
    crate::bed::poll(Duration::from_secs(60), || {
        for bytes in bad {
            let stream = raw(address);
            stream.set_nonblocking(true).expect("a socket");
            let _ = send_all(&stream, bytes);
            round += 1;
            if round % 2 == 0 {
                left_open.push(stream);
            }
        }
        if left_open.len() > 300 {
            left_open.clear();
        }
        stop.load(Ordering::Relaxed).then_some(())
    });
}

#[test]
fn a_well_behaved_clients_p99_beside_misbehaving_ones_is_at_most_twice_the_undisturbed() {
    let (tidegate, key) = start("max_output_buffer = \"1MiB\"");
    let mut client = connect(&tidegate);
    p99(&mut client, &key);
    let mut measured = Vec::new();
    // Other tests and builds disturb both halves of a measurement; the claim is about Tidegate, so it may be tried again.
    let holds = (0..8).any(|_| {
        let undisturbed = p99(&mut client, &key);
        let stop = AtomicBool::new(false);
        let disturbed = std::thread::scope(|scope| {
            scope.spawn(|| misbehave(tidegate.redis_addr(), &stop));
            let disturbed = p99(&mut client, &key);
            stop.store(true, Ordering::Relaxed);
            disturbed
        });
        measured.push((undisturbed, disturbed));
        disturbed <= (undisturbed * 2).max(NOISE)
    });
    println!("p99 undisturbed and beside misbehaving clients: {measured:?}");
    assert!(holds, "{measured:?}");
    assert_well(&tidegate, &key);
}
