use std::collections::BTreeMap;
use std::sync::Arc;

use proptest::prelude::*;
use serde_json::{Map, Value};

use super::*;
use crate::record::pods::{Attribution, Pod};

const MOMENT: Moment<'_> = Moment { id: "00ff", received: "2026-01-31T12:00:00.123Z", received_ms: 1_769_860_800_123 };

fn config(form: EnrichAs) -> EnrichConfig {
    EnrichConfig { form, id: true, received: true, key: true, client: true, user: true, node: true, pod: true }
}

fn pod() -> Attribution {
    let labels = [("app", "demo"), ("app.kubernetes.io/name", "sh\"op")];
    let labels: BTreeMap<_, _> = labels.iter().map(|(key, value)| ((*key).into(), (*value).into())).collect();
    let owner = Some("Deployment/demo".into());
    Attribution::Pod(Arc::new(Pod { namespace: "shop".into(), name: "demo-1".into(), owner, labels, ..Pod::default() }))
}

fn enrichment(form: EnrichAs, pod: &Attribution) -> Enrichment {
    let client = "10.0.0.7:4711";
    let facts = Facts { key: b"app-web", client, client_name: "", user: "shop", node: "n1", pod };
    Enrichment::new(&config(form), &facts)
}

fn applied(form: EnrichAs, value: &str) -> (String, bool) {
    let mut scratch = Scratch::default();
    let (record, done) = enrichment(form, &pod()).apply(value.as_bytes(), Headers::NONE, &MOMENT, &mut scratch);
    (String::from_utf8(record.value.to_vec()).unwrap(), done)
}

fn parsed(text: &str) -> Map<String, Value> {
    serde_json::from_str(text).unwrap()
}

#[test]
fn headers_say_who_sent_it_and_what_was_carried_stays() {
    let mut carried = HeadersBuf::default();
    carried.push("own", b"1");
    let mut scratch = Scratch::default();
    let enrichment = enrichment(EnrichAs::Headers, &pod());
    let (record, done) = enrichment.apply(b"no json", carried.as_headers(), &MOMENT, &mut scratch);
    let headers: Vec<_> = record
        .headers
        .iter()
        .map(|(name, value)| (String::from_utf8_lossy(name).into_owned(), String::from_utf8_lossy(value).into_owned()))
        .collect();
    let expected = [
        ("own", "1"),
        ("tidegate-key", "app-web"),
        ("tidegate-client", "10.0.0.7:4711"),
        ("tidegate-user", "shop"),
        ("tidegate-node", "n1"),
        ("tidegate-pod-namespace", "shop"),
        ("tidegate-pod-name", "demo-1"),
        ("tidegate-pod-owner", "Deployment/demo"),
        ("tidegate-pod-label-app", "demo"),
        ("tidegate-pod-label-app_kubernetes_io_name", "sh\"op"),
        ("tidegate-id", "00ff"),
        ("tidegate-received", "2026-01-31T12:00:00.123Z"),
    ];
    assert_eq!(headers, expected.map(|(name, value)| (name.to_owned(), value.to_owned())));
    assert!(done && record.value == b"no json");
}

#[test]
fn an_unknown_pod_is_marked_and_no_pod_is_not() {
    for (pod, marked) in [(Attribution::Unknown, true), (Attribution::None, false)] {
        let mut scratch = Scratch::default();
        let enrichment = enrichment(EnrichAs::Fields, &pod);
        let (record, _) = enrichment.apply(b"{}", Headers::NONE, &MOMENT, &mut scratch);
        let fields: Map<String, Value> = serde_json::from_slice(record.value).unwrap();
        assert_eq!(fields.contains_key("tidegate_pod_unknown"), marked);
        assert!(!fields.keys().any(|name| name.starts_with("tidegate_pod_n")));
    }
}

#[test]
fn fields_stand_before_the_closing_brace_and_the_rest_is_untouched() {
    let (text, done) = applied(EnrichAs::Fields, " {\"b\" : 1.0e3, \"a\":{\"x\":[]}, \"\\u0061\":2 } \n");
    assert!(done && text.starts_with(" {\"b\" : 1.0e3, \"a\":{\"x\":[]}, \"\\u0061\":2 ,\""), "{text}");
    let fields = parsed(&text);
    assert_eq!(fields["tidegate_pod_label_app"], "demo");
    assert_eq!(fields["tidegate_pod_label_app_kubernetes_io_name"], "sh\"op");
    assert_eq!((&fields["tidegate_id"], fields.len()), (&"00ff".into(), 2 + 11));
    let (text, _) = applied(EnrichAs::Fields, "{ }");
    assert_eq!(parsed(&text).len(), 11);
}

