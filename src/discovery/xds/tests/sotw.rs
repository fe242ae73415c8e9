//! The state of the world.

use super::*;
use crate::discovery::xds::messages::DiscoveryResponse;
use crate::discovery::xds::sotw::Sotw;

fn ask(kind: Kind, names: &[&str]) -> DiscoveryRequest {
    let type_url = kind.type_url().to_owned();
    DiscoveryRequest { type_url, resource_names: ids(names), ..DiscoveryRequest::default() }
}

fn eds(names: &[&str]) -> DiscoveryRequest {
    ask(Kind::Assignments, names)
}

/// Answers a response, with the names that are wanted from then on.
fn answer(response: &DiscoveryResponse, names: &[&str], why: Option<&str>) -> DiscoveryRequest {
    DiscoveryRequest {
        version_info: response.version_info.clone(),
        type_url: response.type_url.clone(),
        resource_names: ids(names),
        response_nonce: response.nonce.clone(),
        error_detail: refusal(why),
        node: None,
    }
}

fn resources(response: &DiscoveryResponse) -> BTreeMap<String, Vec<u8>> {
    response.resources.iter().map(decoded).collect()
}

#[test]
fn what_is_named_is_answered_and_then_what_changes_of_it() {
    let mut bed = Bed::<Sotw>::new(EDS);
    bed.send(eds(&["a", "none"])).unwrap();
    let first = bed.next().unwrap();
    assert_eq!(resources(&first), content(&[("a", &[1]), ("none", &[])]), "what does not exist has no endpoints");
    let notes = bed.send(answer(&first, &["a", "none"], None)).unwrap();
    let [Note::Taken(Kind::Assignments, sent)] = notes.as_slice() else { panic!("{notes:?}") };
    let etag = Kind::Assignments.version(bed.snapshot().pool(&id("a")).unwrap());
    assert_eq!((&*sent[0].name, sent[0].version.to_string()), (id("a").as_str(), etag.to_string()));
    assert_eq!(bed.next(), None);
    bed.set("b", &[9]);
    assert_eq!(bed.next(), None, "nobody asked for b");
    bed.set("a", &[1, 3]);
    let second = bed.next().unwrap();
    assert_eq!(resources(&second), content(&[("a", &[1, 3])]));
    assert_ne!(second.version_info, first.version_info);
    bed.send(answer(&second, &["a", "none"], None)).unwrap();
    bed.remove("a");
    assert_eq!(resources(&bed.next().unwrap()), content(&[("a", &[])]));
}

#[test]
fn a_slow_client_gets_the_newest_state_when_it_has_answered() {
    let mut bed = Bed::<Sotw>::new(EDS);
    bed.send(eds(&["a"])).unwrap();
    let first = bed.next().unwrap();
    for last in 10..20 {
        bed.set("a", &[last]);
        assert_eq!(bed.next(), None, "one response is on its way");
    }
    let stale = |names: &[&str]| DiscoveryRequest { response_nonce: "0".to_owned(), ..answer(&first, names, None) };
    assert_eq!(bed.send(stale(&["a", "b"])).unwrap(), [Note::Asked(vec![id("b").into()])]);
    assert_eq!(bed.next(), None, "an old nonce answers nothing");
    bed.send(answer(&first, &["a", "b"], None)).unwrap();
    assert_eq!(resources(&bed.next().unwrap()), content(&[("a", &[19]), ("b", &[2])]));
    let mut bed = Bed::<Sotw>::new(EDS);
    bed.send(eds(&["a"])).unwrap();
    let first = bed.next().unwrap();
    bed.send(answer(&first, &["a"], None)).unwrap();
    bed.set("a", &[3]);
    bed.next().unwrap();
    for names in [&[][..], &["a"]] {
        bed.send(answer(&first, names, None)).unwrap();
    }
    let second = DiscoveryRequest { response_nonce: "2".to_owned(), ..eds(&["a"]) };
    bed.send(second).unwrap();
    assert_eq!(resources(&bed.next().unwrap()), content(&[("a", &[3])]), "dropped and taken up again meanwhile");
}

