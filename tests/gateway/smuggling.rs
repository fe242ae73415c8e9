//! Requests that two programs can read in two ways, from the RFCs (9110, 9112) and from what went wrong elsewhere: the gateway
//! refuses them or makes them plain, and a recording back end proves that nothing ambiguous came through.
//!
//! Every conversation ends with a request for [`HIDDEN`], or hides one in a body: a back end must never see it as a request.

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use crate::recorder::{Recorder, ok};
use crate::strict::Request;
use crate::support::{Gateway, Setup, endpoint};

const HIDDEN: &str = "/hidden";
const NEXT: &str = "GET /hidden HTTP/1.1\r\nHost: t\r\n\r\n";
/// What a refusal may say.
const REFUSALS: [u16; 8] = [400, 408, 413, 414, 417, 431, 501, 505];

/// Heads that are no request: the rest of the conversation must not be read either.
const MALFORMED: [(&str, &str); 47] = [
    ("a blank before a colon", "GET / HTTP/1.1\r\nHost : t\r\n\r\n"),
    ("a tab before a colon", "GET / HTTP/1.1\r\nHost: t\r\nX-A\t: b\r\n\r\n"),
    ("a blank before the first field", "GET / HTTP/1.1\r\n Host: t\r\nX: y\r\n\r\n"),
    ("a folded field", "GET / HTTP/1.1\r\nHost: t\r\nX-A: b\r\n c\r\n\r\n"),
    ("a field folded by a tab", "GET / HTTP/1.1\r\nHost: t\r\nX-A: b\r\n\tc\r\n\r\n"),
    ("a field without a name", "GET / HTTP/1.1\r\nHost: t\r\n: b\r\n\r\n"),
    ("a field without a colon", "GET / HTTP/1.1\r\nHost: t\r\nX-A\r\n\r\n"),
    ("a bracket in a field's name", "GET / HTTP/1.1\r\nHost: t\r\nX(A): b\r\n\r\n"),
    ("a letter of Latin-1 in a field's name", "GET / HTTP/1.1\r\nHost: t\r\nX\u{e9}: b\r\n\r\n"),
    ("NUL in a value", "GET / HTTP/1.1\r\nHost: t\r\nX-A: b\0c\r\n\r\n"),
    ("NUL in a name", "GET / HTTP/1.1\r\nHost: t\r\nX\0A: b\r\n\r\n"),
    ("a control character in a value", "GET / HTTP/1.1\r\nHost: t\r\nX-A: b\x01c\r\n\r\n"),
    ("a vertical tab in a value", "GET / HTTP/1.1\r\nHost: t\r\nX-A: b\x0bc\r\n\r\n"),
    ("DEL in a value", "GET / HTTP/1.1\r\nHost: t\r\nX-A: b\x7fc\r\n\r\n"),
    ("a bare CR in a value", "GET / HTTP/1.1\r\nHost: t\r\nX-A: b\rc\r\n\r\n"),
    ("a bare CR as a line's end", "GET / HTTP/1.1\r\nHost: t\rX-A: b\r\n\r\n"),
    ("two CR before LF", "GET / HTTP/1.1\r\nHost: t\r\r\n\r\n"),
    ("bare LF", "GET / HTTP/1.1\nHost: t\n\n"),
    ("bare LF after one field", "GET / HTTP/1.1\r\nHost: t\nX-A: b\r\n\r\n"),
    ("bare LF as the head's end", "GET / HTTP/1.1\r\nHost: t\r\n\n"),
    ("a bare CR in the request line", "GET /\r HTTP/1.1\r\nHost: t\r\n\r\n"),
    ("NUL in the target", "GET /\0 HTTP/1.1\r\nHost: t\r\n\r\n"),
    ("a control character in the target", "GET /\x01 HTTP/1.1\r\nHost: t\r\n\r\n"),
    ("a blank in the target", "GET /a b HTTP/1.1\r\nHost: t\r\n\r\n"),
    ("two blanks after the method", "GET  / HTTP/1.1\r\nHost: t\r\n\r\n"),
    ("two blanks before the version", "GET /  HTTP/1.1\r\nHost: t\r\n\r\n"),
    ("a tab after the method", "GET\t/ HTTP/1.1\r\nHost: t\r\n\r\n"),
    ("a vertical tab after the method", "GET\x0b/ HTTP/1.1\r\nHost: t\r\n\r\n"),
    ("a blank after the version", "GET / HTTP/1.1 \r\nHost: t\r\n\r\n"),
    ("a blank before the method", " GET / HTTP/1.1\r\nHost: t\r\n\r\n"),
    ("no version", "GET /\r\nHost: t\r\n\r\n"),
    ("version 0.9", "GET / HTTP/0.9\r\nHost: t\r\n\r\n"),
    ("version 2.0", "GET / HTTP/2.0\r\nHost: t\r\n\r\n"),
    ("a version in lower case", "GET / http/1.1\r\nHost: t\r\n\r\n"),
    ("a version with more behind it", "GET / HTTP/1.1x\r\nHost: t\r\n\r\n"),
    ("a version with a leading zero", "GET / HTTP/01.1\r\nHost: t\r\n\r\n"),
    ("a bracket in the method", "G(T / HTTP/1.1\r\nHost: t\r\n\r\n"),
    ("a target without a slash", "GET hidden HTTP/1.1\r\nHost: t\r\n\r\n"),
    ("a target of several parts", "GET / /hidden HTTP/1.1\r\nHost: t\r\n\r\n"),
    ("no Host", "GET / HTTP/1.1\r\nX-A: b\r\n\r\n"),
    ("two Hosts that differ", "GET / HTTP/1.1\r\nHost: t\r\nHost: u\r\n\r\n"),
    ("two Hosts alike", "GET / HTTP/1.1\r\nHost: t\r\nHost: t\r\n\r\n"),
    ("a Host of two names", "GET / HTTP/1.1\r\nHost: t, u\r\n\r\n"),
    ("a Host with a path", "GET / HTTP/1.1\r\nHost: t/u\r\n\r\n"),
    ("a Host with a user", "GET / HTTP/1.1\r\nHost: t@u\r\n\r\n"),
    ("a Host with a port that is none", "GET / HTTP/1.1\r\nHost: t:x\r\n\r\n"),
    ("another protocol", "SSH-2.0-OpenSSH_9.2\r\n\r\n"),
];

