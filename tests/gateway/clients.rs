//! What others prove by programs of ours, by programs that anybody has: curl, h2load, wrk, HAProxy. `README.md` says which test
//! shows which feature to which client.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

use crate::backend::Backend;
use crate::bed::process::Process;
use crate::bed::{WorkDir, free_port, require_gateways, wait_until};
use crate::curl::{Answer, curl};
use crate::support::{Gateway, SOON, Setup};

/// A curl that is spoken to while it runs; it ends with this value, or by its own time.
struct Talk {
    child: Child,
    input: ChildStdin,
    output: Option<BufReader<ChildStdout>>,
}

impl Talk {
    fn begin(arguments: &[&str]) -> Self {
        let mut command = Command::new("curl");
        command.args(["-sSN", "--max-time", "20"]).args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().expect("curl starts");
        let (input, output) = (child.stdin.take().unwrap(), child.stdout.take().map(BufReader::new));
        Self { child, input, output }
    }

    fn say(&mut self, text: &str) {
        self.input.write_all(text.as_bytes()).and_then(|()| self.input.flush()).expect("curl reads");
    }

    /// What comes up to this text.
    fn hear(&mut self, wanted: &str) -> String {
        let output = self.output.as_mut().expect("nobody else hears it");
        let (mut heard, mut byte) = (Vec::new(), [0]);
        while !heard.ends_with(wanted.as_bytes()) {
            let said = || String::from_utf8_lossy(&heard).into_owned();
            assert_eq!(output.read(&mut byte).expect("curl writes"), 1, "it ended before {wanted:?}: {}", said());
            heard.push(byte[0]);
        }
        String::from_utf8_lossy(&heard).into_owned()
    }
}

