//! HTTP/2, gRPC, WebSocket and other upgrades, streams.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::process::{Command, Output};
use std::time::{Duration, Instant};

use crate::backend::{Backend, Load};
use crate::bed::require_gateway;
use crate::support::{Gateway, Setup};

/// HTTP and gRPC of one back end behind one listener.
fn both() -> (Gateway, Vec<Backend>) {
    let backends = Backend::several(1);
    let gateway = Setup::over(&backends)
        .grpc_pool("rpc", &backends)
        .route(
            "name = \"grpc\"\nmatch = [{ header = \"content-type\", regex = \"application/grpc.*\" }]\npool = \"rpc\"",
        )
        .route("pool = \"web\"\nupgrades = [\"websocket\", \"echo\"]")
        .start();
    (gateway, backends)
}

fn grpcurl(gateway: &Gateway, arguments: &[&str]) -> Output {
    let address = gateway.address.to_string();
    let mut command = Command::new(require_gateway().join("grpcurl"));
    let (flags, method) = arguments.split_at(arguments.len() - 1);
    command.args(["-plaintext", "-max-time", "20"]).args(flags).arg(address).args(method).output().unwrap()
}

#[test]
fn http2_by_prior_knowledge_is_spoken_and_translated() {
    let (gateway, _backends) = both();
    let answer = gateway.curl("/x?y=1", &["--http2-prior-knowledge", "-H", "X-A: 1", "-d", "hello"]);
    let echo = answer.echo();
    assert_eq!((&*answer.version, echo.text("protocol"), echo.text("target")), ("2", "HTTP/1.1", "/x?y=1"));
    assert_eq!((echo.text("host"), echo.number("body_bytes")), (&*gateway.address.to_string(), 5));
    let head = gateway.curl("/", &["--http2-prior-knowledge", "-I"]);
    assert_eq!((head.exit, head.status, head.body.len()), (0, 200, 0));
    let big = gateway.curl("/bytes/3000000", &["--http2-prior-knowledge"]);
    assert_eq!((big.status, big.body.len()), (200, 3_000_000));
}

#[test]
fn many_streams_of_one_connection_are_answered_side_by_side() {
    let (gateway, _backends) = both();
    let urls: Vec<String> = (0..50).map(|_| gateway.url("/delay/300")).collect();
    let mut arguments = vec!["--http2-prior-knowledge", "--parallel", "--parallel-max", "50"];
    for url in &urls {
        arguments.extend(["-o", "/dev/null", url]);
    }
    let started = Instant::now();
    let answer = crate::curl::curl(&arguments);
    assert_eq!(answer.exit, 0, "{answer:?}");
    assert!(started.elapsed() < Duration::from_secs(10), "one after the other: {:?}", started.elapsed());
}

