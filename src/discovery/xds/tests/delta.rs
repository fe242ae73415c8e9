//! The incremental protocol.

use std::collections::HashMap;

use super::*;
use crate::discovery::xds::delta::Delta;
use crate::discovery::xds::messages::DeltaDiscoveryResponse;

fn ask(kind: Kind, subscribe: &[&str], unsubscribe: &[&str]) -> DeltaDiscoveryRequest {
    DeltaDiscoveryRequest {
        type_url: kind.type_url().to_owned(),
        resource_names_subscribe: ids(subscribe),
        resource_names_unsubscribe: ids(unsubscribe),
        ..DeltaDiscoveryRequest::default()
    }
}

fn eds(subscribe: &[&str], unsubscribe: &[&str]) -> DeltaDiscoveryRequest {
    ask(Kind::Assignments, subscribe, unsubscribe)
}

fn answer(response: &DeltaDiscoveryResponse, why: Option<&str>) -> DeltaDiscoveryRequest {
    DeltaDiscoveryRequest {
        type_url: response.type_url.clone(),
        response_nonce: response.nonce.clone(),
        error_detail: refusal(why),
        ..DeltaDiscoveryRequest::default()
    }
}

fn resources(response: &DeltaDiscoveryResponse) -> BTreeMap<String, Vec<u8>> {
    response.resources.iter().map(|resource| decoded(&resource.resource)).collect()
}

fn versions(response: &DeltaDiscoveryResponse) -> HashMap<String, String> {
    response.resources.iter().map(|it| (it.name.clone(), it.version.clone())).collect()
}

/// The next response, taken.
fn taken(bed: &mut Bed<Delta>) -> DeltaDiscoveryResponse {
    let response = bed.next().unwrap();
    bed.send(answer(&response, None)).unwrap();
    response
}

#[test]
fn what_is_subscribed_is_sent_with_versions_and_what_does_not_exist_is_removed() {
    let mut bed = Bed::<Delta>::new(EDS);
    bed.send(eds(&["a", "none"], &[])).unwrap();
    let first = taken(&mut bed);
    assert_eq!((resources(&first), first.removed_resources.clone()), (content(&[("a", &[1])]), ids(&["none"])));
    let etag = Kind::Assignments.version(bed.snapshot().pool(&id("a")).unwrap());
    assert_eq!(first.resources[0].version, *etag);
    assert_eq!(bed.next(), None);
    bed.set("none", &[8]);
    assert_eq!(resources(&taken(&mut bed)), content(&[("none", &[8])]), "it came");
    bed.send(eds(&["b"], &["a"])).unwrap();
    assert_eq!(resources(&taken(&mut bed)), content(&[("b", &[2])]));
    bed.set("a", &[9]);
    assert_eq!(bed.next(), None);
}

#[test]
fn endpoints_of_a_deleted_service_are_taken_from_the_client() {
    let mut bed = Bed::<Delta>::new(EDS);
    bed.send(eds(&["a"], &[])).unwrap();
    taken(&mut bed);
    bed.remove("a");
    let gone = taken(&mut bed);
    assert_eq!((resources(&gone), gone.removed_resources.len()), (content(&[("a", &[])]), 0));
    assert_eq!(bed.next(), None, "once");
    // It comes back on a new stream, with what it has from then.
    bed.reconnect(EDS);
    bed.send(DeltaDiscoveryRequest { initial_resource_versions: versions(&gone), ..eds(&["a"], &[]) }).unwrap();
    assert_eq!(bed.next(), None);
    bed.reconnect(EDS);
    let had = HashMap::from([(id("a"), "\"old\"".to_owned())]);
    bed.send(DeltaDiscoveryRequest { initial_resource_versions: had, ..eds(&["a"], &[]) }).unwrap();
    assert_eq!(resources(&bed.next().unwrap()), content(&[("a", &[])]), "it went while the client was away");
}

#[test]
fn everything_is_sent_by_increments_and_ends_when_it_is_no_longer_wanted() {
    let mut bed = Bed::<Delta>::new(Types::Aggregated);
    bed.send(ask(Kind::Clusters, &[], &[])).unwrap();
    assert_eq!(taken(&mut bed).resources.len(), 2);
    bed.set("c", &[3]);
    assert_eq!(resources(&taken(&mut bed)).into_keys().collect::<Vec<_>>(), ["c"]);
    bed.remove("a");
    let removed = taken(&mut bed);
    assert_eq!((removed.resources.len(), removed.removed_resources), (0, ids(&["a"])));
    bed.send(eds(&["*"], &[])).unwrap();
    assert_eq!(resources(&taken(&mut bed)), content(&[("b", &[2]), ("c", &[3])]));
    bed.remove("b");
    let both = [taken(&mut bed), taken(&mut bed)].map(|it| (it.type_url, it.removed_resources));
    assert_eq!(both, [Kind::Clusters, Kind::Assignments].map(|kind| (kind.type_url().to_owned(), ids(&["b"]))));
    bed.send(eds(&["c"], &[])).unwrap();
    taken(&mut bed);
    bed.send(eds(&[], &["*"])).unwrap();
    bed.send(ask(Kind::Clusters, &[], &["*"])).unwrap();
    bed.set("c", &[4]);
    bed.set("d", &[5]);
    assert_eq!(resources(&taken(&mut bed)), content(&[("c", &[4])]));
    assert_eq!(bed.next(), None);
}