/// Fields about the length that mean nothing, or two things, and the body behind them.
const LENGTHS: [(&str, &str); 43] = [
    ("Content-Length: 4\r\nTransfer-Encoding: chunked", "0\r\n\r\n"),
    ("Transfer-Encoding: chunked\r\nContent-Length: 4", "0\r\n\r\n"),
    ("Transfer-Encoding: chunked\r\nContent-Length: 0", "0\r\n\r\n"),
    ("Content-Length: 0\r\nTransfer-Encoding: identity", ""),
    ("Content-Length: 3\r\nContent-Length: 5", "abcde"),
    ("Content-Length: 5\r\nX-A: b\r\ncontent-length: 3", "abcde"),
    ("Content-Length: 3, 5", "abcde"),
    ("Content-Length: +3", "abc"),
    ("Content-Length: -1", ""),
    ("Content-Length: 0x3", "abc"),
    ("Content-Length: 3 3", "abc"),
    ("Content-Length: 3;", "abc"),
    ("Content-Length: 3.0", "abc"),
    ("Content-Length: 1e1", "abcdefghij"),
    ("Content-Length: 1_0", "abcdefghij"),
    ("Content-Length: ", ""),
    ("Content-Length: abc", ""),
    ("Content-Length: \"3\"", "abc"),
    ("Content-Length: ٣", "abc"),
    ("Content-Length: 18446744073709551619", "abc"),
    ("Content-Length: 99999999999999999999999999999999", "abc"),
    ("Content-Length:\x0b3", "abc"),
    ("Content-Length : 3", "abc"),
    ("Content-Length:\r\n 3", "abc"),
    ("Transfer-Encoding: identity", ""),
    ("Transfer-Encoding: gzip", "0\r\n\r\n"),
    ("Transfer-Encoding: ", "0\r\n\r\n"),
    ("Transfer-Encoding: gzip, chunked", "0\r\n\r\n"),
    ("Transfer-Encoding: identity, chunked", "0\r\n\r\n"),
    ("Transfer-Encoding: chunked, identity", "0\r\n\r\n"),
    ("Transfer-Encoding: chunked, chunked", "0\r\n\r\n"),
    ("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked", "0\r\n\r\n"),
    ("Transfer-Encoding: chunked\r\nTransfer-Encoding: identity", "0\r\n\r\n"),
    ("Transfer-Encoding: xchunked", "0\r\n\r\n"),
    ("Transfer-Encoding: chunkedx", "0\r\n\r\n"),
    ("Transfer-Encoding: \"chunked\"", "0\r\n\r\n"),
    ("Transfer-Encoding: chunked;q=1", "0\r\n\r\n"),
    ("Transfer-Encoding:\x0bchunked", "0\r\n\r\n"),
    ("Transfer-Encoding: chunked\x0c", "0\r\n\r\n"),
    ("Transfer-Encoding:\r\n chunked", "0\r\n\r\n"),
    ("Transfer-Encoding : chunked", "0\r\n\r\n"),
    ("Transfer-Encoding\t: chunked", "0\r\n\r\n"),
    ("Transfer-Encoding: chunked\nContent-Length: 4", "0\r\n\r\n"),
];

