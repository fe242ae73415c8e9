//! What a message becomes on its way, as RFC 9110 and 9112 have it.

use crate::backend::Backend;
use crate::recorder::Recorder;
use crate::support::{Setup, endpoint};

fn over_one() -> (crate::support::Gateway, Vec<Backend>) {
    let backends = Backend::several(1);
    (Setup::over(&backends).route("pool = \"web\"").start(), backends)
}

#[test]
fn fields_of_one_connection_stop_at_the_gateway_in_both_directions() {
    let (gateway, _backends) = over_one();
    let echo = gateway
        .curl(
            "/",
            &[
                "-H",
                "Connection: X-Private, keep-alive",
                "-H",
                "X-Private: 1",
                "-H",
                "Keep-Alive: timeout=9",
                "-H",
                "Proxy-Connection: keep-alive",
                "-H",
                "TE: gzip",
                "-H",
                "X-Public: 2",
            ],
        )
        .echo();
    for gone in ["Connection", "X-Private", "Keep-Alive", "Proxy-Connection", "Te", "Upgrade"] {
        assert!(echo.header(gone).is_empty(), "{gone}: {:?}", echo.headers());
    }
    assert_eq!(echo.header("X-Public"), ["2"]);
    let back = gateway.curl("/hop", &[]);
    assert_eq!(
        (back.field("x-private"), back.field("keep-alive"), back.field("x-public")),
        (None, None, Some("for all"))
    );
}

#[test]
fn what_a_client_says_of_itself_counts_only_from_a_trusted_proxy() {
    let backends = Backend::several(1);
    let forged: &[&str] = &[
        "-H",
        "X-Forwarded-For: 192.0.2.9",
        "-H",
        "X-Forwarded-Proto: https",
        "-H",
        "Forwarded: for=192.0.2.9",
        "-H",
        "X-Forwarded-Host: evil.example",
        "-H",
        "X-Real-Ip: 192.0.2.9",
    ];
    let strange = Setup::over(&backends).route("pool = \"web\"").start();
    let echo = strange.curl("/", forged).echo();
    assert_eq!(echo.header("X-Forwarded-For"), ["127.0.0.1"]);
    assert_eq!(echo.header("X-Forwarded-Proto"), ["http"]);
    assert_eq!(echo.header("X-Forwarded-Host"), [strange.address.to_string()]);
    assert!(echo.header("Forwarded").iter().chain(&echo.header("X-Real-Ip")).all(|value| !value.contains("192.0.2.9")));
    let trusted = Setup::over(&backends).keys("trusted_proxies = [\"127.0.0.0/8\"]").route("pool = \"web\"").start();
    let echo = trusted.curl("/", forged).echo();
    assert_eq!(echo.header("X-Forwarded-For"), ["192.0.2.9, 127.0.0.1"]);
    assert_eq!(echo.header("X-Forwarded-Proto"), ["https"]);
}

#[test]
fn via_names_the_gateway_in_both_directions() {
    let (gateway, _backends) = over_one();
    let answer = gateway.curl("/", &["-H", "Via: 1.0 first"]);
    assert_eq!(answer.echo().header("Via"), ["1.0 first, 1.1 tidegate"]);
    assert_eq!(answer.field("via"), Some("1.1 tidegate"));
}

#[test]
fn the_host_that_was_asked_for_arrives() {
    let (gateway, _backends) = over_one();
    assert_eq!(gateway.curl_host("shop.example:81", "/", &[]).echo().text("host"), "shop.example:81");
    // By way of an absolute target, as clients of proxies write it.
    let answer = gateway.curl("/", &["--request-target", "http://other.example/x?y=1"]);
    let echo = answer.echo();
    assert_eq!((echo.text("host"), echo.text("target")), ("other.example", "/x?y=1"));
}

#[test]
fn head_204_and_304_have_no_body_and_the_connection_goes_on() {
    let (gateway, _backends) = over_one();
    let head = gateway.curl("/", &["-I"]);
    assert_eq!((head.exit, head.status, head.field("content-length"), head.body.len()), (0, 200, Some("1234"), 0));
    // Four requests on one connection: a stray body would become the next answer.
    let urls = ["/status/204", "/status/304", "/status/204", "/bytes/7"].map(|path| gateway.url(path));
    let answer = crate::curl::curl(&[
        &urls[0],
        &urls[1],
        &urls[2],
        &urls[3],
        "-o",
        "/dev/null",
        "-o",
        "/dev/null",
        "-o",
        "/dev/null",
    ]);
    assert_eq!(answer.exit, 0, "{answer:?}");
    let statuses: Vec<&str> =
        answer.head.lines().filter(|line| line.starts_with("HTTP/")).map(|line| &line[9..12]).collect();
    assert_eq!(statuses, ["204", "304", "204", "200"]);
}

