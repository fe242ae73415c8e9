//! TLS on listeners, and client certificates as identity.

use crate::bed::certificates::{Authority, Certified};
use crate::bed::process::Process;
use crate::bed::{Reply, RespClient, Tidegate, WorkDir, free_port, require, unique, wait_until};
use crate::support::tls::{TlsClient, content};
use crate::support::{SOON, Setup, consumed, values};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

/// What closes connections that break TLS counts as.
const CLOSED: &str = "reason=\"tls\"";

/// The lines of `[log]` for this certificate; `more` follows within the table.
fn lines(server: &Certified, more: &str) -> String {
    format!("tls = {{ certificate = {:?}, key = {:?}{more} }}", server.certificate, server.key)
}

/// As [`lines`], asking clients for a certificate of this authority.
fn asking(server: &Certified, clients: &Authority, auth: &str) -> String {
    lines(server, &format!(", client_ca = {:?}, client_auth = {auth:?}", clients.path()))
}

/// Runs a program to its end; gives its output and errors, and whether it succeeded.
fn run(program: &Path, args: &[String]) -> (bool, String) {
    let directory = WorkDir::new("client");
    let mut command = Command::new(program);
    command.args(args);
    let mut process = Process::start(&command, directory.path(), "client");
    let status = process.wait(SOON * 2);
    (status.success(), String::from_utf8_lossy(&process.stdout()).into_owned() + &process.stderr())
}

fn text(path: &Path) -> String {
    path.display().to_string()
}

/// redis-cli with these files and this command.
fn redis_cli(tidegate: &Tidegate, ca: &Path, certified: Option<&Certified>, command: &[&str]) -> (bool, String) {
    let port = tidegate.redis_addr().port().to_string();
    let mut args: Vec<String> =
        ["-e", "-h", "127.0.0.1", "-p", &port, "--tls", "--cacert", &text(ca)].map(Into::into).into();
    if let Some(Certified { certificate, key }) = certified {
        args.extend(["--cert".into(), text(certificate), "--key".into(), text(key)]);
    }
    args.extend(command.iter().map(|word| (*word).to_owned()));
    run(Path::new("redis-cli"), &args)
}

const PYTHON: &str = "
import sys, redis
port, ca, cert, key, count, name = sys.argv[1:7]
client = redis.Redis(host='127.0.0.1', port=int(port), ssl=True, ssl_ca_certs=ca, ssl_certfile=cert, ssl_keyfile=key)
pipe = client.pipeline(transaction=False)
for n in range(int(count)):
    pipe.rpush(name, ('%06d ' % n) + 'x' * 1000)
assert all(reply == 1 for reply in pipe.execute())
print('ok', client.acl_whoami())
";

#[test]
fn real_clients_log_over_tls_and_are_whom_their_certificate_names() {
    let authority = Authority::new();
    let (server, app) = (authority.issue("server"), authority.issue("app"));
    let key = unique("tls");
    let route = "key = \"*\"\ntopic = \"{user}.{key}\"\ncreate_topic = { partitions = 1, replication = 1 }";
    let tidegate = Setup::shared()
        .log(&asking(&server, &authority, "required"))
        .route("key = \"unused\"\n[[log.user]]\nname = \"app\"")
        .route(route)
        .start();
    assert_eq!(
        redis_cli(&tidegate, &authority.path(), Some(&app), &["LPUSH", &key, "by redis-cli"]),
        (true, "1\n".into())
    );
    assert_eq!(values(&consumed(&format!("app.{key}"), 1)), [b"by redis-cli"]);
    let newest = require().home("python").join("venv/bin/python");
    for python in [newest, PathBuf::from("/usr/bin/python3")] {
        let key = unique("python");
        // Five megabytes in one pipeline: reads and writes that the socket does not take at once.
        let port = tidegate.redis_addr().port().to_string();
        let (ca, certificate, secret) = (text(&authority.path()), text(&app.certificate), text(&app.key));
        let args = ["-c", PYTHON, &port, &ca, &certificate, &secret, "5000", &key].map(Into::into);
        let (ok, said) = run(&python, &args);
        assert!(ok && said.starts_with("ok app"), "{}: {said}", python.display());
        let records = consumed(&format!("app.{key}"), 5_000);
        assert!(records.iter().enumerate().all(|(n, record)| record.value.starts_with(format!("{n:06} x").as_bytes())));
    }
    assert_eq!(tidegate.metric_with("tidegate_log_connections_closed_total", CLOSED), 0.0);
    assert!(tidegate.metric("tidegate_log_certificate_expires_timestamp_seconds") > 4e9);
}

