//! h2spec against the listener, and requests of HTTP/2 that would mean two things once they are HTTP/1.1.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::process::Command;
use std::time::{Duration, Instant};

use crate::backend::Backend;
use crate::bed::{require_gateway, wait_until};
use crate::recorder::Recorder;
use crate::support::{SOON, Setup, endpoint};

#[test]
fn h2spec_finds_nothing() {
    let backends = Backend::several(1);
    let gateway = Setup::over(&backends).route("pool = \"web\"").start();
    let port = gateway.address.port().to_string();
    // All of it takes seconds where nobody hangs.
    let mut command = Command::new("timeout");
    let output = command
        .arg("100")
        .arg(require_gateway().join("h2spec"))
        .args(["-h", "127.0.0.1", "-p", &port, "-o", "2"])
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    let summary = said.lines().rev().find(|line| line.contains("tests,")).unwrap_or_default().to_owned();
    println!("{summary}");
    assert!(output.status.success() && summary.contains(" 0 failed"), "{}", failed(&said));
    let passed: u32 = summary.split(" passed").next().and_then(|it| it.rsplit(' ').next()?.parse().ok()).unwrap_or(0);
    assert!(passed >= 140, "{summary}");
}

/// What h2spec says of the failed ones, from the list at its end.
fn failed(said: &str) -> &str {
    said.find("Failures:").map_or(said, |at| &said[at..])
}