impl Drop for Talk {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn one(keys: &str, route: &str) -> (Gateway, Vec<Backend>) {
    let backends = Backend::several(1);
    let gateway = Setup::over(&backends).keys(keys).route(&format!("pool = \"web\"\n{route}")).start();
    (gateway, backends)
}

/// curl on a thread of its own, to this path.
fn beside(gateway: &Gateway, path: &str) -> std::thread::JoinHandle<Answer> {
    let url = gateway.url(path);
    std::thread::spawn(move || curl(&[&url]))
}

#[test]
fn what_curl_uploads_and_downloads_streams_both_ways_at_once() {
    let (gateway, _backends) = one("", "");
    let mut talk = Talk::begin(&["-H", "Expect:", "-T", "-", &gateway.url("/duplex")]);
    talk.say("first\n");
    let mut output = talk.output.take().unwrap();
    let first = std::thread::spawn(move || {
        let mut line = String::new();
        output.read_line(&mut line).expect("curl writes");
        // The pipe goes back with the line: closed here, it would end a curl that is still spoken to.
        (line, output)
    });
    // This curl looks for an answer only when it has something to send.
    wait_until(SOON, "the first line back, while there are more to come", || {
        talk.say("more\n");
        first.is_finished()
    });
    assert_eq!(first.join().unwrap().0, "first\n");
    let mut stream = Talk::begin(&[&gateway.url("/stream?chunks=3&interval_ms=1000")]);
    let began = Instant::now();
    stream.hear("0\n");
    assert!(began.elapsed() < Duration::from_millis(1900), "the first line waited for the last: {:?}", began.elapsed());
    stream.hear("2\n");
}

#[test]
fn a_protocol_of_its_own_is_spoken_by_hand_over_curls_telnet() {
    let (gateway, _backends) = one("", "upgrades = [\"echo\"]");
    let mut talk = Talk::begin(&[&format!("telnet://{}", gateway.address)]);
    talk.say("GET /upgrade HTTP/1.1\r\nHost: t\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n");
    let head = talk.hear("\r\n\r\n");
    assert!(head.starts_with("HTTP/1.1 101"), "{head}");
    for word in ["first\n", "second\n"] {
        talk.say(word);
        talk.hear(word);
    }
}

#[test]
fn curl_that_stops_in_the_middle_is_not_waited_for() {
    let (gateway, backends) = one("head_timeout_seconds = 1", "idle_timeout_seconds = 1");
    let mut head = Talk::begin(&[&format!("telnet://{}", gateway.address)]);
    head.say("GET / HTTP/1.1\r\nHost: t\r\nX-Slow: a");
    wait_until(SOON, "the head's reason", || gateway.failures("head_timeout") == 1.0);
    let mut body = Talk::begin(&["-H", "Expect:", "-T", "-", &gateway.url("/")]);
    body.say("some");
    wait_until(SOON, "the body's reason", || gateway.failures("body_timeout") == 1.0);
    wait_until(SOON, "the back end is let go", || backends[0].statistics()["in_flight"] == 0);
    assert_eq!(gateway.curl("/", &[]).status, 200);
}

#[test]
fn curl_is_told_why_what_could_be_read_in_two_ways_is_refused() {
    let (gateway, backends) = one("", "");
    let long = format!("X-Long: {}", "x".repeat(40 << 10));
    for (path, arguments, status, reason) in [
        ("/a/../b", &["--path-as-is"][..], 400, "path"),
        ("/", &["-H", "Host: a b"], 400, "host"),
        ("/", &["-H", "Content-Length: 3", "-H", "Transfer-Encoding: chunked", "-d", "abc"], 400, "framing"),
        ("/", &["-H", &long], 431, "head_too_large"),
        ("/", &["-X", "TRACE"], 501, "not_supported"),
    ] {
        gateway.curl(path, arguments).assert_refused(status, reason);
    }
    assert_eq!(backends[0].requests(), 0);
}

#[test]
fn curl_and_haproxy_say_who_the_client_is_by_the_proxy_protocol() {
    require_gateways();
    let backends = Backend::several(1);
    let gateway = Setup::over(&backends).listener("proxy_protocol = true").route("pool = \"web\"").start();
    let first = gateway.curl("/", &["--haproxy-protocol", "--interface", "127.0.0.3"]);
    assert_eq!(first.echo().header("X-Forwarded-For"), ["127.0.0.3"]);
    let (directory, front) = (WorkDir::new("haproxy"), SocketAddr::from(([127, 0, 0, 1], free_port())));
    let config = format!(
        "defaults\n mode tcp\n timeout connect 5s\n timeout client 20s\n timeout server 20s\n\
         listen it\n bind {front}\n server it {} send-proxy-v2\n",
        gateway.address
    );
    let mut command = Command::new("haproxy");
    command.args(["-db", "-f"]).arg(directory.write("haproxy.cfg", config));
    let haproxy = Process::start(&command, directory.path(), "haproxy");
    wait_until(SOON, "HAProxy listens", || TcpStream::connect(front).is_ok());
    let second = curl(&["--interface", "127.0.0.4", &format!("http://{front}/")]);
    assert_eq!(second.echo().header("X-Forwarded-For"), ["127.0.0.4"], "{}", haproxy.stderr());
}

#[test]
fn wrk_gets_nothing_but_success_while_routes_are_reloaded() {
    let backends = Backend::several(2);
    let mut gateway =
        Setup::over(&backends[..1]).pool("other", &backends[1..]).route("name = \"it\"\npool = \"web\"").start();
    let mut wrk = Command::new("wrk");
    let wrk = wrk.args(["-t1", "-c16", "-d3s", &gateway.url("/")]).stdout(Stdio::piped()).spawn().unwrap();
    let mut now = "web";
    for next in ["other", "web", "other"] {
        let backend = &backends[usize::from(next == "other")];
        let before = backend.requests();
        let line = |pool: &str| format!("name = \"it\"\npool = \"{pool}\"");
        assert_eq!(gateway.reload_now(&line(now), &line(next)).0, 200);
        wait_until(SOON, "requests at the other pool", || backend.requests() > before);
        now = next;
    }
    let said = String::from_utf8_lossy(&wrk.wait_with_output().unwrap().stdout).into_owned();
    let failed = said.contains("Non-2xx") || said.contains("Socket errors");
    assert!(said.contains("Requests/sec") && !failed, "{said}");
}

#[test]
fn curl_gets_its_answer_from_a_gateway_that_is_told_to_end_and_from_an_endpoint_that_drains() {
    let backends = Backend::several(2);
    let mut gateway = Setup::over(&backends[..1]).route("pool = \"web\"").start();
    let slow = beside(&gateway, "/delay/1500");
    wait_until(SOON, "it is under way", || backends[0].statistics()["in_flight"] == 1);
    gateway.set_pool("web", &[&backends[1]]);
    assert_eq!(gateway.curl("/", &[]).instance(), "b1", "a new one");
    let slow = slow.join().unwrap();
    assert_eq!((slow.exit, slow.status, slow.instance()), (0, 200, "b0"));
    let slow = beside(&gateway, "/delay/1500");
    wait_until(SOON, "it is under way", || backends[1].statistics()["in_flight"] == 1);
    gateway.tidegate.sigterm();
    let slow = slow.join().unwrap();
    assert_eq!((slow.exit, slow.status, slow.instance()), (0, 200, "b1"));
    assert_eq!(gateway.tidegate.wait_exit(SOON).code(), Some(0));
    assert!(gateway.curl("/", &[]).exit != 0, "nobody listens");
}