/// Chunked bodies that are none.
const CHUNKS: [(&str, &str); 20] = [
    ("a size with a sign", "+3\r\nabc\r\n0\r\n\r\n"),
    ("a negative size", "-3\r\nabc\r\n0\r\n\r\n"),
    ("a size with a prefix", "0x3\r\nabc\r\n0\r\n\r\n"),
    ("a size with another letter", "3g\r\nabc\r\n0\r\n\r\n"),
    ("a size with an underscore", "0_3\r\nabc\r\n0\r\n\r\n"),
    ("no size", "\r\nabc\r\n0\r\n\r\n"),
    ("a blank before a size", " 3\r\nabc\r\n0\r\n\r\n"),
    ("a size beyond 64 bits", "10000000000000003\r\nabc\r\n0\r\n\r\n"),
    ("a size beyond all", "ffffffffffffffffffffffffffffffff3\r\nabc\r\n0\r\n\r\n"),
    ("bare LF after a size", "3\nabc\r\n0\r\n\r\n"),
    ("a bare CR after a size", "3\rabc\r\n0\r\n\r\n"),
    ("bare LF after data", "3\r\nabc\n0\r\n\r\n"),
    ("more data than the size", "3\r\nabcd\r\n0\r\n\r\n"),
    ("less data than the size", "5\r\nabc\r\n0\r\n\r\n"),
    ("bare LF within an extension", "3;a\nb\r\nabc\r\n0\r\n\r\n"),
    ("a bare CR within an extension", "3;a\rb\r\nabc\r\n0\r\n\r\n"),
    ("bare LF after the last size", "3\r\nabc\r\n0\n\r\n"),
    ("bare LF as the end", "3\r\nabc\r\n0\r\n\n"),
    ("a folded trailer", "3\r\nabc\r\n0\r\nX-A: b\r\n c\r\n\r\n"),
    ("a trailer with a blank before its colon", "3\r\nabc\r\n0\r\nX-A : b\r\n\r\n"),
];