#[test]
fn whoever_is_not_of_the_authority_or_no_longer_is_turned_away() {
    let (ours, theirs) = (Authority::new(), Authority::new());
    let server = ours.issue("server");
    let tidegate = Setup::shared().log(&asking(&server, &ours, "required")).route("key = \"*\"").start();
    let ca = ours.path();
    let good = ours.issue("app");
    assert_eq!(redis_cli(&tidegate, &ca, Some(&good), &["PING"]), (true, "PONG\n".into()));
    let refused: [(&str, &Path, Option<Certified>); 4] = [
        ("of another authority", &ca, Some(theirs.issue("app"))),
        ("expired", &ca, Some(ours.issue_expired("app"))),
        ("none", &ca, None),
        ("who does not trust us", &theirs.path(), Some(good.clone())),
    ];
    for (who, ca, certified) in refused {
        let before = tidegate.metric_with("tidegate_log_connections_closed_total", CLOSED);
        let (ok, said) = redis_cli(&tidegate, ca, certified.as_ref(), &["PING"]);
        assert!(!ok && !said.contains("PONG"), "{who}: {said}");
        wait_until(SOON, who, || tidegate.metric_with("tidegate_log_connections_closed_total", CLOSED) > before);
    }
    // One who speaks no TLS at all.
    let mut plain = RespClient::connect(tidegate.redis_addr());
    plain.send(["PING"]);
    let said = plain.read_to_end();
    assert!(!said.windows(4).any(|bytes| bytes == b"PONG"), "{said:?}");
    assert_eq!(redis_cli(&tidegate, &ca, Some(&good), &["PING"]), (true, "PONG\n".into()), "and it serves on");
}

#[test]
fn an_expired_certificate_of_ours_is_the_clients_to_refuse() {
    let authority = Authority::new();
    let server = authority.issue_expired("server");
    let tidegate = Setup::shared().log(&lines(&server, "")).route("key = \"*\"").start();
    let (ok, said) = redis_cli(&tidegate, &authority.path(), None, &["PING"]);
    assert!(!ok && said.to_lowercase().contains("certificate"), "{said}");
    assert_eq!(tidegate.metric("tidegate_log_certificate_expires_timestamp_seconds"), 1_609_459_200.0);
}

#[test]
fn a_handshake_left_open_holds_up_nobody_and_ends() {
    let authority = Authority::new();
    let server = authority.issue("server");
    let key = unique("half");
    let setup = Setup::shared().log("threads = 1").log(&lines(&server, ""));
    let tidegate = setup.topic(&key, 1, "").start();
    // The beginning of a ClientHello, and nothing at all.
    let mut half: Vec<RespClient> = (0..50).map(|_| RespClient::connect(tidegate.redis_addr())).collect();
    half.iter_mut().step_by(2).for_each(|client| client.send_raw(&[0x16, 3, 1, 2, 0, 1, 0, 1, 0xfc, 3, 3]));
    let mut client = TlsClient::connect(tidegate.redis_addr(), &authority.path(), None);
    for n in 0..100 {
        assert_eq!(client.command(["LPUSH", &key, &n.to_string()]), ":1");
    }
    for client in &mut half {
        client.set_deadline(Duration::from_secs(40));
        // TLS's own word for the end, and the end.
        assert_eq!(client.read_to_end(), [0x15, 3, 3, 0, 2, 1, 0]);
    }
    assert_eq!(tidegate.metric_with("tidegate_log_connections_closed_total", CLOSED), 50.0);
    assert_eq!(client.command(["LPUSH", &key, "on"]), ":1");
    assert_eq!(client.command(["QUIT"]), "+OK");
    client.expect_end();
}

#[test]
fn a_client_that_reads_late_gets_every_byte_of_its_replies() {
    let authority = Authority::new();
    let server = authority.issue("server");
    let tidegate = Setup::shared().log("threads = 1").log(&lines(&server, "")).route("key = \"*\"").start();
    let mut client = TlsClient::connect(tidegate.redis_addr(), &authority.path(), None);
    assert_eq!(client.command(["PING"]), "+PONG");
    // More than the sockets between the two hold.
    let text = |n: usize| format!("{n:03}").repeat(20_000);
    (0..100).for_each(|n| client.send(["ECHO", &text(n)]));
    for n in 0..100 {
        assert_eq!(client.reply(), text(n), "reply {n}");
    }
}