#[test]
fn the_senders_own_fields_are_never_overwritten() {
    let own = "{\"tidegate_node\":7,\"tidegate_pod_label_\\u0061pp\":null,\"tidegate_id\":{\"mine\":1}}";
    let (text, _) = applied(EnrichAs::Fields, own);
    let fields = parsed(&text);
    assert_eq!((&fields["tidegate_node"], &fields["tidegate_pod_label_app"]), (&7.into(), &Value::Null));
    assert_eq!(fields["tidegate_id"]["mine"], 1);
    assert_eq!(text.matches("tidegate_node").count() + text.matches("tidegate_id").count(), 2, "{text}");
}

#[test]
fn what_is_no_object_stays_as_it_is() {
    for value in ["", "text", "[1]", "7", "{\"a\":1", "{} {}", "{\"a\":1}}", "\"{}\"", "{\"a\":}"] {
        assert_eq!(applied(EnrichAs::Fields, value), (value.to_owned(), false), "{value}");
    }
}

#[test]
fn gelf_gets_what_it_needs_and_keeps_what_it_has() {
    let (text, _) = applied(EnrichAs::Gelf, r#"{"level":3,"msg":"b","message":"a\"","_tidegate_node":"x"}"#);
    let fields = parsed(&text);
    let expected = [("version", "1.1"), ("host", "demo-1"), ("short_message", "a\""), ("_tidegate_node", "x")];
    for (name, value) in expected {
        assert_eq!(fields[name], value, "{name}");
    }
    assert_eq!(fields["timestamp"].to_string(), "1769860800.123");
    assert_eq!(fields["_tidegate_pod_label_app"], "demo");
    let whole = r#"{"version":"1.0","host":"h","short_message":"s","timestamp":1}"#;
    let (text, _) = applied(EnrichAs::Gelf, whole);
    assert!(text.starts_with(whole.strip_suffix('}').unwrap()), "{text}");
    assert_eq!(text.matches("short_message").count(), 1);
    let (text, done) = applied(EnrichAs::Gelf, "plain \"text\"\nsecond line");
    assert_eq!((&parsed(&text)["short_message"], done), (&"plain \"text\"\nsecond line".into(), true));
}

proptest! {
    #[test]
    fn whatever_object_comes_its_bytes_stay_and_it_is_still_one_object(
        fields in prop::collection::btree_map("[a-z_\\\\\"é]{0,12}|tidegate_(id|node|user)", "[ -~é\u{1}]{0,20}", 0..6),
        blanks in "[ \n\t]{0,3}",
    ) {
        let own: Map<String, Value> = fields.into_iter().map(|(name, value)| (name, value.into())).collect();
        let value = format!("{blanks}{}{blanks}", Value::from(own.clone()));
        let (text, done) = applied(EnrichAs::Fields, &value);
        prop_assert!(done);
        let kept = value.trim_end().strip_suffix('}').unwrap();
        prop_assert!(text.starts_with(kept));
        let found = parsed(&text);
        for (name, value) in &own {
            prop_assert_eq!(&found[name], value);
        }
        let ours = ["tidegate_id", "tidegate_node", "tidegate_user"].iter().filter(|name| !own.contains_key(**name));
        prop_assert_eq!(found.len(), own.len() + 8 + ours.count());
    }

    #[test]
    fn any_bytes_stay_or_become_an_object(value in prop::collection::vec(any::<u8>(), 0..64)) {
        let mut scratch = Scratch::default();
        let enrichment = enrichment(EnrichAs::Fields, &Attribution::None);
        let (record, done) = enrichment.apply(&value, Headers::NONE, &MOMENT, &mut scratch);
        prop_assert_eq!(done, serde_json::from_slice::<Map<String, Value>>(&value).is_ok());
        prop_assert!(done || record.value == value);
    }
}