/// Requests that are good, if unusual, with the targets that a back end sees, in order.
const GOOD: [(&str, &str, &[&str]); 17] = [
    ("two in one piece", "GET /a HTTP/1.1\r\nHost: t\r\n\r\nGET /b HTTP/1.1\r\nHost: t\r\n\r\n", &["/a", "/b"]),
    ("an empty line before", "\r\nGET /a HTTP/1.1\r\nHost: t\r\n\r\n", &["/a"]),
    (
        "a body on GET",
        "GET /a HTTP/1.1\r\nHost: t\r\nContent-Length: 35\r\n\r\nGET /hidden HTTP/1.1\r\nHost: t\r\n\r\n  ",
        &["/a"],
    ),
    (
        "a request in a body",
        "POST /a HTTP/1.1\r\nHost: t\r\nContent-Length: 33\r\n\r\nGET /hidden HTTP/1.1\r\nHost: t\r\n\r\n",
        &["/a"],
    ),
    (
        "a request in a chunk",
        "POST /a HTTP/1.1\r\nHost: t\r\nTransfer-Encoding: chunked\r\n\r\n21\r\nGET /hidden HTTP/1.1\r\nHost: t\r\n\r\n\r\n0\r\n\r\n",
        &["/a"],
    ),
    ("no blank after a colon", "POST /a HTTP/1.1\r\nHost:t\r\nContent-Length:3\r\n\r\nabc", &["/a"]),
    ("blanks around a value", "POST /a HTTP/1.1\r\nHost: \t t \t\r\nContent-Length: \t 3 \t\r\n\r\nabc", &["/a"]),
    (
        "a coding in capitals",
        "POST /a HTTP/1.1\r\nHost: t\r\nTransfer-Encoding: CHUNKED\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
        &["/a"],
    ),
    (
        "a chunk's extension",
        "POST /a HTTP/1.1\r\nHost: t\r\nTransfer-Encoding: chunked\r\n\r\n3;a=b\r\nabc\r\n0;c\r\n\r\n",
        &["/a"],
    ),
    (
        "zeros before a size",
        "POST /a HTTP/1.1\r\nHost: t\r\nTransfer-Encoding: chunked\r\n\r\n003\r\nabc\r\n000\r\n\r\n",
        &["/a"],
    ),
    (
        "a trailer",
        "POST /a HTTP/1.1\r\nHost: t\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\nX-Sum: 1\r\n\r\n",
        &["/a"],
    ),
    (
        "a length among the trailers",
        "POST /a HTTP/1.1\r\nHost: t\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\nContent-Length: 33\r\n\r\n",
        &["/a"],
    ),
    (
        "a length named in Connection",
        "POST /a HTTP/1.1\r\nHost: t\r\nConnection: Content-Length\r\nContent-Length: 3\r\n\r\nabc",
        &["/a"],
    ),
    ("Host named in Connection", "GET /a HTTP/1.1\r\nHost: t\r\nConnection: Host\r\n\r\n", &["/a"]),
    ("an absolute target and another Host", "GET http://other.example/a HTTP/1.1\r\nHost: t\r\n\r\n", &["/a"]),
    ("bytes beyond ASCII in a value", "GET /a HTTP/1.1\r\nHost: t\r\nX-A: \u{e9}\r\n\r\n", &["/a"]),
    (
        "an upgrade that nobody takes, and a body",
        "POST /a HTTP/1.1\r\nHost: t\r\nConnection: Upgrade\r\nUpgrade: other\r\nContent-Length: 3\r\n\r\nabc",
        &["/a"],
    ),
];

/// May be refused or made plain, as the gateway likes.
const EITHER: [(&str, &str); 16] = [
    ("a length said twice alike", "POST /a HTTP/1.1\r\nHost: t\r\nContent-Length: 3\r\nContent-Length: 3\r\n\r\nabc"),
    ("a length listed twice alike", "POST /a HTTP/1.1\r\nHost: t\r\nContent-Length: 3, 3\r\n\r\nabc"),
    ("zeros before a length", "POST /a HTTP/1.1\r\nHost: t\r\nContent-Length: 003\r\n\r\nabc"),
    (
        "a blank after a chunk's size",
        "POST /a HTTP/1.1\r\nHost: t\r\nTransfer-Encoding: chunked\r\n\r\n3 \r\nabc\r\n0\r\n\r\n",
    ),
    (
        "a blank before a chunk's extension",
        "POST /a HTTP/1.1\r\nHost: t\r\nTransfer-Encoding: chunked\r\n\r\n3 ;a\r\nabc\r\n0\r\n\r\n",
    ),
    ("chunks in HTTP/1.0", "POST /a HTTP/1.0\r\nHost: t\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n"),
    ("HTTP/1.0 without a Host", "GET /a HTTP/1.0\r\n\r\n"),
    ("an empty Host", "GET /a HTTP/1.1\r\nHost:\r\n\r\n"),
    ("a fragment in the target", "GET /a#b HTTP/1.1\r\nHost: t\r\n\r\n"),
    ("a target with dots", "GET /a/../b HTTP/1.1\r\nHost: t\r\n\r\n"),
    ("a target with encoded dots", "GET /a/%2e%2e/b HTTP/1.1\r\nHost: t\r\n\r\n"),
    ("a backslash in the target", "GET /a\\..\\b HTTP/1.1\r\nHost: t\r\n\r\n"),
    ("bytes beyond ASCII in the target", "GET /\u{e9} HTTP/1.1\r\nHost: t\r\n\r\n"),
    ("CONNECT", "CONNECT t:443 HTTP/1.1\r\nHost: t:443\r\n\r\n"),
    ("an expectation that is none", "POST /a HTTP/1.1\r\nHost: t\r\nExpect: miracles\r\nContent-Length: 3\r\n\r\nabc"),
    (
        "an upgrade to h2c",
        "GET /a HTTP/1.1\r\nHost: t\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAoAAAAAIAAAAA\r\n\r\n",
    ),
];

