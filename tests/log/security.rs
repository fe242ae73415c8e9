//! Who may do what: users of Tidegate, and Tidegate as a user of Kafka.

use crate::bed::kafka::USERS;
use crate::bed::{Kafka, KafkaOptions, Reply, Tidegate, WorkDir, free_port, unique, wait_until};
use crate::support::{SOON, Setup, connect, consume_exactly, consumed, values};
use std::sync::OnceLock;

fn ok() -> Reply {
    Reply::Simple("OK".into())
}

#[test]
fn users_reach_their_keys_with_their_commands_and_nothing_else() {
    let directory = WorkDir::new("users");
    let prefix = unique("acl");
    let key = format!("{prefix}-app");
    let tidegate = Setup::shared()
        .user(
            directory.path(),
            "app",
            "app secret",
            &format!("keys = [\"{prefix}-*\"]\ncommands = [\"+lpush\", \"+ping\"]"),
        )
        .user(directory.path(), "ops", "ops secret", "")
        .route("key = \"*\"\ncreate_topic = { partitions = 1, replication = 1 }")
        .start();
    let mut client = connect(&tidegate);
    assert!(client.command(["LPUSH", &key, "x"]).error().starts_with("NOAUTH"));
    assert!(client.command(["PING"]).error().starts_with("NOAUTH"));
    for (user, password) in [("app", "wrong"), ("app", "ops secret"), ("nobody", "app secret")] {
        assert!(client.command(["AUTH", user, password]).error().starts_with("WRONGPASS"), "{user} {password}");
    }
    assert!(client.command(["LPUSH", &key, "x"]).error().starts_with("NOAUTH"));
    assert_eq!(client.command(["AUTH", "app", "app secret"]), ok());
    assert_eq!(client.command(["LPUSH", &key, "allowed"]), Reply::Integer(1));
    assert_eq!(client.command(["PING"]).bytes(), b"PONG");
    for refused in [vec!["LPUSH", "other", "x"], vec!["RPUSH", &key, "x"], vec!["CLIENT", "LIST"], vec!["INFO"]] {
        assert!(client.command(&refused).error().starts_with("NOPERM"), "{refused:?}");
    }
    // As another user on the same connection; a refused AUTH leaves the one that was.
    assert!(client.command(["AUTH", "ops", "wrong"]).error().starts_with("WRONGPASS"));
    assert!(client.command(["RPUSH", &key, "x"]).error().starts_with("NOPERM"));
    assert_eq!(client.command(["AUTH", "ops", "ops secret"]), ok());
    assert_eq!(client.command(["RPUSH", &key, "as ops"]), Reply::Integer(1));
    assert_eq!(values(&consumed(&format!("logs.{key}"), 2)), [b"allowed".as_slice(), b"as ops"]);
}

#[test]
fn a_transaction_of_somebody_without_the_right_puts_nothing_into_kafka() {
    let directory = WorkDir::new("users");
    let prefix = unique("acl-multi");
    let key = format!("{prefix}-app");
    let tidegate = Setup::shared()
        .user(directory.path(), "app", "secret", &format!("keys = [\"{prefix}-*\"]"))
        .route("key = \"*\"\ncreate_topic = { partitions = 1, replication = 1 }")
        .start();
    let mut client = connect(&tidegate);
    assert_eq!(client.command(["AUTH", "app", "secret"]), ok());
    assert_eq!(client.command(["MULTI"]), ok());
    assert_eq!(client.command(["LPUSH", &key, "x"]), Reply::Simple("QUEUED".into()));
    assert!(client.command(["LPUSH", "other", "x"]).error().starts_with("NOPERM"));
    assert!(client.command(["EXEC"]).error().starts_with("EXECABORT"));
    assert_eq!(client.command(["LPUSH", &key, "only this"]), Reply::Integer(1));
    assert_eq!(values(&consumed(&format!("logs.{key}"), 1)), [b"only this"]);
}

#[test]
fn hello_logs_in_and_switches_the_protocol() {
    let directory = WorkDir::new("users");
    let key = unique("hello");
    let tidegate = Setup::shared().user(directory.path(), "app", "secret", "").topic(&key, 1, "").start();
    let mut client = connect(&tidegate);
    assert!(client.command(["HELLO", "3"]).error().starts_with("NOAUTH"));
    assert!(client.command(["HELLO", "3", "AUTH", "app", "wrong"]).error().starts_with("WRONGPASS"));
    let hello = client.hello3_with(&["AUTH", "app", "secret", "SETNAME", "me"]);
    let Reply::Map(hello) = hello else { panic!("no map: {hello:?}") };
    assert!(hello.contains(&(Reply::Bulk(b"proto".into()), Reply::Integer(3))), "{hello:?}");
    assert_eq!(client.command(["LPUSH", &key, "x"]), Reply::Integer(1));
    assert_eq!(client.command(["CLIENT", "GETNAME"]).bytes(), b"me");
    assert_eq!(client.command(["GET", "none"]), Reply::Null);
}