#[test]
fn who_comes_back_with_names_gets_all_of_them_whatever_version_it_brings() {
    let mut bed = Bed::<Sotw>::new(EDS);
    bed.send(eds(&["a", "b"])).unwrap();
    let version_info = bed.next().unwrap().version_info;
    bed.reconnect(EDS);
    bed.send(DiscoveryRequest { version_info, ..eds(&["a", "b"]) }).unwrap();
    assert_eq!(bed.next().unwrap().resources.len(), 2, "it may have dropped one and taken it up again meanwhile");
}

#[test]
fn names_come_and_go_with_each_request() {
    let mut bed = Bed::<Sotw>::new(EDS);
    bed.send(eds(&["a"])).unwrap();
    let first = bed.next().unwrap();
    assert_eq!(bed.send(answer(&first, &["a", "b"], None)).unwrap().len(), 2, "taken, and asked");
    let second = bed.next().unwrap();
    assert_eq!(resources(&second), content(&[("b", &[2])]));
    let notes = bed.send(answer(&second, &["b"], None)).unwrap();
    assert_eq!(notes[1], Note::Left(vec![id("a").into()]));
    bed.set("a", &[5]);
    assert_eq!(bed.next(), None);
    bed.send(DiscoveryRequest { response_nonce: second.nonce.clone(), ..eds(&["a", "b"]) }).unwrap();
    assert_eq!(resources(&bed.next().unwrap()), content(&[("a", &[5])]), "asked for anew, although it had it once");
}

#[test]
fn clusters_are_always_all_and_do_not_change_with_their_endpoints() {
    let mut bed = Bed::<Sotw>::new(CDS);
    bed.send(ask(Kind::Clusters, &[])).unwrap();
    let first = bed.next().unwrap();
    assert_eq!(resources(&first).into_keys().collect::<Vec<_>>(), ["a", "b"]);
    bed.send(answer(&first, &[], None)).unwrap();
    bed.set("a", &[7]);
    assert_eq!(bed.next(), None);
    bed.set("c", &[3]);
    let second = bed.next().unwrap();
    assert_eq!(resources(&second).into_keys().collect::<Vec<_>>(), ["a", "b", "c"]);
    bed.send(answer(&second, &[], Some("no"))).unwrap();
    assert_eq!(bed.next(), None, "the same state is not sent again");
    bed.remove("a");
    let third = bed.next().unwrap();
    assert_eq!(resources(&third).into_keys().collect::<Vec<_>>(), ["b", "c"]);
    bed.reconnect(CDS);
    bed.send(DiscoveryRequest { version_info: third.version_info, ..ask(Kind::Clusters, &["*"]) }).unwrap();
    assert_eq!(bed.next(), None);
    bed.reconnect(CDS);
    bed.send(ask(Kind::Clusters, &["b"])).unwrap();
    let named = bed.next().unwrap();
    assert_eq!(resources(&named).into_keys().collect::<Vec<_>>(), ["b"]);
    bed.send(answer(&named, &[], None)).unwrap();
    bed.set("d", &[1]);
    assert_eq!(bed.next(), None, "after names, naming nothing is wanting nothing");
}

#[test]
fn an_empty_world_is_said_once_it_is_known_to_be_empty() {
    let mut bed = Bed::<Sotw>::unsynced(CDS);
    bed.tell(0, Update::Reset(Vec::new()));
    assert_eq!(bed.send(ask(Kind::Clusters, &[])).unwrap_err(), Fault::Unsynced);
    assert_eq!(bed.next(), None);
    bed.tell(1, Update::Reset(Vec::new()));
    bed.reconnect(CDS);
    bed.send(ask(Kind::Clusters, &[])).unwrap();
    assert_eq!(bed.next().unwrap().resources.len(), 0);
}