/// A gateway before a recorder.
fn recorded(recorder: &Recorder) -> Gateway {
    let pool = vec![endpoint(recorder.address, "")];
    let setup = Setup::new().endpoints("web", pool).route("pool = \"web\"\nupgrades = [\"*\"]");
    setup.section("[[gateway.pool]]\nid = \"web\"\noutlier = false").start()
}

/// Sends the bytes on a connection of their own and reads until the other side ends it; says whether it did.
pub(crate) fn converse(address: SocketAddr, bytes: &[u8]) -> (String, bool) {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    // The other side may end it before it has taken all.
    let _ = stream.write_all(bytes);
    let mut answer = Vec::new();
    let mut piece = [0; 4096];
    let closed = loop {
        match stream.read(&mut piece) {
            Ok(0) => break true,
            Ok(count) => answer.extend_from_slice(&piece[..count]),
            Err(error) if error.kind() == ErrorKind::ConnectionReset => break true,
            Err(_) => break false,
        }
    };
    (String::from_utf8_lossy(&answer).into_owned(), closed)
}

/// The statuses of all answers of a conversation; their bodies have no line that looks like one.
fn statuses(answer: &str) -> Vec<u16> {
    let lines = answer.split("HTTP/1.1 ").skip(1).chain(answer.split("HTTP/1.0 ").skip(1));
    lines.filter_map(|line| line.get(..3)?.parse().ok()).collect()
}

/// What came to the recorder, without ambiguity; never the hidden request.
fn seen(recorder: &Recorder, name: &str) -> Vec<Request> {
    let requests = recorder.requests();
    assert!(requests.iter().all(|request| request.target != HIDDEN), "{name}: the hidden request came through");
    requests
}

/// The conversation is refused at once and nothing of it comes through. All that is wrong, in one list.
fn refuses(cases: impl Iterator<Item = (String, String)>) {
    let recorder = Recorder::start();
    let gateway = recorded(&recorder);
    let mut wrong = Vec::new();
    for (name, bytes) in cases {
        recorder.forget();
        let (answer, closed) = converse(gateway.address, format!("{bytes}{NEXT}").as_bytes());
        let came = seen(&recorder, &name);
        match statuses(&answer)[..] {
            [status] if REFUSALS.contains(&status) && closed && came.is_empty() => {}
            _ => wrong.push(format!("{name}: closed {closed}, {} came through, answered {answer:?}", came.len())),
        }
    }
    assert!(wrong.is_empty(), "not refused:\n{}", wrong.join("\n"));
    // It goes on to serve.
    assert_eq!(gateway.curl("/after", &[]).text(), "/after");
    assert_eq!(gateway.failures("unknown"), 0.0);
}

#[test]
fn a_head_that_is_none_is_refused_and_what_follows_is_not_read() {
    refuses(MALFORMED.iter().map(|(name, bytes)| ((*name).to_owned(), (*bytes).to_owned())));
}

#[test]
fn a_length_that_means_two_things_is_refused_and_the_body_is_no_request() {
    refuses(LENGTHS.iter().map(|(fields, body)| {
        (format!("{fields:?}"), format!("POST / HTTP/1.1\r\nHost: t\r\n{fields}\r\n\r\n{body}"))
    }));
}