/// A frame.
fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    [&length[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

/// Fields as HPACK literals that are not indexed, so that anything can be in them.
fn block(fields: &[(&str, &str)]) -> Vec<u8> {
    let text = |text: &str| {
        let length = text.len();
        assert!(length < 127 + 128, "longer than the two bytes that are made here");
        let prefix = if length < 127 { vec![length as u8] } else { vec![127, (length - 127) as u8] };
        [prefix, text.as_bytes().to_vec()].concat()
    };
    fields.iter().flat_map(|(name, value)| [vec![0], text(name), text(value)].concat()).collect()
}

const HEADERS: u8 = 1;
const DATA: u8 = 0;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const GOAWAY: u8 = 7;
const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;

/// A connection of HTTP/2 by prior knowledge.
fn connect(address: SocketAddr) -> TcpStream {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    stream.write_all(&[&b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"[..], &frame(SETTINGS, 0, 0, &[])].concat()).unwrap();
    stream
}

/// The frames that come, until one of the stream ends it, the connection ends, or a ping sent at the end is answered.
fn frames(stream: &mut TcpStream) -> Vec<(u8, u8, Vec<u8>)> {
    let mut frames = Vec::new();
    let mut head = [0; 9];
    while stream.read_exact(&mut head).is_ok() {
        let length = u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize;
        let mut payload = vec![0; length];
        if stream.read_exact(&mut payload).is_err() {
            break;
        }
        let (kind, flags) = (head[3], head[4]);
        frames.push((kind, flags, payload));
        let ends = flags & END_STREAM != 0 && [HEADERS, DATA].contains(&kind) || [RST_STREAM, GOAWAY].contains(&kind);
        if ends || kind == PING && flags & 1 != 0 {
            break;
        }
    }
    frames
}

/// The status of an answer, where it is one of HPACK's own table or a literal in three digits.
fn status(frames: &[(u8, u8, Vec<u8>)]) -> Option<String> {
    let (_, _, block) = frames.iter().find(|(kind, ..)| *kind == HEADERS)?;
    let known = ["200", "204", "206", "304", "400", "404", "500"];
    // A change of the dynamic table's size may stand before it.
    let first = block.iter().find(|byte| **byte & 0xe0 != 0x20)?;
    match first {
        0x88..=0x8e => Some(known[usize::from(first - 0x88)].to_owned()),
        _ => Some(String::from_utf8_lossy(&block[..block.len().min(8)]).into_owned()),
    }
}

/// Fields of a good request, with these instead or beside.
fn request<'a>(further: &[(&'a str, &'a str)]) -> Vec<(&'a str, &'a str)> {
    let mut fields = vec![(":method", "POST"), (":scheme", "http"), (":path", "/"), (":authority", "t")];
    for (name, value) in further {
        match fields.iter_mut().find(|(key, _)| name.starts_with(':') && key == name) {
            Some(field) => field.1 = value,
            None => fields.push((name, value)),
        }
    }
    fields
}

/// Requests that HTTP/2 can carry and HTTP/1.1 cannot, or that would be two there.
const DOWNGRADES: [(&str, &[(&str, &str)]); 22] = [
    ("a coding of the transfer", &[("transfer-encoding", "chunked")]),
    ("a coding after a line end", &[("x-a", "b\r\ntransfer-encoding: chunked")]),
    ("a request after a line end", &[("x-a", "b\r\n\r\nGET /hidden HTTP/1.1\r\nhost: t\r\n\r\n")]),
    ("bare LF in a value", &[("x-a", "b\nx-b: c")]),
    ("bare CR in a value", &[("x-a", "b\rx-b: c")]),
    ("NUL in a value", &[("x-a", "b\0c")]),
    ("a line end in a name", &[("x-a: b\r\ntransfer-encoding", "chunked")]),
    ("a colon in a name", &[("x-a:", "b")]),
    ("a blank in a name", &[("x a", "b")]),
    ("a capital in a name", &[("X-A", "b")]),
    ("an empty name", &[("", "b")]),
    ("a line end in the path", &[(":path", "/ HTTP/1.1\r\nhost: t\r\n\r\nGET /hidden")]),
    ("a blank in the path", &[(":path", "/ HTTP/1.1")]),
    ("an empty path", &[(":path", "")]),
    ("a path without a slash", &[(":path", "hidden")]),
    ("a line end in the method", &[(":method", "GET / HTTP/1.1\r\nhost: t\r\n\r\nGET")]),
    ("a blank in the method", &[(":method", "GET /hidden")]),
    ("a line end in the authority", &[(":authority", "t\r\nx-a: b")]),
    ("a user in the authority", &[(":authority", "t@u")]),
    ("another host", &[("host", "u")]),
    ("a connection's own field", &[("connection", "close")]),
    ("a TE of more than trailers", &[("te", "gzip")]),
];

#[test]
fn a_request_of_http2_that_means_two_things_in_http1_is_refused() {
    let recorder = Recorder::start();
    let gateway = Setup::new().endpoints("web", vec![endpoint(recorder.address, "")]).route("pool = \"web\"").start();
    let mut wrong = Vec::new();
    for (name, further) in DOWNGRADES {
        recorder.forget();
        let mut stream = connect(gateway.address);
        let headers = frame(HEADERS, END_STREAM | END_HEADERS, 1, &block(&request(further)));
        stream.write_all(&[headers, frame(PING, 0, 0, b"whatever")].concat()).unwrap();
        let mut came = frames(&mut stream);
        if !came.iter().any(|(kind, ..)| [HEADERS, RST_STREAM, GOAWAY].contains(kind)) {
            came.extend(frames(&mut stream));
        }
        let refused = came.iter().any(|(kind, ..)| [RST_STREAM, GOAWAY].contains(kind))
            || status(&came).is_some_and(|status| !status.starts_with("200"));
        // `te` and a connection's field may as well be taken away.
        let plain = recorder.requests().iter().all(|request| {
            request.target == "/" && request.values("te").is_empty() && request.values("connection").is_empty()
        });
        let may_pass = name.contains("TE") && plain;
        if !(refused && recorder.requests().is_empty() || may_pass) {
            wrong.push(format!("{name}: {came:?}, came {:?}", recorder.connections()));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert_eq!(gateway.curl("/after", &["--http2-prior-knowledge"]).text(), "/after");
}

#[test]
fn a_length_that_the_frames_do_not_keep_reaches_no_back_end_as_whole() {
    let recorder = Recorder::start();
    let gateway = Setup::new().endpoints("web", vec![endpoint(recorder.address, "")]).route("pool = \"web\"").start();
    for (length, body) in
        [("3", "abcde"), ("5", "abc"), ("0", "GET /hidden HTTP/1.1\r\n\r\n"), ("+3", "abc"), ("3, 3", "abc")]
    {
        recorder.forget();
        let mut stream = connect(gateway.address);
        let headers = frame(HEADERS, END_HEADERS, 1, &block(&request(&[("content-length", length)])));
        stream.write_all(&[headers, frame(DATA, END_STREAM, 1, body.as_bytes())].concat()).unwrap();
        let came = frames(&mut stream);
        let whole =
            recorder.connections().iter().any(|bytes| matches!(crate::strict::parse(bytes), Ok(Some(_)) | Err(_)));
        assert!(!whole, "{length}: {came:?} {:?}", recorder.connections());
        assert_ne!(status(&came).as_deref(), Some("200"), "{length}");
    }
}

/// One piece of a flood, by its number.
type Flood<'a> = &'a dyn Fn(u32) -> Vec<u8>;

#[test]
fn floods_of_http2_end_the_connection_and_others_are_served() {
    let backends = Backend::several(1);
    let gateway = Setup::over(&backends).route("pool = \"web\"").start();
    let good = block(&request(&[(":path", "/delay/1000")]));
    let rapid_reset = |number: u32| {
        let stream = 2 * number + 1;
        [frame(HEADERS, END_STREAM | END_HEADERS, stream, &good), frame(RST_STREAM, 0, stream, &8u32.to_be_bytes())]
            .concat()
    };
    // Of the empty continuation frames none ends the block.
    let continued = |number: u32| match number {
        0 => frame(HEADERS, END_STREAM, 1, &good),
        _ => frame(9, 0, 1, &[]),
    };
    // A block that grows without end.
    let long = "x".repeat(200);
    let growing = |number: u32| match number {
        0 => frame(HEADERS, END_STREAM, 1, &good),
        _ => frame(9, 0, 1, &block(&[("x-a", long.as_str()); 40])),
    };
    let pings = |_: u32| frame(PING, 0, 0, b"whatever");
    let settings = |_: u32| frame(SETTINGS, 0, 0, &[]);
    let empty_data = |number: u32| match number {
        0 => frame(HEADERS, END_HEADERS, 1, &block(&request(&[]))),
        _ => frame(DATA, 0, 1, &[]),
    };
    let floods: [(&str, Flood<'_>, bool); 6] = [
        ("rapid reset", &rapid_reset, false),
        ("empty continuations", &continued, true),
        ("a growing block", &growing, true),
        ("pings", &pings, false),
        ("settings", &settings, false),
        ("empty data", &empty_data, false),
    ];
    for (name, piece, must_end) in floods {
        let before = gateway.tidegate.rss_bytes();
        let mut stream = connect(gateway.address);
        stream.set_write_timeout(Some(Duration::from_secs(2))).unwrap();
        let started = Instant::now();
        // Nothing is read: answers pile up on the other side, as an attacker would have it.
        let mut pieces = 0..100_000;
        let mut ended = false;
        while let (Some(number), true) = (pieces.next(), started.elapsed() < Duration::from_secs(3)) {
            ended = stream.write_all(&piece(number)).is_err();
            if ended {
                break;
            }
        }
        assert!(ended || !must_end, "{name}: it goes on");
        let answer = gateway.curl("/", &["--max-time", "5"]);
        assert_eq!(answer.status, 200, "while {name}: {answer:?}");
        let grown = gateway.tidegate.rss_bytes().saturating_sub(before);
        assert!(grown < 64 << 20, "{name}: {grown} bytes more");
        drop(stream);
        wait_until(SOON, &format!("{name}: nothing is left of it"), || backends[0].statistics()["in_flight"] == 0);
    }
    assert!(
        backends[0].requests() < 20_000,
        "{} requests of reset streams reached the back end",
        backends[0].requests()
    );
}