#[test]
fn an_expectation_is_met_before_the_body_is_sent_and_a_refusal_comes_instead() {
    let (gateway, _backends) = over_one();
    let body = "x".repeat(200_000);
    let answer = gateway
        .curl("/", &["-H", "Expect: 100-continue", "--expect100-timeout", "20", "--data-binary", &body[..100_000]]);
    assert!(answer.head.starts_with("HTTP/1.1 100"), "{}", answer.head);
    assert!(answer.seconds < 10.0, "curl waited for the interim answer until its own timeout: {} s", answer.seconds);
    assert_eq!(answer.echo().number("body_bytes"), 100_000);
}

#[test]
fn trailers_travel_in_both_directions() {
    let recorder = Recorder::answering(|_| {
        let answer =
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: X-Sum\r\n\r\n3\r\nabc\r\n0\r\nX-Sum: 3\r\n\r\n";
        Some(answer.as_bytes().to_vec())
    });
    let gateway = Setup::new().endpoints("web", vec![endpoint(recorder.address, "")]).route("pool = \"web\"").start();
    let answer = gateway.curl("/", &["-H", "TE: trailers"]);
    assert_eq!((answer.exit, &*answer.text(), answer.field("x-sum")), (0, "abc", Some("3")), "{answer:?}");
    let request = "POST / HTTP/1.1\r\nHost: t\r\nConnection: close\r\nTransfer-Encoding: chunked\r\nTrailer: X-Mine\r\n\r\n2\r\nhi\r\n0\r\nX-Mine: 7\r\n\r\n";
    crate::smuggling::converse(gateway.address, request.as_bytes());
    let last = recorder.requests().pop().unwrap();
    assert_eq!((&*last.body, &last.trailers[..]), (&b"hi"[..], &[("x-mine".to_owned(), "7".to_owned())][..]));
}

#[test]
fn repeated_fields_stay_repeated_and_in_order() {
    let (gateway, _backends) = over_one();
    let echo = gateway.curl("/", &["-H", "X-A: 1", "-H", "X-A: 2", "-H", "Cookie: a=1", "-H", "Accept: x, y"]).echo();
    assert_eq!(echo.header("X-A"), ["1", "2"]);
    assert_eq!(echo.header("Accept"), ["x, y"]);
    assert_eq!(gateway.curl("/cookies", &[]).fields("set-cookie"), ["a=1; Path=/", "b=2; Path=/"]);
}

#[test]
fn bodies_of_every_size_and_both_framings_arrive_whole() {
    let (gateway, _backends) = over_one();
    let directory = tempfile::tempdir().unwrap();
    for size in [0, 1, 1023, 16 * 1024, 65_537, 3_000_000] {
        let file = directory.path().join("body");
        std::fs::write(&file, vec![b'b'; size]).unwrap();
        let data = format!("@{}", file.display());
        let echo = gateway.curl("/", &["--data-binary", &data]).echo();
        assert_eq!((echo.number("body_bytes"), echo.number("content_length")), (size as i64, size as i64));
        let echo = gateway.curl("/", &["--data-binary", &data, "-H", "Transfer-Encoding: chunked"]).echo();
        assert_eq!(echo.number("body_bytes"), size as i64, "chunked");
        assert_eq!(gateway.curl(&format!("/bytes/{size}"), &[]).body.len(), size);
    }
}

#[test]
fn an_answer_before_the_bodys_end_is_passed_on() {
    let (gateway, _backends) = over_one();
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("body");
    std::fs::write(&file, vec![b'b'; 20_000_000]).unwrap();
    let answer = gateway.curl("/refuse", &["-H", "Expect:", "--data-binary", &format!("@{}", file.display())]);
    assert_eq!(answer.status, 413, "{answer:?}");
}

#[test]
fn a_trace_goes_on_and_begins_where_it_is_asked_for() {
    let backends = Backend::several(1);
    let parent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    let header = format!("traceparent: {parent}");
    let gateway = Setup::over(&backends).keys("start_traces = true").route("pool = \"web\"").start();
    let echo = gateway.curl("/", &["-H", &header, "-H", "tracestate: vendor=1"]).echo();
    let arrived = echo.header("traceparent").remove(0);
    assert_eq!(arrived.split('-').nth(1), parent.split('-').nth(1), "the trace's id stays");
    assert_eq!(echo.header("tracestate"), ["vendor=1"]);
    let begun = gateway.curl("/", &[]).echo().header("traceparent").remove(0);
    let parts: Vec<usize> = begun.split('-').map(str::len).collect();
    assert_eq!(parts, [2, 32, 16, 2], "{begun}");
    let quiet = Setup::over(&backends).route("pool = \"web\"").start();
    assert!(quiet.curl("/", &[]).echo().header("traceparent").is_empty());
}
