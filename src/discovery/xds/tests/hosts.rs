//! Listeners and routes.

use super::*;
use crate::discovery::formats::envoy::hosts::ALL_HOSTS;
use crate::discovery::xds::sotw::Sotw;
use crate::endpoints::hosts::{Claim, Claimants, HostPath};

impl Bed<Sotw> {
    fn claim(&mut self, shard: usize, hosts: &[(&str, &str)]) {
        let claim = |(at, name): &(&str, &str)| Claim {
            at: HostPath::parse(at).unwrap(),
            pool: PoolId::parse(&id(name)).unwrap(),
            namespace: Some("shop".into()),
            since: 0,
        };
        let claims = hosts.iter().map(claim).collect();
        self.registry.apply(shard, SourceEvent::Hosts(Claimants::Source, claims), SystemTime::now());
        self.registry.publish();
        let snapshot = self.snapshot();
        self.stream.subscriptions_mut().changed(&View {
            snapshot: &snapshot,
            scope: &self.scope,
            listeners: &Listeners::default(),
        });
    }
}

fn ask(kind: Kind, names: &[&str]) -> DiscoveryRequest {
    let resource_names = names.iter().map(|name| (*name).to_owned()).collect();
    DiscoveryRequest { type_url: kind.type_url().to_owned(), resource_names, ..DiscoveryRequest::default() }
}

#[test]
fn routes_are_sent_when_hosts_change_and_not_when_pools_do() {
    let mut bed = Bed::<Sotw>::new(Types::Aggregated);
    bed.claim(0, &[("a.example", "a")]);
    bed.send(ask(Kind::Routes, &[ALL_HOSTS])).unwrap();
    let first = bed.next().unwrap();
    assert_eq!((first.resources.len(), first.type_url.as_str()), (1, Kind::Routes.type_url()));
    let taken = |nonce: &str, why: Option<&str>| DiscoveryRequest {
        response_nonce: nonce.to_owned(),
        error_detail: refusal(why),
        ..ask(Kind::Routes, &[ALL_HOSTS])
    };
    bed.send(taken(&first.nonce, None)).unwrap();
    bed.set("a", &[7]);
    assert_eq!(bed.next(), None, "an endpoint is no route");
    bed.claim(0, &[("a.example", "a"), ("b.example", "b")]);
    let second = bed.next().unwrap();
    assert!(second.resources[0].len() > first.resources[0].len());
    // Refused, it is not sent again; the next one is.
    bed.send(taken(&second.nonce, Some("no"))).unwrap();
    assert_eq!(bed.next(), None);
    bed.claim(0, &[("c.example", "b")]);
    assert_eq!(bed.next().unwrap().resources.len(), 1);
}

#[test]
fn routes_that_are_not_all_known_are_refused_and_never_empty() {
    let shards = ["east", "west"].map(|name| Shard::new(name.into(), None).awaiting_hosts(&[Claimants::Source]));
    let hold = HoldConfig { max_drop_percent: 50, max_age: Duration::from_secs(600) };
    let registry = Registry::new(shards.into(), Vec::new(), hold, None);
    let mut bed = Bed { registry, scope: Scope::default(), stream: Sotw::new(Types::Only(Kind::Routes)) };
    bed.claim(0, &[("a.example", "a")]);
    assert_eq!(bed.send(ask(Kind::Routes, &[ALL_HOSTS])), Err(Fault::Unsynced));
    bed.reconnect(Types::Only(Kind::Routes));
    bed.claim(1, &[]);
    bed.send(ask(Kind::Routes, &[ALL_HOSTS, "other"])).unwrap();
    assert_eq!(bed.next().unwrap().resources.len(), 1, "there is no other");
}

#[test]
fn a_client_sees_routes_of_its_scope_alone() {
    let mut bed = Bed::<Sotw>::new(Types::Only(Kind::Routes));
    bed.scope = Scope { clusters: vec!["west".to_owned()], namespaces: Vec::new() };
    bed.claim(0, &[("a.example", "a")]);
    bed.send(ask(Kind::Routes, &[ALL_HOSTS])).unwrap();
    let body = bed.next().unwrap().resources.remove(0);
    assert!(!String::from_utf8_lossy(&body).contains("a.example"));
}