#[test]
fn a_chunk_that_is_none_ends_the_connection_and_is_not_passed_on_as_whole() {
    // The head is good, so that the back end may have it before the body turns out bad: what it has then must not look whole.
    let recorder = Recorder::start();
    let gateway = recorded(&recorder);
    let mut wrong = Vec::new();
    for (name, body) in CHUNKS {
        recorder.forget();
        let head = "POST / HTTP/1.1\r\nHost: t\r\nTransfer-Encoding: chunked\r\n\r\n";
        let (answer, closed) = converse(gateway.address, format!("{head}{body}{NEXT}").as_bytes());
        let whole = recorder.connections().iter().filter(|bytes| is_whole(bytes, name)).count();
        let refused = matches!(statuses(&answer)[..], [] | [400..=599]);
        if !refused || !closed || whole > 0 {
            wrong.push(format!("{name}: closed {closed}, {whole} came through whole, answered {answer:?}"));
        }
    }
    assert!(wrong.is_empty(), "not refused:\n{}", wrong.join("\n"));
    assert_eq!(gateway.curl("/after", &[]).text(), "/after");
}

/// Whether a connection brought a whole request; panics where it is ambiguous or the hidden one.
fn is_whole(bytes: &[u8], name: &str) -> bool {
    let first = crate::strict::parse(bytes);
    let first = first.unwrap_or_else(|why| panic!("{name}: ambiguous at the back end, {why}: {bytes:?}"));
    assert!(!String::from_utf8_lossy(bytes).contains(HIDDEN), "{name}: the hidden request came through");
    first.is_some()
}

