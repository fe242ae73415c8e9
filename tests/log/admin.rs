//! What operators see: probes, metrics and the debug page.

use crate::bed::{Kafka, Reply, unique};
use crate::support::{SOON, Setup, connect};
use serde_json::Value;

fn json(tidegate: &crate::bed::Tidegate, path: &str) -> Value {
    serde_json::from_slice(&tidegate.get(path).body).unwrap()
}

#[test]
fn probes_answer() {
    let tidegate = Setup::shared().topic(&unique("probed"), 1, "").start();
    assert_eq!(tidegate.get("/livez").status, 200);
    assert_eq!(tidegate.get("/readyz").status, 200);
    assert_eq!(tidegate.get("/readyz/log").status, 200);
    for absent in ["/readyz/gateway", "/readyz/nothing", "/nothing"] {
        assert_eq!(tidegate.get(absent).status, 404, "{absent}");
    }
}

#[test]
fn metrics_count_each_record_once() {
    let key = unique("counted");
    let tidegate = Setup::shared().topic(&key, 2, "max_record_size = 100").start();
    let mut client = connect(&tidegate);
    for _ in 0..10 {
        assert_eq!(client.command(["LPUSH", &key, "0123456789", "0123456789"]), Reply::Integer(2));
    }
    for _ in 0..3 {
        assert!(matches!(client.command(["LPUSH", "elsewhere", "x"]), Reply::Error(_)));
    }
    assert!(matches!(client.command(["LPUSH", &key, "x", &"x".repeat(101)]), Reply::Error(_)));
    tidegate.wait_metric("tidegate_log_in_flight_bytes", SOON, |bytes| bytes == 0.0);
    for (name, count) in [
        ("tidegate_log_records_received_total", 20.0),
        ("tidegate_log_records_acknowledged_total", 20.0),
        ("tidegate_log_records_delivered_total", 20.0),
        ("tidegate_log_records_refused_total", 5.0),
        ("tidegate_log_received_bytes_total", 200.0),
        ("tidegate_log_connections", 1.0),
        ("tidegate_log_connections_total", 1.0),
        ("tidegate_log_records_duplicated_total", 0.0),
    ] {
        // Counted at the end of the turn that wrote the reply.
        tidegate.wait_metric(name, SOON, |value| value >= count);
        assert_eq!(tidegate.metric(name), count, "{name}");
    }
    let refused = |reason| tidegate.metric_with("tidegate_log_records_refused_total", reason);
    assert_eq!((refused("reason=\"no_route\""), refused("reason=\"too_large\"")), (3.0, 2.0));
    let text = tidegate.get("/metrics").text();
    for name in tidegate.metrics().keys().filter(|name| name.starts_with("tidegate_log_")) {
        let name = name.split('{').next().unwrap().trim_end_matches("_bucket");
        let base = name.trim_end_matches("_sum").trim_end_matches("_count");
        assert!(text.contains(&format!("# TYPE {base} ")), "{name} has no type");
        assert!(text.contains(&format!("# HELP {base} ")), "{name} has no help");
    }
}

#[test]
fn the_debug_page_shows_routes_topics_and_kafka() {
    let key = unique("shown");
    let tidegate = Setup::shared().topic(&key, 2, "max_record_size = 100").start();
    let mut client = connect(&tidegate);
    assert_eq!(client.command(["LPUSH", &key, "a", "b", "c"]), Reply::Integer(3));
    assert!(matches!(client.command(["LPUSH", &key, &"x".repeat(101)]), Reply::Error(_)));
    let page = crate::bed::wait_for(SOON, "the numbers", || {
        let page = json(&tidegate, "/debug/log");
        (page["topics"][0]["delivered_total"] == 3 && page["topics"][0]["in_flight"] == 0).then_some(page)
    });
    assert_eq!(page["kafka"]["seen"], true);
    assert_eq!(page["connections"], 1);
    assert_eq!(page["memory_limit"], 256 << 20);
    let [route] = page["routes"].as_array().unwrap().as_slice() else { panic!("one route: {page}") };
    assert_eq!((route["key"].as_str(), route["topic"].as_str()), (Some(&*key), Some(&*key)));
    assert_eq!((&route["received_total"], &route["refused_total"]), (&3.into(), &1.into()));
    assert!(route["last_error"].as_str().unwrap().contains("101 bytes"), "{route}");
    let [topic] = page["topics"].as_array().unwrap().as_slice() else { panic!("one topic: {page}") };
    assert_eq!((topic["topic"].as_str(), &topic["partitions"]), (Some(&*key), &2.into()));
    assert_eq!(topic["failed_total"], 0);
    assert!(topic["records_per_second"].is_number() && route["records_per_second"].is_number());
}

#[test]
fn the_debug_page_names_the_topic_that_kafka_refuses() {
    let key = unique("refused");
    Kafka::shared().create_topic(&key, 1, 1, &[("max.message.bytes", "1000")]);
    let setup = Setup::shared().kafka("compression = \"none\"");
    let tidegate = setup.route(&format!("key = \"{key}\"\ntopic = \"{key}\"")).start();
    let refused = connect(&tidegate).command(["LPUSH", &key, &"x".repeat(5_000)]);
    assert!(refused.error().contains("max.message.bytes"), "{refused:?}");
    let page = json(&tidegate, "/debug/log");
    let topic = &page["topics"][0];
    assert_eq!(topic["failed_total"], 1, "{page}");
    assert!(topic["last_error"].as_str().is_some_and(|error| error.contains("size")), "{page}");
    tidegate.wait_metric("tidegate_log_records_refused_total", SOON, |count| count == 1.0);
    assert_eq!(tidegate.metric_with("tidegate_log_records_refused_total", "reason=\"too_large\""), 1.0);
}
