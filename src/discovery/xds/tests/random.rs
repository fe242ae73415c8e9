//! Whatever happens in whatever order, a client ends with what there is.

use std::collections::HashMap;

use proptest::prelude::*;

use super::*;
use crate::discovery::xds::delta::Delta;
use crate::discovery::xds::messages::{DeltaDiscoveryResponse, DiscoveryResponse};
use crate::discovery::xds::sotw::Sotw;

const NAMES: [&str; 4] = ["a", "b", "c", "d"];

#[derive(Clone, Debug)]
enum Step {
    Set(usize, Vec<u8>),
    Remove(usize),
    Subscribe(usize),
    Unsubscribe(usize),
    /// The client reads a response and takes it, or refuses it.
    Read {
        takes: bool,
    },
    Reconnect,
}

fn step() -> impl Strategy<Value = Step> {
    let name = 0..NAMES.len();
    prop_oneof![
        3 => (name.clone(), proptest::collection::vec(1..250u8, 0..3)).prop_map(|(at, mut it)| {
            it.sort_unstable();
            it.dedup();
            Step::Set(at, it)
        }),
        1 => name.clone().prop_map(Step::Remove),
        2 => name.clone().prop_map(Step::Subscribe),
        1 => name.prop_map(Step::Unsubscribe),
        4 => Just(Step::Read { takes: true }),
        1 => Just(Step::Read { takes: false }),
        1 => Just(Step::Reconnect),
    ]
}

/// What a client has: contents, and versions as it would give them on a new stream.
#[derive(Default)]
struct Client {
    wants: Vec<usize>,
    has: BTreeMap<String, Vec<u8>>,
    versions: HashMap<String, String>,
    version_info: String,
    nonce: String,
}

/// What a client that wants these names must have; what is empty and what is absent is the same to it.
fn wanted<M: Machine>(bed: &Bed<M>, client: &Client) -> BTreeMap<String, Vec<u8>> {
    let snapshot = bed.snapshot();
    let addresses = |name: &str| -> Option<Vec<u8>> {
        let of = |it: &Endpoint| it.address.to_string().rsplit('.').next().unwrap().parse().unwrap();
        Some(snapshot.pool(&id(name))?.endpoints.iter().map(of).collect())
    };
    let found = client.wants.iter().filter_map(|at| Some((NAMES[*at].to_owned(), addresses(NAMES[*at])?)));
    found.filter(|(_, addresses)| !addresses.is_empty()).collect()
}

fn shown(client: &Client) -> BTreeMap<String, Vec<u8>> {
    client.has.iter().filter(|(_, it)| !it.is_empty()).map(|(name, it)| (name.clone(), it.clone())).collect()
}

fn delta_request(client: &Client) -> DeltaDiscoveryRequest {
    DeltaDiscoveryRequest {
        type_url: Kind::Assignments.type_url().to_owned(),
        resource_names_subscribe: client.wants.iter().map(|at| id(NAMES[*at])).collect(),
        initial_resource_versions: client.versions.clone(),
        ..DeltaDiscoveryRequest::default()
    }
}

fn read_delta(bed: &mut Bed<Delta>, client: &mut Client, takes: bool) -> bool {
    let Some(response): Option<DeltaDiscoveryResponse> = bed.next() else { return false };
    if takes {
        for resource in &response.resources {
            let (name, addresses) = decoded(&resource.resource);
            if client.wants.iter().any(|at| NAMES[*at] == name) {
                client.versions.insert(resource.name.clone(), resource.version.clone());
                client.has.insert(name, addresses);
            }
        }
        // As Envoy does, it keeps the endpoints of what is removed.
    }
    let answer = DeltaDiscoveryRequest {
        type_url: response.type_url,
        response_nonce: response.nonce,
        error_detail: refusal((!takes).then_some("no")),
        ..DeltaDiscoveryRequest::default()
    };
    bed.send(answer).unwrap();
    true
}

