//! Which topic a record goes to, and how topics come into being.

use crate::bed::{Kafka, Reply, WorkDir, admin, unique};
use crate::support::{SOON, Setup, connect, consumed, values};

fn one() -> Reply {
    Reply::Integer(1)
}

#[test]
fn a_topic_is_created_with_the_routes_counts() {
    let key = unique("made");
    let tidegate = Setup::shared().topic(&key, 5, "").start();
    assert_eq!(connect(&tidegate).command(["LPUSH", &key, "first"]), one());
    assert_eq!(admin::partitions(&Kafka::shared().bootstrap(), &key), 5);
    assert_eq!(values(&consumed(&key, 1)), [b"first"]);
}

#[test]
fn a_topic_that_is_there_keeps_its_own_counts() {
    let key = unique("there");
    Kafka::shared().create_topic(&key, 2, 1, &[]);
    let tidegate = Setup::shared().topic(&key, 5, "").start();
    assert_eq!(connect(&tidegate).command(["LPUSH", &key, "first"]), one());
    assert_eq!(admin::partitions(&Kafka::shared().bootstrap(), &key), 2);
}

#[test]
fn no_more_topics_are_created_than_the_configuration_allows() {
    let prefix = unique("bounded");
    let route = format!("key = \"{prefix}-*\"\nhold_ms = 1000\ncreate_topic = {{ partitions = 1, replication = 1 }}");
    let tidegate = Setup::shared().kafka("max_created_topics = 2").route(&route).start();
    let mut client = connect(&tidegate);
    for name in ["a", "b"] {
        assert_eq!(client.command(["LPUSH", &format!("{prefix}-{name}"), "x"]), one());
    }
    let refused = client.command(["LPUSH", &format!("{prefix}-c"), "x"]);
    assert!(refused.error().contains("topic does not exist"), "{refused:?}");
    assert_eq!(client.command(["LPUSH", &format!("{prefix}-a"), "y"]), one());
    let topics = admin::topics(&Kafka::shared().bootstrap());
    let ours: Vec<&String> = topics.iter().filter(|name| name.contains(&prefix)).collect();
    assert_eq!(ours.len(), 2, "{ours:?}");
}

#[test]
fn a_topic_is_named_by_key_wildcard_database_and_user() {
    let directory = WorkDir::new("users");
    let prefix = unique("named");
    let create = "create_topic = { partitions = 1, replication = 1 }";
    let tidegate = Setup::shared()
        .user(directory.path(), "shop", "secret", "")
        .route(&format!("key = \"app:*\"\ntopic = \"{prefix}.{{key}}\"\n{create}"))
        .route(&format!("key = \"web-*-log\"\ntopic = \"{prefix}.wild.{{1}}\"\n{create}"))
        .route(&format!("key = \"by-place\"\ntopic = \"{prefix}.{{user}}.db{{db}}\"\n{create}"))
        .start();
    let mut client = connect(&tidegate);
    assert_eq!(client.command(["AUTH", "shop", "secret"]), Reply::Simple("OK".into()));
    for (key, record) in [("app:cart/v1 é", "by key"), ("web-front-log", "by wildcard"), ("by-place", "database 0")] {
        assert_eq!(client.command(["LPUSH", key, record]), one(), "{key}");
    }
    assert_eq!(client.command(["SELECT", "7"]), Reply::Simple("OK".into()));
    assert_eq!(client.command(["LPUSH", "by-place", "database 7"]), one());
    for (topic, record) in [
        ("app.cart.v1___", "by key"),
        ("wild.front", "by wildcard"),
        ("shop.db0", "database 0"),
        ("shop.db7", "database 7"),
    ] {
        assert_eq!(values(&consumed(&format!("{prefix}.{topic}"), 1)), [record.as_bytes()], "{topic}");
    }
}

#[test]
fn a_record_names_its_topic_only_from_the_allow_list() {
    let prefix = unique("json");
    let route = format!(
        "key = \"all\"\ntopic = \"{prefix}.{{json:/app}}\"\nallow = [\"cart\", \"shop\"]\n\
         create_topic = {{ partitions = 1, replication = 1 }}"
    );
    let tidegate = Setup::shared().route(&route).start();
    let mut client = connect(&tidegate);
    let [cart, shop] = [r#"{"app":"cart","n":1}"#, r#"{"app":"shop","n":2}"#];
    assert_eq!(client.command(["LPUSH", "all", cart, shop, cart]), Reply::Integer(3));
    // One bad record in a variadic push, and none of it is taken.
    for bad in [r#"{"app":"other"}"#, r#"{"no":"app"}"#, "not json"] {
        assert!(client.command(["LPUSH", "all", cart, bad]).error().starts_with("ERR the record"), "{bad}");
    }
    assert_eq!(values(&consumed(&format!("{prefix}.cart"), 2)), [cart.as_bytes(), cart.as_bytes()]);
    assert_eq!(values(&consumed(&format!("{prefix}.shop"), 1)), [shop.as_bytes()]);
    assert!(!admin::topics(&Kafka::shared().bootstrap()).contains(&format!("{prefix}.other")));
}

#[test]
fn a_key_without_a_route_is_refused_and_the_connection_stays() {
    let key = unique("routed");
    let tidegate = Setup::shared().topic(&key, 1, "accept = [\"list\"]").start();
    let mut client = connect(&tidegate);
    let refused = client.command(["LPUSH", "elsewhere", "x"]);
    assert!(refused.error().starts_with("ERR no route for key 'elsewhere'"), "{refused:?}");
    let refused = client.command(["PUBLISH", &key, "x"]);
    assert!(refused.error().contains("does not accept this command"), "{refused:?}");
    assert_eq!(client.command(["LPUSH", &key, "x"]), one());
    tidegate.wait_metric("tidegate_log_records_refused_total", SOON, |count| count == 2.0);
    assert_eq!(tidegate.metric_with("tidegate_log_records_refused_total", "reason=\"no_route\""), 2.0);
}