#[test]
fn what_is_good_comes_through_plain_and_in_order() {
    let recorder = Recorder::start();
    let gateway = recorded(&recorder);
    let mut wrong = Vec::new();
    for (name, bytes, targets) in GOOD {
        recorder.forget();
        let last = "GET /last HTTP/1.1\r\nHost: t\r\nConnection: close\r\n\r\n";
        let (answer, closed) = converse(gateway.address, format!("{bytes}{last}").as_bytes());
        let came: Vec<String> = seen(&recorder, name).into_iter().map(|request| request.target).collect();
        let wanted: Vec<&str> = targets.iter().copied().chain(["/last"]).collect();
        let answered = statuses(&answer);
        // Requests of one connection may go to the back end by several.
        let mut sorted = (came.clone(), wanted.clone());
        sorted.0.sort();
        sorted.1.sort_unstable();
        if sorted.0 != sorted.1
            || answered.len() != wanted.len()
            || answered.iter().any(|status| *status != 200)
            || !closed
        {
            wrong.push(format!("{name}: closed {closed}, came {came:?}, answered {answer:?}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn what_may_be_refused_or_made_plain_is_never_passed_on_as_it_is() {
    let recorder = Recorder::start();
    let gateway = recorded(&recorder);
    let mut wrong = Vec::new();
    for (name, bytes) in EITHER {
        recorder.forget();
        let last = "GET /last HTTP/1.1\r\nHost: t\r\nConnection: close\r\n\r\n";
        let (answer, closed) = converse(gateway.address, format!("{bytes}{last}").as_bytes());
        let came = seen(&recorder, name);
        let answered = statuses(&answer);
        let refused = answered.iter().any(|status| REFUSALS.contains(status));
        // What is passed on is counted alike by both sides.
        let alike = came.len() + usize::from(refused) == answered.len();
        let plain = came
            .iter()
            .all(|request| !request.values("upgrade").contains(&"h2c") && !request.target.contains(['#', '\\']));
        if !alike || !plain || !closed {
            wrong.push(format!("{name}: closed {closed}, came {came:?}, answered {answer:?}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn the_host_of_an_absolute_target_is_the_one_that_counts() {
    let recorder = Recorder::start();
    let gateway = recorded(&recorder);
    let request = "GET http://other.example/a?b HTTP/1.1\r\nHost: t\r\nConnection: close\r\n\r\n";
    let (answer, _) = converse(gateway.address, request.as_bytes());
    assert_eq!(statuses(&answer), [200], "{answer}");
    let [request] = &recorder.requests()[..] else { panic!("not one request") };
    assert_eq!((&*request.target, request.values("host")), ("/a?b", vec!["other.example"]));
}

#[test]
fn heads_beyond_the_limits_are_refused() {
    let fields: String = (0..2000).map(|number| format!("X-{number}: y\r\n")).collect();
    let long = "x".repeat(300_000);
    refuses(
        [
            ("many fields", format!("GET / HTTP/1.1\r\nHost: t\r\n{fields}\r\n")),
            ("a long value", format!("GET / HTTP/1.1\r\nHost: t\r\nX-A: {long}\r\n\r\n")),
            ("a long name", format!("GET / HTTP/1.1\r\nHost: t\r\n{long}: a\r\n\r\n")),
            ("a long target", format!("GET /{long} HTTP/1.1\r\nHost: t\r\n\r\n")),
            ("a long method", format!("{long} / HTTP/1.1\r\nHost: t\r\n\r\n")),
        ]
        .into_iter()
        .map(|(name, bytes)| (name.to_owned(), bytes)),
    );
}

/// Answers of a back end that can be read in two ways, or not at all.
const BAD_ANSWERS: [(&str, &str); 16] = [
    ("two lengths", "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 4\r\n\r\nabcd"),
    ("a length and chunks", "HTTP/1.1 200 OK\r\nContent-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"),
    ("a length with a sign", "HTTP/1.1 200 OK\r\nContent-Length: +2\r\n\r\nab"),
    ("a length that is none", "HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\nab"),
    ("a length beyond 64 bits", "HTTP/1.1 200 OK\r\nContent-Length: 18446744073709551618\r\n\r\nab"),
    ("another coding", "HTTP/1.1 200 OK\r\nTransfer-Encoding: identity\r\n\r\nab"),
    ("chunks, then another coding", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked, gzip\r\n\r\n0\r\n\r\n"),
    ("a blank before a colon", "HTTP/1.1 200 OK\r\nContent-Length : 2\r\n\r\nab"),
    ("a folded length", "HTTP/1.1 200 OK\r\nContent-Length:\r\n 2\r\n\r\nab"),
    ("NUL in a value", "HTTP/1.1 200 OK\r\nX-A: a\0b\r\nContent-Length: 2\r\n\r\nab"),
    ("a bare CR in a value", "HTTP/1.1 200 OK\r\nX-A: a\rX-B: c\r\nContent-Length: 2\r\n\r\nab"),
    ("no status", "HTTP/1.1 OK\r\nContent-Length: 2\r\n\r\nab"),
    ("a status of four digits", "HTTP/1.1 2000 OK\r\nContent-Length: 2\r\n\r\nab"),
    ("another version", "HTTP/3.0 200 OK\r\nContent-Length: 2\r\n\r\nab"),
    ("no HTTP", "+PONG\r\n\r\n"),
    ("nothing", ""),
];

#[test]
fn an_answer_that_is_none_becomes_a_502_with_its_reason_and_the_connection_is_not_used_again() {
    let recorder = Recorder::answering(|request| {
        let number: Option<usize> = request.target.strip_prefix("/bad/").and_then(|number| number.parse().ok());
        match number.and_then(|number| BAD_ANSWERS.get(number)) {
            Some((_, "")) => None,
            Some((_, answer)) => {
                Some([answer.as_bytes(), b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nforged"].concat())
            }
            None => Some(ok(&request.target)),
        }
    });
    let gateway = recorded(&recorder);
    let mut wrong = Vec::new();
    for (number, (name, _)) in BAD_ANSWERS.iter().enumerate() {
        let answer = gateway.curl(&format!("/bad/{number}"), &[]);
        if answer.status != 502 || answer.reason().is_none_or(|reason| reason == "unknown") {
            wrong.push(format!("{name}: {answer:?}"));
        }
        let next = gateway.curl("/next", &[]);
        if next.text() != "/next" {
            wrong.push(format!("after {name}: {next:?}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn a_request_repeated_on_a_kept_connection_stays_one_request() {
    let recorder = Recorder::start();
    let gateway = recorded(&recorder);
    // A head that the back end would need to tell from the one before.
    let many =
        "POST /a HTTP/1.1\r\nHost: t\r\nContent-Length: 33\r\n\r\nGET /hidden HTTP/1.1\r\nHost: t\r\n\r\n".repeat(50);
    let (answer, closed) = converse(
        gateway.address,
        format!("{many}GET /last HTTP/1.1\r\nHost: t\r\nConnection: close\r\n\r\n").as_bytes(),
    );
    assert!(closed);
    assert_eq!(statuses(&answer), vec![200; 51]);
    assert_eq!(seen(&recorder, "fifty in a row").len(), 51);
}