fn sotw_request(client: &Client, why: Option<&str>) -> DiscoveryRequest {
    DiscoveryRequest {
        version_info: client.version_info.clone(),
        type_url: Kind::Assignments.type_url().to_owned(),
        resource_names: client.wants.iter().map(|at| id(NAMES[*at])).collect(),
        response_nonce: client.nonce.clone(),
        error_detail: refusal(why),
        node: None,
    }
}

fn read_sotw(bed: &mut Bed<Sotw>, client: &mut Client, takes: bool) -> bool {
    let Some(response): Option<DiscoveryResponse> = bed.next() else { return false };
    client.nonce.clone_from(&response.nonce);
    if takes {
        let resources = response.resources.iter().map(decoded);
        client.has.extend(resources.filter(|(name, _)| client.wants.iter().any(|at| NAMES[*at] == name)));
        client.version_info.clone_from(&response.version_info);
    }
    bed.send(sotw_request(client, (!takes).then_some("no"))).unwrap();
    true
}

/// What both protocols have in common.
fn change<M: Machine>(bed: &mut Bed<M>, step: &Step) {
    match step {
        Step::Set(at, addresses) => bed.set(NAMES[*at], addresses),
        Step::Remove(at) => bed.remove(NAMES[*at]),
        _ => {}
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn an_incremental_client_ends_with_what_there_is(steps in proptest::collection::vec(step(), 1..60)) {
        let mut bed = Bed::<Delta>::new(EDS);
        let mut client = Client::default();
        for step in &steps {
            change(&mut bed, step);
            match step {
                Step::Subscribe(at) if !client.wants.contains(at) => {
                    client.wants.push(*at);
                    bed.send(DeltaDiscoveryRequest {
                        resource_names_subscribe: vec![id(NAMES[*at])],
                        type_url: Kind::Assignments.type_url().to_owned(),
                        ..DeltaDiscoveryRequest::default()
                    }).unwrap();
                }
                Step::Unsubscribe(at) if client.wants.contains(at) => {
                    client.wants.retain(|it| it != at);
                    client.has.remove(NAMES[*at]);
                    client.versions.remove(&id(NAMES[*at]));
                    bed.send(DeltaDiscoveryRequest {
                        resource_names_unsubscribe: vec![id(NAMES[*at])],
                        type_url: Kind::Assignments.type_url().to_owned(),
                        ..DeltaDiscoveryRequest::default()
                    }).unwrap();
                }
                Step::Read { takes } => drop(read_delta(&mut bed, &mut client, *takes)),
                Step::Reconnect => {
                    bed.reconnect(EDS);
                    bed.send(delta_request(&client)).unwrap();
                }
                _ => {}
            }
        }
        // What was refused comes when it is asked for on a new stream, or when it changes.
        bed.reconnect(EDS);
        bed.send(delta_request(&client)).unwrap();
        let reads = (0..50).take_while(|_| read_delta(&mut bed, &mut client, true)).count();
        prop_assert!(reads < 50, "it comes to rest");
        prop_assert_eq!(shown(&client), wanted(&bed, &client));
    }

    #[test]
    fn without_refusals_one_stream_is_enough(steps in proptest::collection::vec(step(), 1..60)) {
        let mut bed = Bed::<Sotw>::new(EDS);
        let mut client = Client::default();
        for step in &steps {
            change(&mut bed, step);
            match step {
                Step::Subscribe(at) if !client.wants.contains(at) => {
                    client.wants.push(*at);
                    bed.send(sotw_request(&client, None)).unwrap();
                }
                Step::Unsubscribe(at) if client.wants.contains(at) => {
                    client.wants.retain(|it| it != at);
                    client.has.remove(NAMES[*at]);
                    bed.send(sotw_request(&client, None)).unwrap();
                }
                Step::Read { .. } => drop(read_sotw(&mut bed, &mut client, true)),
                Step::Reconnect => {
                    bed.reconnect(EDS);
                    client.nonce.clear();
                    bed.send(sotw_request(&client, None)).unwrap();
                }
                _ => {}
            }
        }
        let reads = (0..50).take_while(|_| read_sotw(&mut bed, &mut client, true)).count();
        prop_assert!(reads < 50, "it comes to rest");
        prop_assert_eq!(shown(&client), wanted(&bed, &client));
    }
}
