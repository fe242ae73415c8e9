//! Bounds of time and size, and clients that try what they can get away with.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use crate::backend::{Backend, Load, count};
use crate::bed::wait_until;
use crate::support::{Gateway, SOON, Setup};

fn over_one(keys: &str, route: &str) -> (Gateway, Vec<Backend>) {
    let backends = Backend::several(1);
    (Setup::over(&backends).keys(keys).route(&format!("pool = \"web\"\n{route}")).start(), backends)
}

#[test]
fn a_request_that_takes_too_long_is_a_504_and_a_try_that_does_is_repeated_elsewhere() {
    let backends = Backend::several(2);
    backends[0].behave(r#"{"delay_ms": 20000}"#);
    let setup = Setup::over(&backends)
        .route("name = \"whole\"\npath_prefix = \"/whole\"\npool = \"web\"\ntimeout_ms = 300\nretries = 0")
        .route("name = \"try\"\npool = \"web\"\ntry_timeout_ms = 300\nretries = 1")
        .section("[[gateway.pool]]\nid = \"web\"\noutlier = false");
    let gateway = setup.start();
    let answers: Vec<_> = (0..8).map(|_| gateway.curl("/whole", &[])).collect();
    let late: Vec<_> = answers.iter().filter(|answer| answer.status == 504).collect();
    assert!((1..=7).contains(&late.len()), "of two back ends one is slow: {answers:?}");
    late.iter().for_each(|answer| answer.assert_refused(504, "request_timeout"));
    for _ in 0..4 {
        let answer = gateway.curl("/", &[]);
        assert_eq!((answer.status, answer.instance()), (200, "b1"), "{answer:?}");
    }
}

#[test]
fn an_endpoint_that_cannot_be_connected_to_in_time_has_its_reason() {
    // A listener whose queue is full: connections to it hang as those to a host that is gone.
    let full = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    full.bind(&std::net::SocketAddr::from(([127, 0, 0, 1], 0)).into()).unwrap();
    full.listen(0).unwrap();
    let address = full.local_addr().unwrap().as_socket().unwrap();
    let fill: Vec<_> = (0..4).map(|_| TcpStream::connect_timeout(&address, Duration::from_millis(200))).collect();
    assert!(fill.iter().any(Result::is_err), "the queue is not full");
    let gateway = Setup::new()
        .endpoints("web", vec![crate::support::endpoint(address, "")])
        .route("pool = \"web\"")
        .section("[[gateway.pool]]\nid = \"web\"\nconnect_timeout_ms = 300")
        .start();
    gateway.curl("/", &[]).assert_refused(504, "connect_timeout");
}

#[test]
fn an_answer_that_stops_half_way_is_cut_and_told() {
    let (gateway, _backends) = over_one("", "idle_timeout_seconds = 1");
    // Twice a hundred bytes were promised: nobody can take the fifty for whole.
    let half = gateway.curl("/half", &[]);
    assert!(half.exit != 0 && half.body.len() <= 50, "{half:?}");
    let still = gateway.curl("/stream?chunks=2&interval_ms=20000", &[]);
    assert!(still.exit != 0 && still.seconds < 10.0, "{still:?}");
    wait_until(SOON, "the reasons in the metrics", || {
        gateway.failures("answer_cut") == 1.0 && gateway.failures("answer_timeout") == 1.0
    });
}

#[test]
fn a_body_beyond_the_limit_is_refused_whether_its_length_is_told_or_not() {
    let (gateway, backends) = over_one("", "max_body_size = \"100KiB\"");
    let body = vec![b'x'; 200 << 10];
    let directory = tempfile::tempdir().unwrap();
    std::fs::write(directory.path().join("body"), body).unwrap();
    let data = format!("@{}", directory.path().join("body").display());
    gateway.curl("/", &["-H", "Expect:", "--data-binary", &data]).assert_refused(413, "body_too_large");
    assert_eq!(backends[0].requests(), 0, "nothing of it was sent on");
    gateway
        .curl("/", &["-H", "Expect:", "-H", "Transfer-Encoding: chunked", "--data-binary", &data])
        .assert_refused(413, "body_too_large");
    assert_eq!(gateway.curl("/", &["-d", "small"]).status, 200);
}

#[test]
fn a_head_that_comes_by_drops_is_not_waited_for() {
    let (gateway, _backends) = over_one("head_timeout_seconds = 1", "");
    let mut stream = TcpStream::connect(gateway.address).unwrap();
    stream.set_read_timeout(Some(Duration::from_millis(50))).unwrap();
    let started = Instant::now();
    let mut answer = Vec::new();
    let _ = stream.write_all(b"GET / HTTP/1.1\r\nHost: t\r\nX-Slow: ");
    loop {
        let _ = stream.write_all(b"a");
        let mut bytes = [0; 1024];
        match stream.read(&mut bytes) {
            Ok(0) => break,
            Ok(count) => answer.extend_from_slice(&bytes[..count]),
            Err(error) if matches!(error.kind(), std::io::ErrorKind::WouldBlock | std::io::ErrorKind::TimedOut) => {}
            Err(_) => break,
        }
        assert!(started.elapsed() < SOON, "still open");
    }
    let text = String::from_utf8_lossy(&answer).into_owned();
    assert!(text.is_empty() || text.starts_with("HTTP/1.1 408"), "{text}");
    wait_until(SOON, "its reason", || gateway.failures("head_timeout") == 1.0);
}

#[test]
fn slow_clients_take_no_place_from_others() {
    let (gateway, _backends) = over_one("head_timeout_seconds = 2", "");
    let slow: Vec<TcpStream> = (0..500)
        .map(|_| {
            let mut stream = TcpStream::connect(gateway.address).unwrap();
            stream.write_all(b"GET / HTTP/1.1\r\nHost: t\r\nX-").unwrap();
            stream
        })
        .collect();
    let answer = gateway.curl("/", &[]);
    assert_eq!(answer.status, 200);
    // All of them are ended, and none is kept for longer than its time and some.
    for mut stream in slow {
        stream.set_read_timeout(Some(SOON)).unwrap();
        let mut rest = Vec::new();
        let ended = stream.read_to_end(&mut rest);
        assert!(!matches!(&ended, Err(error) if error.kind() == std::io::ErrorKind::WouldBlock), "{ended:?}");
    }
}

#[test]
fn a_body_that_stops_is_not_waited_for() {
    let (gateway, backends) = over_one("", "idle_timeout_seconds = 1");
    let mut stream = TcpStream::connect(gateway.address).unwrap();
    stream.set_read_timeout(Some(SOON)).unwrap();
    stream.write_all(b"POST / HTTP/1.1\r\nHost: t\r\nContent-Length: 100\r\n\r\nsome").unwrap();
    let mut answer = String::new();
    let _ = stream.read_to_string(&mut answer);
    assert!(answer.starts_with("HTTP/1.1 408"), "{answer:?}");
    wait_until(SOON, "the back end is let go", || backends[0].statistics()["in_flight"] == 0);
    assert_eq!(gateway.failures("body_timeout"), 1.0);
}

#[test]
fn a_client_that_goes_away_frees_its_back_end_and_is_told_as_such() {
    let (gateway, backends) = over_one("", "");
    let answer = gateway.curl("/hang", &["--max-time", "0.3"]);
    assert_eq!(answer.exit, 28, "{answer:?}");
    wait_until(SOON, "the back end is let go", || backends[0].statistics()["in_flight"] == 0);
    wait_until(SOON, "its reason", || gateway.failures("client_gone") == 1.0);
    let answer = gateway.curl("/hang", &["--http2-prior-knowledge", "--max-time", "0.3"]);
    assert_eq!(answer.exit, 28, "{answer:?}");
    wait_until(SOON, "the back end is let go", || backends[0].statistics()["in_flight"] == 0);
    wait_until(SOON, "its reason", || gateway.failures("client_gone") == 2.0);
}

#[test]
fn an_idle_connection_is_closed_in_its_time_and_one_that_is_used_is_not() {
    let (gateway, _backends) = over_one("idle_timeout_seconds = 1", "");
    let mut idle = TcpStream::connect(gateway.address).unwrap();
    idle.set_read_timeout(Some(SOON)).unwrap();
    let mut nothing = [0; 16];
    let started = Instant::now();
    assert_eq!(idle.read(&mut nothing).unwrap(), 0);
    assert!(started.elapsed() >= Duration::from_millis(900), "{:?}", started.elapsed());
    let answer = gateway.curl("/delay/2500", &[]);
    assert_eq!(answer.status, 200, "a request under way is no idleness");
}

#[test]
fn connections_beyond_the_limit_are_refused_and_those_below_go_on() {
    let (gateway, _backends) = over_one("max_connections = 20", "");
    let held: Vec<TcpStream> = (0..20).map(|_| TcpStream::connect(gateway.address).unwrap()).collect();
    wait_until(SOON, "twenty connections", || gateway.tidegate.metric("tidegate_gateway_connections") >= 20.0);
    let refused = gateway.curl("/", &[]);
    assert!(refused.exit != 0, "{refused:?}");
    assert!(gateway.tidegate.metric("tidegate_gateway_connections_refused_total") >= 1.0);
    drop(held);
    wait_until(SOON, "room again", || gateway.curl("/", &[]).status == 200);
}

#[test]
fn a_client_above_its_rate_waits_and_another_does_not() {
    let (gateway, backends) =
        over_one("", "rate_limit = { requests_per_second = 5, burst = 5, per = \"header:X-User\" }");
    let url = gateway.url("/");
    let load = |user: &str| {
        let header = format!("X-User: {user}");
        Load::start(&["count", "-url", &url, "-n", "40", "-connections", "4", "-header", &header]).result(SOON)
    };
    let greedy = load("greedy");
    let (taken, refused) = (greedy["statuses"]["200"].as_u64().unwrap(), greedy["statuses"]["429"].as_u64().unwrap());
    let seconds = greedy["seconds"].as_f64().unwrap();
    assert_eq!(taken + refused, 40, "{greedy}");
    assert!((5..=6 + (seconds * 5.0) as u64).contains(&taken), "{greedy}");
    let modest = gateway.curl("/", &["-H", "X-User: modest"]);
    assert_eq!(modest.status, 200);
    let again = gateway.curl("/", &["-H", "X-User: greedy"]);
    if again.status == 429 {
        again.assert_refused(429, "rate_limited");
        assert!(again.field("retry-after").is_some_and(|seconds| seconds.parse::<u64>().is_ok()), "{again:?}");
    }
    assert!(backends[0].requests() <= taken + 2);
    assert!(gateway.failures("rate_limited") >= refused as f64);
}

#[test]
fn a_pool_that_answers_late_gets_fewer_requests_at_once_and_the_rest_is_refused_at_once() {
    let backends = Backend::several(1);
    let gateway = Setup::over(&backends)
        .route("pool = \"web\"\nretries = 0")
        .section("[[gateway.pool]]\nid = \"web\"\noutlier = false\nadaptive_requests = { min = 4, max = 20, latency_ms = 20 }")
        .start();
    let limit = || gateway.debug_pool("web")["adaptive_limit"].as_u64();
    assert_eq!(limit(), Some(20));
    // Each is late, and a round of its own.
    for _ in 0..20 {
        assert_eq!(gateway.curl("/delay/40", &[]).status, 200);
    }
    assert_eq!(limit(), Some(4));
    let url = gateway.url("/delay/1500");
    let result = count(&["-url", &url, "-n", "20", "-connections", "20"]);
    let of = |status: &str| result["statuses"][status].as_u64().unwrap_or(0);
    assert_eq!((of("200"), of("503")), (4, 16), "{result}");
    assert_eq!(gateway.failures("overloaded"), 16.0);
    // Answers in time, with the limit in use, let it grow again.
    let url = gateway.url("/");
    wait_until(SOON, "a higher limit", || {
        count(&["-url", &url, "-n", "400", "-connections", "16"]);
        limit() > Some(8)
    });
}
