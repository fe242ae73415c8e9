//! What a record may be: limits, validation, binary values, compression.

use crate::bed::{Kafka, Reply, RespClient, resp, unique};
use crate::support::{SOON, Setup, connect, consumed, values};

fn push(client: &mut RespClient, key: &str, value: &[u8]) -> Reply {
    client.command([b"LPUSH", key.as_bytes(), value])
}

#[test]
fn values_reach_kafka_byte_for_byte() {
    let key = unique("binary");
    let tidegate = Setup::shared().topic(&key, 1, "max_record_size = \"1MiB\"").start();
    let mut client = connect(&tidegate);
    let all: Vec<u8> = (0..=255).collect();
    let noise: Vec<u8> = (0..900_000_u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    let odd: [&[u8]; 6] = [b"", b"\0", b"\r\n", b"*1\r\n$4\r\nPING\r\n", &all, &noise];
    for value in odd {
        assert_eq!(push(&mut client, &key, value), Reply::Integer(1));
    }
    assert_eq!(values(&consumed(&key, odd.len())), odd);
}

#[test]
fn what_a_route_does_not_take_is_refused_and_nothing_of_the_command_is_taken() {
    let key = unique("limits");
    let tidegate = Setup::shared().topic(&key, 1, "max_record_size = 100\nvalidate = \"json\"").start();
    let mut client = connect(&tidegate);
    let fits = format!("{:?}", "x".repeat(98));
    let large = format!("{:?}", "x".repeat(99));
    assert_eq!(push(&mut client, &key, fits.as_bytes()), Reply::Integer(1));
    let refused = client.command(["LPUSH", &key, &fits, &large]);
    assert!(refused.error().contains("101 bytes, the route allows 100"), "{refused:?}");
    for bad in ["{\"a\":", "{} {}", "", "\u{feff}{}"] {
        let refused = client.command(["LPUSH", &key, "{}", bad]);
        assert!(refused.error().contains("not valid JSON"), "{refused:?}");
    }
    assert_eq!(push(&mut client, &key, b" {\"a\":[1,2]} "), Reply::Integer(1));
    assert_eq!(values(&consumed(&key, 2)), [fits.as_bytes(), b" {\"a\":[1,2]} "]);
    tidegate.wait_metric("tidegate_log_records_refused_total", SOON, |count| count == 10.0);
    let refused = |reason| tidegate.metric_with("tidegate_log_records_refused_total", reason);
    assert_eq!((refused("reason=\"too_large\""), refused("reason=\"invalid\"")), (2.0, 8.0));
}

#[test]
fn a_record_over_the_brokers_limit_is_an_error_and_its_neighbours_arrive() {
    let key = unique("large");
    Kafka::shared().create_topic(&key, 1, 1, &[("max.message.bytes", "20000")]);
    let tidegate =
        Setup::shared().kafka("compression = \"none\"").route(&format!("key = \"{key}\"\ntopic = \"{key}\"")).start();
    let mut client = connect(&tidegate);
    let large = vec![b'x'; 100_000];
    let bytes = [
        resp::encode([b"LPUSH", key.as_bytes(), b"before"]),
        resp::encode([b"LPUSH", key.as_bytes(), &large]),
        resp::encode([b"LPUSH", key.as_bytes(), b"after"]),
    ];
    for bytes in &bytes {
        let reply = client.pipeline(bytes, 1);
        if bytes.len() > 1000 {
            assert!(reply[0].error().contains("max.message.bytes"), "{reply:?}");
        } else {
            assert_eq!(reply, [Reply::Integer(1)]);
        }
    }
    // In one write they go to Kafka in one batch.
    let replies = client.pipeline(&bytes.concat(), 3);
    assert!(replies[1].error().contains("max.message.bytes"), "{replies:?}");
    assert_eq!((&replies[0], &replies[2]), (&Reply::Integer(1), &Reply::Integer(1)));
    assert_eq!(values(&consumed(&key, 4)), [b"before".as_slice(), b"after", b"before", b"after"]);
}

#[test]
fn every_compression_is_read_by_others() {
    for compression in ["none", "lz4", "zstd", "snappy", "gzip"] {
        let key = unique(compression);
        let tidegate = Setup::shared().kafka(&format!("compression = \"{compression}\"")).topic(&key, 1, "").start();
        let mut client = connect(&tidegate);
        let sent: Vec<Vec<u8>> = (0..200).map(|i| format!("{i} {}", "some text ".repeat(50)).into_bytes()).collect();
        let bytes: Vec<u8> = sent.iter().flat_map(|value| resp::encode([b"LPUSH", key.as_bytes(), value])).collect();
        assert!(client.pipeline(&bytes, 200).iter().all(|reply| *reply == Reply::Integer(1)), "{compression}");
        assert_eq!(values(&consumed(&key, 200)), sent, "{compression}");
    }
}

#[test]
fn a_fixed_linger_delivers_as_well() {
    let key = unique("linger");
    let tidegate = Setup::shared().kafka("linger = 20").topic(&key, 1, "").start();
    let mut client = connect(&tidegate);
    for i in 0..20 {
        assert_eq!(push(&mut client, &key, format!("{i}").as_bytes()), Reply::Integer(1));
    }
    let expected: Vec<Vec<u8>> = (0..20).map(|i| format!("{i}").into_bytes()).collect();
    assert_eq!(values(&consumed(&key, 20)), expected);
}
