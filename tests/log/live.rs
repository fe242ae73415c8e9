//! Following records live: SUBSCRIBE, PSUBSCRIBE, MONITOR, the admin server's WebSocket, and `tidegate tail --live`.

use crate::bed::process::Process;
use crate::bed::{Reply, RespClient, Tidegate, WorkDir, unique, wait_until};
use crate::support::{SOON, Setup, connect};
use std::net::TcpStream;
use std::process::Command;
use std::time::Duration;
use tokio_tungstenite::tungstenite::{self, Message, WebSocket};

/// Long enough for several rounds of serving those who follow.
const A_WHILE: Duration = Duration::from_millis(300);

fn start() -> Tidegate {
    setup().start()
}

fn setup() -> Setup {
    let topic = unique("live");
    Setup::shared().route(&format!(
        "key = \"*\"\ntopic = \"{topic}\"\nacknowledge = \"enqueue\"\ncreate_topic = {{ partitions = 1, replication = 1 }}"
    ))
}

fn bulk(text: &str) -> Reply {
    Reply::Bulk(text.as_bytes().to_vec())
}

fn message(channel: &str, value: &str) -> Vec<Reply> {
    vec![bulk("message"), bulk(channel), bulk(value)]
}

#[test]
fn subscribers_see_what_is_pushed_to_the_keys_that_they_name() {
    let tidegate = start();
    let [mut exact, mut pattern, mut pusher] = [(); 3].map(|()| connect(&tidegate));
    assert_eq!(
        exact.command(["SUBSCRIBE", "app-a"]),
        Reply::Array(vec![bulk("subscribe"), bulk("app-a"), Reply::Integer(1)])
    );
    pattern.hello3();
    let confirmed = Reply::Push(vec![bulk("psubscribe"), bulk("app-*"), Reply::Integer(1)]);
    assert_eq!(pattern.command(["PSUBSCRIBE", "app-*"]), confirmed);
    pusher.command(["LPUSH", "app-a", "one", "two\r\n\0"]);
    pusher.command(["PUBLISH", "app-b", "three"]);
    pusher.command(["XADD", "app-a", "*", "msg", "four"]);
    pusher.command(["LPUSH", "other", "unseen"]);
    pusher.command(["MULTI"]);
    pusher.command(["RPUSH", "app-a", "five"]);
    pusher.command(["EXEC"]);
    for value in ["one", "two\r\n\0", "four", "five"] {
        assert_eq!(exact.read(), Reply::Array(message("app-a", value)));
    }
    for (channel, value) in
        [("app-a", "one"), ("app-a", "two\r\n\0"), ("app-b", "three"), ("app-a", "four"), ("app-a", "five")]
    {
        assert_eq!(pattern.read(), Reply::Push(vec![bulk("pmessage"), bulk("app-*"), bulk(channel), bulk(value)]));
    }
    assert_eq!(pattern.command(["PING"]), Reply::Simple("PONG".into()), "RESP3 tells replies from messages");
    assert_eq!(exact.command(["PING"]), Reply::Array(vec![bulk("pong"), bulk("")]));
    assert!(exact.command(["GET", "k"]).error().starts_with("ERR Can't execute 'get': only (P|S)SUBSCRIBE"));
    assert_eq!(pusher.command(["PUBSUB", "NUMSUB", "app-a"]), Reply::Array(vec![bulk("app-a"), Reply::Integer(1)]));
    assert_eq!(
        exact.command(["UNSUBSCRIBE"]),
        Reply::Array(vec![bulk("unsubscribe"), bulk("app-a"), Reply::Integer(0)])
    );
    pusher.command(["LPUSH", "app-a", "late"]);
    exact.expect_silence(A_WHILE);
    assert_eq!(exact.command(["GET", "k"]), Reply::Null);
    exact.expect_silence(A_WHILE);
}

#[test]
fn a_connection_that_follows_nothing_hears_nothing() {
    let tidegate = start();
    let [mut follower, mut ordinary, mut pusher] = [(); 3].map(|()| connect(&tidegate));
    ordinary.hello3();
    ordinary.command(["CLIENT", "TRACKING", "ON"]);
    follower.command(["PSUBSCRIBE", "*"]);
    for number in 0..100 {
        pusher.command(["LPUSH", "app-a", &number.to_string()]);
    }
    (0..100).for_each(|_| _ = follower.read());
    ordinary.expect_silence(A_WHILE);
    pusher.expect_silence(A_WHILE);
}