#[test]
fn what_is_not_known_yet_is_not_answered_empty_and_comes_when_it_is_known() {
    let mut bed = Bed::<Sotw>::unsynced(EDS);
    assert_eq!(bed.send(eds(&["a"])).unwrap_err(), Fault::Unsynced);
    bed.tell(1, Update::Reset(Vec::new()));
    bed.reconnect(EDS);
    let west = "west/shop/w/http".to_owned();
    bed.send(DiscoveryRequest { resource_names: vec![id("a"), west], ..eds(&[]) }).unwrap();
    let first = bed.next().unwrap();
    assert_eq!(first.resources.len(), 1, "west is known to have none");
    bed.send(DiscoveryRequest { resource_names: vec![id("a")], ..answer(&first, &[], None) }).unwrap();
    assert_eq!(bed.next(), None);
    assert!(bed.stream.subscriptions().is_pending());
    bed.tell(0, Update::Reset(Vec::new()));
    assert_eq!(resources(&bed.next().unwrap()), content(&[("a", &[])]));
}

#[test]
fn aggregated_clusters_come_before_their_endpoints() {
    let mut bed = Bed::<Sotw>::new(Types::Aggregated);
    bed.send(eds(&["a"])).unwrap();
    bed.send(ask(Kind::Clusters, &[])).unwrap();
    let (clusters, assignments) = (bed.next().unwrap(), bed.next().unwrap());
    assert_eq!(
        (clusters.type_url, assignments.type_url),
        (Kind::Clusters.type_url().into(), Kind::Assignments.type_url().into())
    );
    assert_ne!(clusters.nonce, assignments.nonce);
    bed.remove("a");
    assert_eq!(bed.next(), None, "both are on their way");
    assert_eq!(bed.send(DiscoveryRequest::default()).unwrap_err(), Fault::NoType);
    let listeners = "type.googleapis.com/envoy.config.listener.v3.Listener".to_owned();
    assert_eq!(bed.send(DiscoveryRequest { type_url: listeners.clone(), ..eds(&[]) }).unwrap(), [], "passed over");
    bed.reconnect(EDS);
    assert_eq!(bed.send(DiscoveryRequest { type_url: listeners, ..eds(&[]) }).unwrap_err(), Fault::OtherType);
    bed.send(DiscoveryRequest { type_url: String::new(), ..eds(&["b"]) }).unwrap();
    assert_eq!(resources(&bed.next().unwrap()), content(&[("b", &[2])]));
}

#[test]
fn a_client_sees_its_scope_alone() {
    let mut bed = Bed::<Sotw>::new(Types::Aggregated);
    bed.scope = Scope { clusters: vec!["west".into()], namespaces: vec![] };
    bed.send(ask(Kind::Clusters, &[])).unwrap();
    bed.send(eds(&["a"])).unwrap();
    assert_eq!(bed.next().unwrap().resources.len(), 0);
    assert_eq!(resources(&bed.next().unwrap()), content(&[("a", &[])]), "as if it did not exist");
}

#[test]
fn a_stream_wants_a_bounded_number_of_names() {
    let mut bed = Bed::<Sotw>::new(EDS);
    let many = DiscoveryRequest { resource_names: (0..20_001).map(|it| it.to_string()).collect(), ..eds(&[]) };
    assert_eq!(bed.send(many).unwrap_err(), Fault::TooManyNames);
    assert_eq!(bed.send(DiscoveryRequest { resource_names: vec!["x".repeat(513)], ..eds(&[]) }), Err(Fault::Name));
}

#[test]
fn an_encoding_is_shared_by_all_streams() {
    let bed = Bed::<Sotw>::new(EDS);
    let snapshot = bed.snapshot();
    let pool = snapshot.pool(&id("a")).unwrap();
    let [one, other] = [(); 2].map(|()| Kind::Assignments.resource(pool).0);
    assert_eq!(one.as_ptr(), other.as_ptr());
}
