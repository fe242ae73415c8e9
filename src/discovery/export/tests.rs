use super::plan::{Known, Registration, Step, ours, ours_alone, steps};
use super::*;
use crate::endpoints::pool::{Endpoint, EndpointState};

const BEAT: Duration = Duration::from_secs(10);

fn key(id: &str) -> Key {
    Key { app: "SHOP".to_owned(), id: id.to_owned() }
}

fn registration(last: u8) -> Registration {
    Registration::of(&Endpoint::new([10, 0, 0, last].into(), 80), "edge", 3 * BEAT)
}

fn told(steps: &[Step<'_>]) -> Vec<String> {
    let text = |step: &Step<'_>| match step {
        Step::Register(key, _) => format!("+{}", key.id),
        Step::Renew(key) => format!("={}", key.id),
        Step::Remove(key) => format!("-{}", key.id),
    };
    steps.iter().map(text).collect()
}

#[test]
fn what_is_gone_is_removed_what_is_other_is_registered_and_what_is_due_is_renewed() {
    let now = Instant::now();
    let later = now + BEAT;
    let known = |last: u8, at| Known { registration: Some(registration(last)), up: true, at };
    let draining = Registration::of(
        &Endpoint { state: EndpointState::Draining, ..Endpoint::new([10, 0, 0, 2].into(), 80) },
        "edge",
        3 * BEAT,
    );
    let wanted = BTreeMap::from([
        (key("a"), registration(1)),
        (key("b"), draining),
        (key("c"), registration(3)),
        (key("d"), registration(4)),
    ]);
    let has = BTreeMap::from([
        (key("a"), known(1, now)),
        (key("b"), known(2, later)),
        (key("d"), Known { registration: None, up: true, at: later }),
        (key("e"), known(5, later)),
    ]);
    assert_eq!(told(&steps(&wanted, &has, later, BEAT)), ["-e", "+b", "+c", "+d", "=a"]);
    assert_eq!(told(&steps(&wanted, &has, now, BEAT)), ["-e", "+b", "+c", "+d"]);
}

#[test]
fn only_what_this_owner_registered_is_known_as_ours() {
    let body = br#"{"applications":{"application":{"name":"SHOP","instance":[
        {"instanceId":"vm1","metadata":{"zone":"a"}},
        {"instanceId":"mine","status":"OUT_OF_SERVICE","metadata":{"tidegate":"edge"}},
        {"instanceId":"other","metadata":{"tidegate":"west"}}]}}}"#;
    let (known, foreign) = ours(body, "edge").unwrap();
    assert_eq!(known.keys().cloned().collect::<Vec<_>>(), [key("mine")]);
    assert!(!known[&key("mine")].up, "another life drained it");
    assert_eq!(foreign.into_iter().collect::<Vec<_>>(), [key("other"), key("vm1")]);
    let alone = |text: &str| ours_alone(format!(r#"{{"instance":{text}}}"#).as_bytes(), "edge");
    assert!(alone(r#"{"status":"UP","metadata":{"tidegate":"edge"}}"#).unwrap().unwrap().up);
    assert_eq!(alone(r#"{"status":"UP","metadata":{"tidegate":"west"}}"#), Ok(None));
    assert!(ours_alone(b"{}", "edge").is_err());
    assert!(ours(b"<xml/>", "edge").is_err() && ours(b"{}", "edge").is_err());
    assert!(ours(br#"{"applications":{"application":null}}"#, "edge").unwrap().0.is_empty());
}

#[test]
fn a_registration_says_whose_it_is_how_long_it_lasts_and_whether_it_takes_requests() {
    let body = plan::instance(&key("a"), &registration(1), 7);
    let instance = &body["instance"];
    assert_eq!((&instance["status"], &instance["metadata"]["tidegate"]), (&"UP".into(), &"edge".into()));
    assert_eq!((&instance["leaseInfo"]["durationInSecs"], &instance["lastDirtyTimestamp"]), (&30.into(), &"7".into()));
}
