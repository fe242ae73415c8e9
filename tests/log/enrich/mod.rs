//! What a route adds to its records, as it stands in Kafka.

mod api;
mod pods;

use crate::bed::{Consumed, Kafka, Reply, RespClient, WorkDir, unique};
use crate::support::{SOON, Setup, connect, consume_exactly, consumed};
use std::collections::{BTreeMap, BTreeSet};

/// The headers by name; a test's values hold no commas.
fn headers(record: &Consumed) -> BTreeMap<String, String> {
    let text = |value: &[u8]| String::from_utf8_lossy(value).into_owned();
    record.headers.iter().map(|(name, value)| (name.clone(), text(value))).collect()
}

fn json(record: &Consumed) -> serde_json::Value {
    serde_json::from_slice(&record.value).unwrap_or_else(|error| panic!("{error}: {record:?}"))
}

fn push(client: &mut RespClient, key: &str, value: &str) {
    assert_eq!(client.command(["LPUSH", key, value]), Reply::Integer(1), "{value}");
}

#[test]
fn headers_say_who_sent_a_record_and_the_record_stays_as_it_is() {
    let directory = WorkDir::new("users");
    let key = unique("headers");
    let enrich =
        "enrich = { id = true, received = true, key = true, client = true, user = true, node = true }\nhold_ms = 20000";
    let setup = Setup::shared().user(directory.path(), "shop", "secret", "").topic(&key, 1, enrich);
    let tidegate = setup.start();
    let mut client = connect(&tidegate);
    client.command(["AUTH", "shop", "secret"]);
    client.command(["CLIENT", "SETNAME", "checkout-1"]);
    push(&mut client, &key, "no json");
    client.command(["MULTI"]);
    client.command(["RPUSH", &key, "second", "third"]);
    client.command(["EXEC"]);
    client.command(["CLIENT", "SETNAME", "renamed"]);
    push(&mut client, &key, "fourth");
    let records = consumed(&key, 4);
    assert_eq!(records[0].value, b"no json");
    for record in &records {
        let headers = headers(record);
        for (name, value) in [("key", key.as_str()), ("user", "shop")] {
            assert_eq!(headers[&format!("tidegate-{name}")], value);
        }
        assert!(headers["tidegate-client"].starts_with("127.0.0.1:") && !headers["tidegate-node"].is_empty());
        assert!(headers["tidegate-received"].ends_with('Z') && headers["tidegate-id"].len() == 32);
    }
    let names: Vec<_> = records.iter().map(|record| headers(record)["tidegate-client-name"].clone()).collect();
    assert_eq!(names, ["checkout-1", "checkout-1", "checkout-1", "renamed"]);
    let ids: BTreeSet<_> = records.iter().map(|record| headers(record)["tidegate-id"].clone()).collect();
    assert_eq!(ids.len(), 4);
    tidegate.wait_metric("tidegate_log_in_flight_bytes", SOON, |bytes| bytes == 0.0);
}

#[test]
fn fields_are_merged_into_objects_and_what_is_none_stays_and_is_counted() {
    let key = unique("fields");
    let enrich = "enrich = { as = \"fields\", id = true, key = true }\npartition_by = \"json:/n\"\nhold_ms = 20000";
    let tidegate = Setup::shared().topic(&key, 1, enrich).start();
    let mut client = connect(&tidegate);
    let untouched = ["text", "[{}]", "{\"a\":", "{\"a\":1}garbage"];
    untouched.iter().for_each(|value| push(&mut client, &key, value));
    push(&mut client, &key, "{\"n\" : 1.50, \"tidegate_key\":[\"own\"]} ");
    let records = consumed(&key, 5);
    for (record, value) in records.iter().zip(untouched) {
        assert_eq!(record.value, value.as_bytes());
    }
    let text = String::from_utf8(records[4].value.clone()).unwrap();
    assert!(text.starts_with("{\"n\" : 1.50, \"tidegate_key\":[\"own\"],\"tidegate_id\":\""), "{text}");
    assert_eq!(json(&records[4])["tidegate_key"][0], "own");
    assert_eq!(records[4].key.as_deref(), Some(&b"1.5"[..]));
    tidegate.wait_metric("tidegate_log_records_not_enriched_total", SOON, |count| count == 4.0);
    tidegate.wait_metric("tidegate_log_in_flight_bytes", SOON, |bytes| bytes == 0.0);
}

#[test]
fn gelf_is_what_graylog_reads() {
    let key = unique("gelf");
    let enrich = "enrich = { as = \"gelf\", client = true, received = true }\nhold_ms = 20000";
    let tidegate = Setup::shared().topic(&key, 1, enrich).start();
    let mut client = connect(&tidegate);
    let gelf = "{\"version\":\"1.1\",\"host\":\"h\",\"short_message\":\"whole\",\"timestamp\":1.5,\"level\":3}";
    for value in [gelf, "{\"message\":\"of another shape\",\"level\":3}", "a text\nof two lines"] {
        push(&mut client, &key, value);
    }
    let records = consumed(&key, 3);
    let expected = [("h", "whole"), ("127.0.0.1", "of another shape"), ("127.0.0.1", "a text\nof two lines")];
    for (record, (host, message)) in records.iter().zip(expected) {
        let json = json(record);
        assert_eq!((&json["version"], &json["host"]), (&"1.1".into(), &host.into()));
        assert_eq!(json["short_message"], message);
        assert!(json["timestamp"].is_f64() && json["_tidegate_client"].is_string(), "{json}");
    }
    assert_eq!(json(&records[0])["timestamp"], 1.5);
}

#[test]
fn dead_letters_keep_what_was_added_as_headers() {
    let (key, dead) = (unique("both"), unique("dead"));
    let lines =
        format!("hold_ms = 20000\nenrich = {{ id = true }}\nvalidate = \"json\"\ndead_letter_topic = \"{dead}\"");
    let tidegate = Setup::shared().topic(&key, 1, &lines).start();
    let mut client = connect(&tidegate);
    push(&mut client, &key, "no json");
    push(&mut client, &key, "{}");
    let letter = consume_exactly(&Kafka::shared().bootstrap(), &dead, 1).remove(0);
    assert_eq!(headers(&letter)["tidegate-dead-reason"], "invalid_json");
    assert_eq!(headers(&letter)["tidegate-id"].len(), 32);
    let sent = headers(&consumed(&key, 1)[0]);
    assert_eq!(sent.keys().collect::<Vec<_>>(), ["tidegate-id"]);
    tidegate.wait_metric("tidegate_log_in_flight_bytes", SOON, |bytes| bytes == 0.0);
}