#[test]
fn a_new_certificate_is_shown_to_those_who_come_and_nobody_is_cut_off() {
    let authority = Authority::new();
    let (old, new) = (authority.issue("old"), authority.issue("new"));
    let files = WorkDir::new("mounted");
    let mounted = Certified { certificate: files.path().join("tls.crt"), key: files.path().join("tls.key") };
    let mount = |from: &Certified| {
        std::fs::copy(&from.certificate, &mounted.certificate).unwrap();
        std::fs::copy(&from.key, &mounted.key).unwrap();
    };
    mount(&old);
    let key = unique("renewed");
    let tidegate = Setup::shared().log(&lines(&mounted, "")).topic(&key, 1, "").start();
    let come = || TlsClient::connect(tidegate.redis_addr(), &authority.path(), None);
    let mut there = come();
    assert_eq!(there.command(["LPUSH", &key, "before"]), ":1");
    assert_eq!(there.shown(), content(&old.certificate));
    // A key that does not belong to the certificate: the old pair goes on.
    std::fs::copy(&new.certificate, &mounted.certificate).unwrap();
    wait_until(SOON, "the refusal", || tidegate.metric("tidegate_config_stale") == 1.0);
    let mut meanwhile = come();
    assert_eq!(meanwhile.command(["LPUSH", &key, "meanwhile"]), ":1");
    assert_eq!(meanwhile.shown(), content(&old.certificate));
    mount(&new);
    wait_until(SOON, "the reload", || tidegate.metric("tidegate_config_stale") == 0.0);
    let mut comes = come();
    assert_eq!(comes.command(["LPUSH", &key, "after"]), ":1");
    assert_eq!(comes.shown(), content(&new.certificate));
    assert_eq!(there.command(["LPUSH", &key, "still there"]), ":1");
    assert_eq!(values(&consumed(&key, 4)).len(), 4);
    let debug: serde_json::Value = serde_json::from_slice(&tidegate.get("/debug/log").body).unwrap();
    assert_eq!(debug["configuration"]["needs_restart"], serde_json::json!([]));
}

#[test]
fn beside_tls_a_listener_may_stay_plain_and_a_unix_socket_does() {
    let authority = Authority::new();
    let server = authority.issue("server");
    let directory = WorkDir::new("sockets");
    let socket = directory.path().join("tidegate.sock");
    let (port, plain) = (free_port(), free_port());
    let listen = format!("\"127.0.0.1:{port}\", \"plain:127.0.0.1:{plain}\", \"unix:{}\"", socket.display());
    let key = unique("plain");
    let setup = Setup::shared().listen(&listen).log(&lines(&server, "")).topic(&key, 1, "");
    let tidegate = setup.start();
    let address = tidegate.redis_addr();
    assert_eq!(address.port(), port);
    assert_eq!(TlsClient::connect(address, &authority.path(), None).command(["LPUSH", &key, "tls"]), ":1");
    let plain = (address.ip(), plain).into();
    assert_eq!(RespClient::connect(plain).command(["LPUSH", &key, "plain"]), Reply::Integer(1));
    let args = ["-s", &text(&socket), "LPUSH", &key, "unix"].map(Into::into);
    assert_eq!(run(Path::new("redis-cli"), &args), (true, "1\n".into()));
    assert_eq!(values(&consumed(&key, 3)), [b"tls".as_slice(), b"plain", b"unix"]);
}

#[test]
fn a_certificate_is_an_identity_until_its_user_is_gone() {
    let authority = Authority::new();
    let server = authority.issue("server");
    let key = unique("certified");
    let users = WorkDir::new("users");
    let base = Setup::shared().log(&asking(&server, &authority, "optional")).topic(&key, 1, "").user(
        users.path(),
        "ops",
        "secret",
        "",
    );
    let with_app = base.clone().route(&format!("key = \"unused\"\n[[log.user]]\nname = \"app\"\nkeys = [{key:?}]"));
    let mut tidegate = with_app.start();
    let (app, stranger) = (authority.issue("app"), authority.issue("stranger"));
    let come = |certified: Option<&Certified>| TlsClient::connect(tidegate.redis_addr(), &authority.path(), certified);
    let mut client = come(Some(&app));
    assert_eq!(client.command(["ACL", "WHOAMI"]), "app");
    assert_eq!(client.command(["LPUSH", &key, "x"]), ":1");
    assert!(client.command(["LPUSH", "other", "x"]).starts_with("-NOPERM"));
    assert_eq!(client.command(["AUTH", "ops", "secret"]), "+OK");
    assert_eq!(client.command(["ACL", "WHOAMI"]), "ops");
    assert_eq!(client.command(["RESET"]), "+RESET");
    assert_eq!(client.command(["ACL", "WHOAMI"]), "app");
    for certified in [None, Some(&stranger)] {
        let mut client = come(certified);
        assert!(client.command(["PING"]).starts_with("-NOAUTH"));
        assert!(client.command(["AUTH", "app", "any"]).starts_with("-WRONGPASS"), "only by its certificate");
        assert_eq!(client.command(["AUTH", "ops", "secret"]), "+OK");
    }
    std::fs::write(tidegate.directory().join("tidegate.toml"), base.text()).unwrap();
    tidegate.signal("HUP");
    tidegate.wait_metric("tidegate_config_reloads_total", SOON, |count| count >= 1.0);
    assert!(client.command(["LPUSH", &key, "x"]).starts_with("-NOAUTH"));
}
