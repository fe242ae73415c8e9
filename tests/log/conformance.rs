//! The same lines to a real redis-server and to Tidegate: the same bytes come back, but for what stands in [`INTENDED`].

use crate::bed::{RedisServer, unique};
use crate::support::{SOON, Setup};
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};

/// Lines sent inline, KEY standing for a list's key and STREAM for a stream's. A connection each, so that one line's state is not another's.
const LINES: [&str; 88] = [
    "PING",
    "PING hello",
    "ping \"two words\"",
    "PING a b",
    "ECHO hello",
    "ECHO \"\\x00\\n\\\"\"",
    "ECHO",
    "SELECT 3",
    "SELECT 16",
    "SELECT abc",
    "SELECT",
    "AUTH wrong",
    "AUTH nobody wrong",
    "AUTH",
    "HELLO 1",
    "HELLO 4",
    "HELLO abc",
    "HELLO 3 NOSUCH",
    "HELLO 2 SETNAME",
    "QUIT",
    "RESET",
    "CLIENT GETNAME",
    "CLIENT SETNAME worker",
    "CLIENT SETNAME \"with blank\"",
    "CLIENT REPLY MAYBE",
    "CLIENT NO-EVICT ON",
    "CLIENT NO-EVICT maybe",
    "CLIENT NOSUCH",
    "CLIENT",
    "CLIENT TRACKING ON OPTIN",
    "CLIENT TRACKING MAYBE",
    "LPUSH",
    "LPUSH KEY",
    "RPUSH KEY",
    "lpushx KEY",
    "PUBLISH KEY",
    "PUBLISH KEY a b",
    "XADD STREAM",
    "XADD STREAM * odd",
    "XADD STREAM nonsense a b",
    "XADD STREAM 0-0 a b",
    "XADD STREAM MAXLEN abc * a b",
    "LPUSH KEY one",
    "XADD STREAM 5-1 a b",
    "LTRIM KEY 0 99",
    "LTRIM KEY a b",
    "LTRIM KEY",
    "LLEN KEY a",
    "LLEN none",
    "EXISTS none",
    "EXISTS",
    "TYPE none",
    "GET none",
    "GET",
    "DEL none",
    "DBSIZE a b",
    "TIME a",
    "MULTI now",
    "EXEC",
    "DISCARD",
    "WATCH",
    "UNWATCH",
    "NOSUCHCOMMAND",
    "NOSUCHCOMMAND a b c",
    "NOSUCHCOMMAND \"with ' quote\" \"and\\r\\nlines\"",
    "COMMAND COUNT a",
    "COMMAND NOSUCH",
    "COMMAND INFO nosuchcommand",
    "CONFIG GET nosuchparameter",
    "CONFIG",
    "SLOWLOG LEN",
    "SLOWLOG GET",
    "LATENCY LATEST",
    "CLUSTER INFO",
    "SENTINEL MASTERS",
    "LLEN KEY",
    "GET KEY",
    "EXISTS KEY",
    "TYPE KEY",
    "LRANGE KEY 0 -1",
    "SET other x",
    "PUBLISH KEY x",
    "EXPIRE KEY 100",
    "DEL KEY",
    "CLIENT SETINFO lib-name x",
    "CLIENT MAINT_NOTIFICATIONS ON",
    "COMMAND COUNT",
    "ROLE",
];

/// Lines whose replies are meant to differ, and why.
const INTENDED: &[(&str, &str)] = &[
    ("LLEN KEY", "a growing number makes Logstash stop for ever; nothing waits here in a list"),
    ("GET KEY", "no key holds anything here, a list neither"),
    ("EXISTS KEY", "no key holds anything here"),
    ("TYPE KEY", "no key holds anything here"),
    ("LRANGE KEY 0 -1", "what was pushed is in Kafka and not kept here"),
    ("SET other x", "a value that is not kept must not be promised; the route's `accept` will allow it to shippers"),
    ("PUBLISH KEY x", "shippers read 0 as failure: Kafka has the record, whoever listens"),
    ("DEL KEY", "no key holds anything here"),
    ("CLIENT SETINFO lib-name x", "as in the promised 7.2; the redis-server of Debian 12 is 7.0"),
    ("COMMAND COUNT", "Tidegate knows fewer commands"),
];

/// What comes back for this line.
fn answer(server: SocketAddr, line: &str) -> String {
    let mut stream = TcpStream::connect(server).unwrap();
    stream.set_read_timeout(Some(SOON)).unwrap();
    // The second command shows where the reply to the first one ends; a server that closes shows it too.
    write!(stream, "{line}\r\nECHO the-end-of-it\r\n").unwrap();
    const END: &[u8] = b"$13\r\nthe-end-of-it\r\n";
    let mut bytes = Vec::new();
    let mut piece = [0; 4096];
    while !bytes.ends_with(END) {
        match stream.read(&mut piece) {
            Ok(0) => break,
            Ok(count) => bytes.extend_from_slice(&piece[..count]),
            Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => break,
            Err(error) => panic!("{line}: {error}: {:?}", String::from_utf8_lossy(&bytes)),
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

#[test]
fn the_same_lines_get_the_same_bytes_from_redis_and_tidegate() {
    let redis = RedisServer::start();
    let tidegate = Setup::shared().route("key = \"*\"\ncreate_topic = { partitions = 1, replication = 1 }").start();
    let (key, stream) = (unique("conform"), unique("stream"));
    let mut differences = Vec::new();
    for line in LINES {
        let sent = line.replace("KEY", &key).replace("STREAM", &stream);
        let [theirs, ours] = [redis.address(), tidegate.redis_addr()].map(|server| answer(server, &sent));
        let intended = INTENDED.iter().any(|(known, _)| *known == line);
        match (theirs == ours, intended) {
            (false, false) => differences.push(format!("{line}\n  redis    {theirs:?}\n  tidegate {ours:?}")),
            (true, true) => differences.push(format!("{line}: no difference any more")),
            _ => {}
        }
    }
    assert!(differences.is_empty(), "{}", differences.join("\n"));
}

#[test]
fn a_transaction_answers_as_in_redis() {
    let redis = RedisServer::start();
    let tidegate = Setup::shared().route("key = \"*\"\ncreate_topic = { partitions = 1, replication = 1 }").start();
    let key = unique("conform");
    for lines in [
        format!("MULTI\r\nPING\r\nECHO x\r\nLPUSH {key} a\r\nEXEC"),
        "MULTI\r\nMULTI\r\nDISCARD".to_owned(),
        "MULTI\r\nNOSUCHCOMMAND\r\nPING\r\nEXEC\r\nPING".to_owned(),
        format!("MULTI\r\nLPUSH {key}\r\nEXEC"),
        "MULTI\r\nWATCH a\r\nEXEC".to_owned(),
        "MULTI\r\nDISCARD\r\nEXEC".to_owned(),
        "WATCH a\r\nMULTI\r\nEXEC".to_owned(),
        "CLIENT REPLY SKIP\r\nPING\r\nPING hello".to_owned(),
        "CLIENT REPLY OFF\r\nPING\r\nCLIENT REPLY ON".to_owned(),
    ] {
        assert_eq!(answer(tidegate.redis_addr(), &lines), answer(redis.address(), &lines), "{lines:?}");
    }
}