#[test]
fn who_asks_again_gets_it_again_and_who_comes_back_does_not() {
    let mut bed = Bed::<Delta>::new(EDS);
    bed.send(eds(&["a", "b"], &[])).unwrap();
    let first = taken(&mut bed);
    bed.send(eds(&["a"], &[])).unwrap();
    assert_eq!(resources(&taken(&mut bed)), content(&[("a", &[1])]), "it may have forgotten it");
    bed.set("b", &[7]);
    bed.reconnect(EDS);
    let again = DeltaDiscoveryRequest { initial_resource_versions: versions(&first), ..eds(&["a", "b"], &[]) };
    bed.send(again).unwrap();
    assert_eq!(resources(&taken(&mut bed)), content(&[("b", &[7])]));
    bed.reconnect(CDS);
    bed.send(ask(Kind::Clusters, &[], &[])).unwrap();
    let clusters = versions(&taken(&mut bed));
    bed.remove("a");
    bed.reconnect(CDS);
    bed.send(DeltaDiscoveryRequest { initial_resource_versions: clusters, ..ask(Kind::Clusters, &[], &[]) }).unwrap();
    let back = taken(&mut bed);
    assert_eq!((back.resources.len(), back.removed_resources), (0, ids(&["a"])));
}

#[test]
fn a_refused_version_is_not_sent_again_and_a_later_one_is() {
    let mut bed = Bed::<Delta>::new(EDS);
    bed.send(eds(&["a"], &[])).unwrap();
    let bad = bed.next().unwrap();
    let notes = bed.send(answer(&bad, Some("bad weight"))).unwrap();
    let [Note::Refused(Kind::Assignments, sent, why)] = notes.as_slice() else { panic!("{notes:?}") };
    assert_eq!((&*sent[0].name, why.as_str()), (id("a").as_str(), "bad weight"));
    assert_eq!(bed.next(), None);
    bed.set("b", &[9]);
    assert_eq!(bed.next(), None);
    bed.set("a", &[3]);
    assert_eq!(resources(&taken(&mut bed)), content(&[("a", &[3])]));
    bed.set("a", &[1]);
    assert_eq!(resources(&taken(&mut bed)), content(&[("a", &[1])]), "what was taken since is forgiven");
}

#[test]
fn one_bad_pool_does_not_keep_the_others_from_the_client() {
    let names = ["a", "b", "c", "d", "e", "f", "g"];
    let mut bed = Bed::<Delta>::new(EDS);
    for (last, name) in names.iter().enumerate() {
        bed.set(name, &[u8::try_from(last).unwrap()]);
    }
    bed.send(eds(&names, &[])).unwrap();
    let mut has = BTreeMap::new();
    let mut responses = 0;
    while let Some(response) = bed.next() {
        responses += 1;
        let resources = resources(&response);
        let refuses = resources.contains_key("e");
        if !refuses {
            has.extend(resources);
        }
        bed.send(answer(&response, refuses.then_some("e is bad"))).unwrap();
    }
    assert_eq!(has.into_keys().collect::<Vec<_>>(), ["a", "b", "c", "d", "f", "g"]);
    assert!(responses <= 2 * names.len(), "{responses}");
    bed.set("e", &[77]);
    assert_eq!(resources(&taken(&mut bed)), content(&[("e", &[77])]));
}

#[test]
fn with_many_names_changes_are_found_in_the_journal() {
    let names: Vec<String> = (0..100).map(|it| format!("n{it}")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let mut bed = Bed::<Delta>::new(EDS);
    bed.send(eds(&names, &[])).unwrap();
    assert_eq!(taken(&mut bed).removed_resources.len(), 100);
    bed.set("a", &[5]);
    assert_eq!(bed.next(), None);
    bed.set("n7", &[7]);
    bed.set("n8", &[8]);
    assert_eq!(resources(&taken(&mut bed)), content(&[("n7", &[7]), ("n8", &[8])]));
    bed.remove("n7");
    assert_eq!(resources(&taken(&mut bed)), content(&[("n7", &[])]));
}

#[test]
fn a_large_answer_comes_in_parts_each_after_the_one_before_was_taken() {
    let mut bed = Bed::<Delta>::new(EDS);
    let many: Vec<u8> = (0..=255).collect();
    let names: Vec<String> = (0..200).map(|it| format!("n{it}")).collect();
    for name in &names {
        bed.set(name, &many);
    }
    bed.send(eds(&names.iter().map(String::as_str).collect::<Vec<_>>(), &[])).unwrap();
    let mut sizes = Vec::new();
    while let Some(response) = bed.next() {
        sizes.push(response.resources.len());
        assert!(response.encoded_len() < 4 << 20);
        bed.send(answer(&response, None)).unwrap();
    }
    assert!(sizes.len() > 1, "{sizes:?}");
    assert_eq!(sizes.iter().sum::<usize>(), 200);
}