/// Reads messages until `wanted` of them were read or told of as skipped; gives both numbers.
fn read_until(client: &mut RespClient, wanted: u64) -> (u64, u64) {
    let (mut shown, mut skipped) = (0, 0);
    while shown + skipped < wanted {
        let reply = client.read();
        let parts = reply.array();
        if parts[1] == bulk("tidegate:skipped") {
            let notice = String::from_utf8(parts[2].bytes().to_vec()).unwrap();
            skipped += notice.trim_start_matches("{\"skipped\":").trim_end_matches('}').parse::<u64>().unwrap();
        } else {
            shown += 1;
        }
    }
    (shown, skipped)
}

#[test]
fn one_who_reads_nothing_holds_up_neither_those_who_push_nor_those_who_read() {
    const RECORDS: u64 = 10_000;
    let topic = unique("live-stalled");
    let tidegate = Setup::shared().topic(&topic, 1, "").start();
    let [mut stalled, mut reader, mut pusher] = [(); 3].map(|()| connect(&tidegate));
    for client in [&mut stalled, &mut reader] {
        client.command(["SUBSCRIBE", &topic]);
    }
    let before = tidegate.rss_bytes();
    // More than the kernel keeps for one who does not read.
    let value = "x".repeat(4_000);
    let batch = crate::bed::resp::encode(["LPUSH", &topic, &value]).repeat(500);
    let counted = std::thread::scope(|scope| {
        let reading = scope.spawn(|| read_until(&mut reader, RECORDS));
        for _ in 0..RECORDS / 500 {
            pusher.pipeline(&batch, 500);
        }
        reading.join().unwrap()
    });
    // Every record was shown or counted, exactly, and one who reads is shown a good part.
    assert_eq!(counted.0 + counted.1, RECORDS, "{counted:?}");
    assert!(counted.0 >= 20 && counted.1 > 0, "{counted:?}");
    let grown = tidegate.rss_bytes().saturating_sub(before);
    assert!(grown < 64 << 20, "{grown} bytes more");
    // It comes back, and learns what it missed.
    let (shown, skipped) = read_until(&mut stalled, RECORDS);
    assert_eq!(shown + skipped, RECORDS);
    assert_eq!(pusher.command(["PING"]), Reply::Simple("PONG".into()));
}

#[test]
fn users_follow_only_keys_that_they_may() {
    let directory = WorkDir::new("live-users");
    let tidegate = setup()
        .user(directory.path(), "bob", "pw-bob", "keys = [\"app-*\"]")
        .user(directory.path(), "admin", "pw-admin", "")
        .start();
    let login = |name: &str| {
        let mut client = connect(&tidegate);
        assert_eq!(client.command(["AUTH", name, &format!("pw-{name}")]), Reply::Simple("OK".into()));
        client
    };
    let [mut bob, mut admin, mut pusher] = ["bob", "admin", "admin"].map(login);
    let denied = "NOPERM this user has no permissions to access one of the channels used as arguments";
    assert_eq!(bob.command(["SUBSCRIBE", "app-a", "secret"]).error(), denied);
    assert_eq!(bob.command(["PSUBSCRIBE", "*"]).error(), denied);
    assert_eq!(bob.command(["MONITOR"]).error(), "NOPERM this user has no permissions to run the 'monitor' command");
    bob.command(["PSUBSCRIBE", "app-*"]);
    admin.command(["PSUBSCRIBE", "*"]);
    pusher.command(["LPUSH", "secret", "s"]);
    pusher.command(["LPUSH", "app-a", "a"]);
    let told = |pattern: &str, key: &str, value: &str| {
        Reply::Array(vec![bulk("pmessage"), bulk(pattern), bulk(key), bulk(value)])
    };
    assert_eq!(admin.read(), told("*", "secret", "s"));
    assert_eq!(bob.read(), told("app-*", "app-a", "a"));
}