#[test]
fn a_cookie_in_pieces_arrives_as_one() {
    let (gateway, _backends) = both();
    // HTTP/2 may split it (RFC 9113, section 8.2.3); HTTP/1.1 may not.
    let address = gateway.url("/");
    let output = Command::new("nghttp").args(["-H", "cookie: a=1", "-H", "cookie: b=2", &address]).output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(text.contains(r#""Cookie":["a=1; b=2"]"#), "{text} {}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn grpc_unary_streams_health_and_reflection_work() {
    let (gateway, _backends) = both();
    let unary = grpcurl(&gateway, &["-d", r#"{"response_size": 10}"#, "grpc.testing.TestService/UnaryCall"]);
    assert!(unary.status.success(), "{unary:?}");
    let streamed = r#"{"response_parameters": [{"size": 1}, {"size": 2}, {"size": 3}]}"#;
    let stream = grpcurl(&gateway, &["-d", streamed, "grpc.testing.TestService/StreamingOutputCall"]);
    assert_eq!(String::from_utf8_lossy(&stream.stdout).matches("\"payload\"").count(), 3, "{stream:?}");
    let health = grpcurl(&gateway, &["grpc.health.v1.Health/Check"]);
    assert!(String::from_utf8_lossy(&health.stdout).contains("SERVING"), "{health:?}");
    let list = grpcurl(&gateway, &["list"]);
    assert!(String::from_utf8_lossy(&list.stdout).contains("grpc.testing.TestService"), "{list:?}");
}

#[test]
fn a_grpc_status_in_trailers_and_one_without_a_body_arrive() {
    let (gateway, _backends) = both();
    let asked = r#"{"response_status": {"code": 7, "message": "not you"}}"#;
    let denied = grpcurl(&gateway, &["-d", asked, "grpc.testing.TestService/UnaryCall"]);
    let said = String::from_utf8_lossy(&denied.stderr).into_owned();
    assert!(said.contains("PermissionDenied") && said.contains("not you"), "{said}");
    let missing = grpcurl(&gateway, &["grpc.testing.TestService/UnimplementedCall"]);
    assert!(String::from_utf8_lossy(&missing.stderr).contains("Unimplemented"), "{missing:?}");
}

/// gRPC's own interoperability tests, those that need neither TLS nor a cloud.
const INTEROP: [&str; 13] = [
    "empty_unary",
    "large_unary",
    "client_streaming",
    "server_streaming",
    "ping_pong",
    "empty_stream",
    "timeout_on_sleeping_server",
    "cancel_after_begin",
    "cancel_after_first_response",
    "status_code_and_message",
    "special_status_message",
    "custom_metadata",
    "unimplemented_method",
];

#[test]
fn grpcs_own_interoperability_tests_pass_through_the_gateway() {
    let (gateway, _backends) = both();
    let mut failed = Vec::new();
    for case in INTEROP {
        let port = format!("--server_port={}", gateway.address.port());
        let mut command = Command::new("timeout");
        command.arg("30").arg(require_gateway().join("interop"));
        let output = command.args(["--server_host=127.0.0.1", &port, &format!("--test_case={case}")]).output().unwrap();
        if !output.status.success() {
            failed.push(format!("{case}: {}", String::from_utf8_lossy(&output.stderr)));
        }
    }
    assert!(failed.is_empty(), "{}", failed.join("\n"));
}

#[test]
fn a_websocket_carries_messages_in_both_directions() {
    let (gateway, _backends) = both();
    let url = gateway.url("");
    let load = ["mix", "-url", &url, "-connections", "20", "-seconds", "1", "-kinds", "ws"];
    let outcome = Load::start(&load).result(Duration::from_secs(30));
    assert!(outcome["ws"]["ok"].as_u64().unwrap() >= 20, "{outcome}");
    assert_eq!(outcome["ws"]["failed"], 0, "{outcome}");
}

/// Writes a head and reads the head of the answer; what follows is the caller's.
fn open(gateway: &Gateway, head: &str) -> (String, BufReader<TcpStream>) {
    let mut stream = TcpStream::connect(gateway.address).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    stream.write_all(head.as_bytes()).unwrap();
    let mut stream = BufReader::new(stream);
    let mut answer = String::new();
    while !answer.ends_with("\r\n\r\n") {
        assert!(stream.read_line(&mut answer).unwrap() > 0, "cut: {answer}");
    }
    (answer, stream)
}

#[test]
fn another_protocol_is_let_through_where_the_route_names_it_and_nowhere_else() {
    let (gateway, backends) = both();
    let asking = |protocol: &str| {
        format!("GET /upgrade HTTP/1.1\r\nHost: t\r\nConnection: Upgrade\r\nUpgrade: {protocol}\r\n\r\n")
    };
    // The first bytes come with the head, before the answer.
    let (answer, mut stream) = open(&gateway, &format!("{}early", asking("echo")));
    assert!(answer.starts_with("HTTP/1.1 101") && answer.to_ascii_lowercase().contains("upgrade: echo"), "{answer}");
    stream.get_mut().write_all(b" and late").unwrap();
    let mut back = [0; 14];
    stream.read_exact(&mut back).unwrap();
    assert_eq!(&back, b"early and late");
    // Half-closed: the rest still comes.
    stream.get_mut().write_all(b"last").unwrap();
    stream.get_mut().shutdown(std::net::Shutdown::Write).unwrap();
    let mut rest = Vec::new();
    stream.read_to_end(&mut rest).unwrap();
    assert_eq!(rest, b"last");
    let (answer, _) = open(&gateway, &asking("other"));
    assert!(!answer.starts_with("HTTP/1.1 101"), "{answer}");
    assert_eq!(backends[0].statistics()["in_flight"], 0);
}

#[test]
fn an_answer_streams_as_it_comes() {
    let (gateway, _backends) = both();
    let (_, mut stream) = open(&gateway, "GET /stream?chunks=3&interval_ms=500 HTTP/1.1\r\nHost: t\r\n\r\n");
    let started = Instant::now();
    let mut line = String::new();
    stream.read_line(&mut line).unwrap();
    stream.read_line(&mut line).unwrap();
    assert!(line.ends_with("0\n"), "{line:?}");
    assert!(
        started.elapsed() < Duration::from_millis(450),
        "the first line waited for others: {:?}",
        started.elapsed()
    );
}

#[test]
fn a_request_streams_while_its_answer_does() {
    let (gateway, _backends) = both();
    let (answer, mut stream) = open(&gateway, "POST /duplex HTTP/1.1\r\nHost: t\r\nTransfer-Encoding: chunked\r\n\r\n");
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    for word in ["one", "two", "three"] {
        write!(stream.get_mut(), "{:x}\r\n{word}\r\n", word.len()).unwrap();
        let mut line = String::new();
        while !line.contains(word) {
            assert!(stream.read_line(&mut line).unwrap() > 0, "cut after {line:?}");
            // A chunk's data has no line end of its own: it ends with the chunk's.
        }
    }
    stream.get_mut().write_all(b"0\r\n\r\n").unwrap();
    let mut rest = String::new();
    while !rest.ends_with("0\r\n\r\n") {
        assert!(stream.read_line(&mut rest).unwrap() > 0, "cut: {rest:?}");
    }
}

#[test]
fn an_interim_answer_is_no_final_one() {
    let (gateway, _backends) = both();
    assert_eq!(gateway.curl("/interim", &[]).echo().text("method"), "GET");
    assert_eq!(gateway.curl("/interim", &["--http2-prior-knowledge"]).echo().text("method"), "GET");
}

#[test]
fn h2load_and_wrk_get_nothing_but_success() {
    let (gateway, _backends) = both();
    let wrk = Command::new("wrk").args(["-t1", "-c32", "-d1s", &gateway.url("/bytes/100")]).output().unwrap();
    let said = String::from_utf8_lossy(&wrk.stdout).into_owned();
    assert!(
        wrk.status.success()
            && said.contains("Requests/sec")
            && !said.contains("Non-2xx")
            && !said.contains("Socket errors"),
        "{said}"
    );
    for flags in [&["--h1"][..], &[][..]] {
        let output = Command::new("h2load")
            .args(flags)
            .args(["-n2000", "-c20", "-m4", &gateway.url("/bytes/100")])
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(said.contains("2000 succeeded, 0 failed, 0 errored, 0 timeout"), "{flags:?} {said}");
        assert!(said.contains("status codes: 2000 2xx"), "{flags:?} {said}");
    }
}