#[test]
fn a_listener_beyond_loopback_needs_users_or_the_word() {
    let directory = WorkDir::new("config");
    let text = |more: &str| {
        let port = free_port();
        format!(
            "[log]\nlisten = [\"0.0.0.0:{port}\"]\n{more}\n[log.kafka]\nbrokers = [\"127.0.0.1:1\"]\n[[log.route]]\nkey = \"*\"\n"
        )
    };
    let open = directory.write("open.toml", text(""));
    let output = Tidegate::run_to_end(&["run", "--config", &open.display().to_string()]);
    assert_eq!(output.status.code(), Some(2), "{output:?}");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(said.contains(":2: log.listen: ") && said.contains("not on loopback"), "{said}");
    assert!(said.contains("log.user") && said.contains("anonymous = true"), "the remedy: {said}");

    let explicit = directory.write("explicit.toml", text("anonymous = true"));
    let output = Tidegate::run_to_end(&["check-config", &explicit.display().to_string()]);
    assert_eq!(output.status.code(), Some(0), "{output:?}");
}

fn secured() -> &'static Kafka {
    static KAFKA: OnceLock<Kafka> = OnceLock::new();
    KAFKA.get_or_init(|| KafkaOptions::new().sasl().tls().start())
}

/// A Tidegate that reaches the secured broker by this protocol.
fn secure_setup(bootstrap: &str, protocol: &str, login: Option<(&str, &str)>, directory: &WorkDir) -> Setup {
    let mut properties = vec![format!("\"security.protocol\" = \"{protocol}\"")];
    if protocol.ends_with("SSL") {
        properties.push(format!("\"ssl.ca.location\" = {:?}", secured().ca_path()));
    }
    let mut setup = Setup::new(bootstrap);
    if let Some((mechanism, password)) = login {
        properties.push(format!("\"sasl.mechanism\" = \"{mechanism}\""));
        properties.push(format!("\"sasl.username\" = {:?}", USERS[0].0));
        let file = directory.write("kafka.password", password);
        setup = setup.kafka(&format!("properties_files = {{ \"sasl.password\" = {file:?} }}"));
    }
    setup.kafka(&format!("properties = {{ {} }}", properties.join(", ")))
}

#[test]
fn records_go_through_tls_and_every_way_to_log_in() {
    let kafka = secured();
    let password = USERS[0].1;
    let ways = [
        (kafka.ssl_bootstrap(), "SSL", None),
        (kafka.sasl_bootstrap(), "SASL_PLAINTEXT", Some("PLAIN")),
        (kafka.sasl_bootstrap(), "SASL_PLAINTEXT", Some("SCRAM-SHA-256")),
        (kafka.sasl_ssl_bootstrap(), "SASL_SSL", Some("PLAIN")),
        (kafka.sasl_ssl_bootstrap(), "SASL_SSL", Some("SCRAM-SHA-256")),
        (kafka.sasl_ssl_bootstrap(), "SASL_SSL", Some("SCRAM-SHA-512")),
    ];
    for (bootstrap, protocol, mechanism) in ways {
        let directory = WorkDir::new("secrets");
        let key = unique("secure");
        let login = mechanism.map(|mechanism| (mechanism, password));
        let tidegate = secure_setup(&bootstrap, protocol, login, &directory).topic(&key, 1, "").start();
        let reply = connect(&tidegate).command(["LPUSH", &key, "through"]);
        assert_eq!(reply, Reply::Integer(1), "{protocol} {mechanism:?}");
        assert_eq!(values(&consume_exactly(&kafka.bootstrap(), &key, 1)), [b"through"]);
        assert!(!tidegate.log().contains(password), "a secret in the log");
        assert!(!tidegate.get("/debug/log").text().contains(password));
    }
}

/// The last error of the connection to Kafka in `/debug/log`.
fn last_error(tidegate: &Tidegate) -> String {
    let debug: serde_json::Value = serde_json::from_slice(&tidegate.get("/debug/log").body).unwrap();
    debug["kafka"]["last_error"].as_str().unwrap_or_default().to_owned()
}

#[test]
fn a_wrong_password_is_named_in_the_log_and_on_the_debug_page() {
    let kafka = secured();
    for (bootstrap, protocol, mechanism) in
        [(kafka.sasl_bootstrap(), "SASL_PLAINTEXT", "PLAIN"), (kafka.sasl_ssl_bootstrap(), "SASL_SSL", "SCRAM-SHA-512")]
    {
        let directory = WorkDir::new("secrets");
        let setup = secure_setup(&bootstrap, protocol, Some((mechanism, "wrong-secret")), &directory);
        let tidegate = setup.route("key = \"*\"\nhold_ms = 500").start_unready();
        wait_until(SOON, "the reason on the debug page", || {
            last_error(&tidegate).to_lowercase().contains("authentication")
        });
        wait_until(SOON, "the reason in the log", || tidegate.log().to_lowercase().contains("authentication"));
        assert_eq!(tidegate.get("/readyz/log").status, 503);
        assert!(matches!(connect(&tidegate).command(["LPUSH", "a", "x"]), Reply::Error(_)));
        assert!(!tidegate.log().contains("wrong-secret"));
    }
}

#[test]
fn a_certificate_of_an_unknown_authority_is_refused_and_named() {
    let kafka = secured();
    let setup = Setup::new(&kafka.ssl_bootstrap()).kafka("properties = { \"security.protocol\" = \"SSL\" }");
    let tidegate = setup.route("key = \"*\"\nhold_ms = 500").start_unready();
    wait_until(SOON, "the reason", || last_error(&tidegate).to_lowercase().contains("certificate"));
    assert_eq!(tidegate.get("/readyz/log").status, 503);
}