#[test]
fn monitor_shows_commands_but_no_passwords() {
    let tidegate = start();
    let [mut monitor, mut client] = [(); 2].map(|()| connect(&tidegate));
    assert_eq!(monitor.command(["MONITOR"]), Reply::Simple("OK".into()));
    client.command(["LPUSH", "app-a", "a \"b\"\n"]);
    client.command(["AUTH", "sesame"]);
    client.command(["HELLO", "2", "AUTH", "default", "sesame"]);
    let mut line = || String::from_utf8(monitor.read().bytes().to_vec()).unwrap();
    assert!(line().ends_with(r#"] "LPUSH" "app-a" "a \"b\"\n""#));
    assert!(line().ends_with(r#"] "AUTH" "(redacted)""#));
    assert!(line().ends_with(r#"] "HELLO" "(redacted)""#));
}

fn web_socket(tidegate: &Tidegate, query: &str, origin: Option<&str>) -> Result<WebSocket<TcpStream>, u16> {
    use tungstenite::client::IntoClientRequest as _;
    let address = tidegate.admin_addr();
    let stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(SOON)).unwrap();
    let mut request = format!("ws://{address}/v1/tail{query}").into_client_request().unwrap();
    if let Some(origin) = origin {
        request.headers_mut().insert("Origin", origin.parse().unwrap());
    }
    match tungstenite::client(request, stream) {
        Ok((socket, _)) => Ok(socket),
        Err(tungstenite::HandshakeError::Failure(tungstenite::Error::Http(response))) => {
            Err(response.status().as_u16())
        }
        Err(error) => panic!("{error}"),
    }
}

#[test]
fn the_admin_server_shows_records_over_a_web_socket() {
    let mut tidegate = start();
    let mut socket = web_socket(&tidegate, "?key=app-a&pattern=web-*", None).unwrap();
    let mut pusher = connect(&tidegate);
    for (key, value) in [("app-a", &b"\"one\""[..]), ("other", b"unseen"), ("web-1", b"\xff")] {
        pusher.command([b"LPUSH", key.as_bytes(), value]);
    }
    let mut text = || match socket.read().unwrap() {
        Message::Text(text) => text.to_string(),
        other => panic!("{other:?}"),
    };
    assert_eq!(text(), r#"{"key":"app-a","value":"\"one\""}"#);
    assert_eq!(text(), r#"{"key":"web-1","value_base64":"/w=="}"#);
    assert_eq!(web_socket(&tidegate, "", None).unwrap_err(), 400);
    assert_eq!(web_socket(&tidegate, "?nosuch=1", None).unwrap_err(), 400);
    assert_eq!(web_socket(&tidegate, "?key=a", Some("http://evil.example")).unwrap_err(), 403);
    // A tail that is open does not hold up the end.
    tidegate.sigterm();
    assert!(tidegate.wait_exit(SOON).success());
}

#[test]
fn tidegate_tail_live_prints_records_and_finds_its_server_again() {
    let mut tidegate = start();
    let directory = WorkDir::new("tail-live");
    let mut command = Command::new(env!("CARGO_BIN_EXE_tidegate"));
    command.args(["tail", "--live", "app-*", "--server", &format!("http://{}", tidegate.admin_addr())]);
    command.args(["--count", "3", "--field", "/level=error"]);
    let mut tail = Process::start(&command, directory.path(), "tail");
    let followed = |tidegate: &Tidegate| {
        wait_until(SOON, "a tail that follows", || tidegate.metric("tidegate_log_tail_listeners") == 1.0);
    };
    followed(&tidegate);
    let push = |tidegate: &Tidegate, values: &[&str]| {
        let mut pusher = connect(tidegate);
        for value in values {
            pusher.command(["LPUSH", "app-a", value]);
        }
    };
    push(&tidegate, &[r#"{"level":"info"}"#, r#"{"level":"error","n":1}"#]);
    wait_until(SOON, "the first record", || String::from_utf8_lossy(&tail.stdout()).contains("\"n\":1"));
    tidegate.sigterm();
    assert!(tidegate.wait_exit(SOON).success());
    tidegate.restart();
    followed(&tidegate);
    push(&tidegate, &[r#"{"level":"error","n":2}"#, r#"{"level":"error","n":3}"#]);
    assert!(tail.wait(SOON).success());
    let lines = "{\"level\":\"error\",\"n\":1}\n{\"level\":\"error\",\"n\":2}\n{\"level\":\"error\",\"n\":3}\n";
    assert_eq!(String::from_utf8_lossy(&tail.stdout()), lines);
    assert!(tail.stderr().contains("closed the connection; trying again"), "{}", tail.stderr());
}
