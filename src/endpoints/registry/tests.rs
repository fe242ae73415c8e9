use std::net::IpAddr;
use std::time::Duration;

use super::*;
use crate::endpoints::join::Member;
use crate::endpoints::matched::Rule;
use crate::endpoints::pool::EndpointState;
use crate::endpoints::snapshot::MAX_REMOVED;
use crate::endpoints::update::Update;

const HOLD: HoldConfig = HoldConfig { max_drop_percent: 50, max_age: Duration::from_secs(600) };

fn id(text: &str) -> PoolId {
    PoolId::parse(text).unwrap()
}

fn pool(name: &str, addresses: &[u8]) -> PoolContent {
    let endpoint = |last: &u8| Endpoint::new(IpAddr::from([10, 0, 0, *last]), 80);
    let endpoints = addresses.iter().map(endpoint).collect();
    PoolContent { id: id(name), endpoints, namespace: None, labels: Arc::default(), relayed: None }
}

fn at(seconds: u64) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(seconds)
}

fn registry(joins: Vec<Join>) -> Registry {
    let shards = ["east", "west"].map(|name| Shard::new(name.into(), Some(name.into())));
    Registry::new(shards.into(), joins, HOLD, None)
}

fn join(name: &str, members: &[(&str, u32, u32)]) -> Join {
    let members = members.iter();
    let members = members.map(|(pool, share, priority)| Member { pool: id(pool), share: *share, priority: *priority });
    let (members, matched) = (members.collect(), Vec::new());
    Join { id: id(name), members, matched, prefer_zone: false, traffic_generation: None, namespace: None }
}

fn tell(registry: &mut Registry, shard: usize, updates: Vec<Update>) -> Option<Published> {
    registry.apply(shard, SourceEvent::Pools(updates), at(1));
    registry.apply(shard, SourceEvent::Contact(Watched::Endpoints), at(1));
    registry.publish()
}

fn addresses(snapshot: &Snapshot, name: &str) -> Option<Vec<String>> {
    let pool = snapshot.pool(name)?;
    Some(pool.endpoints.iter().map(|it| it.address.to_string().replace("10.0.0.", "")).collect())
}

fn ids(ids: &[PoolId]) -> Vec<&str> {
    ids.iter().map(PoolId::as_str).collect()
}

#[test]
fn rule_12_clusters_are_shards_and_losing_one_keeps_it_and_marks_it_stale() {
    let mut registry = registry(vec![]);
    tell(&mut registry, 0, vec![Update::Reset(vec![pool("east/s/a/80", &[1])])]);
    let snapshot = tell(&mut registry, 1, vec![Update::Reset(vec![pool("west/s/a/80", &[2])])]).unwrap().snapshot;
    assert!(snapshot.shards().iter().all(|shard| shard.status.is_fresh()));
    registry.apply(1, SourceEvent::Lost(Watched::Endpoints, "gone".into()), at(9));
    let published = registry.publish().unwrap();
    assert!(published.status_changed && published.changed.is_empty());
    let fresh: Vec<_> = published.snapshot.shards().iter().map(|shard| shard.status.is_fresh()).collect();
    assert_eq!(fresh, [true, false]);
    assert_eq!(addresses(&published.snapshot, "west/s/a/80").unwrap(), ["2"]);
    let snapshot = tell(&mut registry, 0, vec![Update::Add(pool("east/s/a/80", &[1, 3]))]).unwrap().snapshot;
    assert_eq!(addresses(&snapshot, "east/s/a/80").unwrap(), ["1", "3"], "the other goes on");
}

#[test]
fn rule_12_a_joined_pool_has_endpoints_of_several_sources_and_follows_each() {
    let mut registry = registry(vec![join("checkout", &[("east/s/a/80", 70, 0), ("west/s/a/80", 30, 0)])]);
    tell(&mut registry, 0, vec![Update::Reset(vec![pool("east/s/a/80", &[1])])]);
    tell(&mut registry, 1, vec![Update::Reset(vec![pool("west/s/a/80", &[2])])]);
    let weights = |registry: &Registry| -> Vec<u32> {
        let pool = registry.published().pool("checkout").unwrap();
        pool.endpoints.iter().map(|endpoint| endpoint.weight).collect()
    };
    assert_eq!(weights(&registry), [700_000, 300_000]);
    assert_eq!(registry.published().pool("checkout").unwrap().shards.as_ref(), [0, 1]);
    let published = tell(&mut registry, 1, vec![Update::Add(pool("west/s/a/80", &[]))]).unwrap();
    assert_eq!(ids(&published.changed), ["west/s/a/80", "checkout"], "one revision for both");
    assert_eq!(weights(&registry), [1_000_000]);
}

#[test]
fn rule_13_a_hold_is_visible_and_never_has_an_address_that_another_pool_has() {
    let mut registry = registry(vec![]);
    let (a, b) = (pool("east/s/a/80", &[1, 2, 3, 4]), pool("east/s/b/80", &[9]));
    tell(&mut registry, 0, vec![Update::Reset(vec![a, b])]);
    // After a fault the list has a sixth of the endpoints, and one of the old addresses is another service's now.
    let reset = Update::Reset(vec![pool("east/s/a/80", &[]), pool("east/s/b/80", &[9, 4])]);
    let snapshot = tell(&mut registry, 0, vec![reset]).unwrap().snapshot;
    let held = snapshot.pool("east/s/a/80").unwrap();
    assert_eq!(addresses(&snapshot, "east/s/a/80").unwrap(), ["1", "2", "3"]);
    let hold = held.hold.as_ref().unwrap();
    assert_eq!((hold.since, hold.until, hold.endpoints), (at(1), at(601), 3));
    assert!(hold.why.contains("east"));
    registry.expire(at(601));
    let published = registry.publish().unwrap();
    assert!(published.status_changed);
    assert_eq!(addresses(&published.snapshot, "east/s/a/80").unwrap(), [""; 0]);
}

#[test]
fn what_changes_nothing_is_no_revision() {
    let mut registry = registry(vec![]);
    let first = tell(&mut registry, 0, vec![Update::Reset(vec![pool("east/s/a/80", &[1])])]).unwrap();
    let again = tell(&mut registry, 0, vec![Update::Add(pool("east/s/a/80", &[1]))]).unwrap();
    assert_eq!(again.snapshot.revision(), first.snapshot.revision());
    assert!(again.changed.is_empty() && !again.status_changed);
    assert!(registry.publish().is_none());
}

#[test]
fn what_changed_since_is_each_pool_once_and_what_is_gone() {
    let mut registry = registry(vec![]);
    let pools = vec![pool("east/s/a/80", &[1]), pool("east/s/b/80", &[2]), pool("east/s/c/80", &[3])];
    let first = tell(&mut registry, 0, vec![Update::Reset(pools)]).unwrap().snapshot.revision();
    tell(&mut registry, 0, vec![Update::Add(pool("east/s/a/80", &[1, 4]))]);
    tell(&mut registry, 0, vec![Update::Add(pool("east/s/a/80", &[1, 5]))]);
    let snapshot = tell(&mut registry, 0, vec![Update::Remove(id("east/s/b/80"))]).unwrap().snapshot;
    let changes = snapshot.changes_since(first).unwrap();
    assert_eq!(changes.changed.iter().map(|it| it.id.as_str()).collect::<Vec<_>>(), ["east/s/a/80"]);
    assert_eq!(ids(&changes.removed), ["east/s/b/80"]);
    let none = snapshot.changes_since(snapshot.revision()).unwrap();
    assert!(none.changed.is_empty() && none.removed.is_empty());
    assert!(snapshot.changes_since(snapshot.revision() + 1).is_none(), "nobody can have seen that");
    // One that comes back is changed, not removed.
    let snapshot = tell(&mut registry, 0, vec![Update::Add(pool("east/s/b/80", &[2]))]).unwrap().snapshot;
    let changes = snapshot.changes_since(first).unwrap();
    assert_eq!((changes.changed.len(), changes.removed.len()), (2, 0));
}

#[test]
fn what_changed_since_is_known_for_ever_although_the_journal_is_short_and_an_old_snapshot_sees_nothing_newer() {
    let mut registry = registry(vec![]);
    let names: Vec<String> = (0..50).map(|number| format!("east/s/p{number}/80")).collect();
    let all = names.iter().map(|name| pool(name, &[1])).collect();
    let first = tell(&mut registry, 0, vec![Update::Reset(all)]).unwrap().snapshot;
    tell(&mut registry, 0, vec![Update::Add(pool(&names[7], &[2]))]);
    // Far more changes than are kept, all of a few pools.
    let busy = |round: usize| Update::Add(pool(&names[10 + round % 3], &[u8::try_from(round % 200).unwrap() + 3]));
    for round in 0..20_000 {
        tell(&mut registry, 0, vec![busy(round)]);
    }
    let before = registry.published().clone();
    tell(&mut registry, 0, vec![Update::Remove(id(&names[7])), Update::Add(pool("east/s/new/80", &[9]))]);
    let told = |snapshot: &Snapshot| {
        let changes = snapshot.changes_since(first.revision()).unwrap();
        let changed = changes.changed.iter().map(|it| it.id.to_string()).collect::<Vec<_>>();
        (changed, ids(&changes.removed).join(" "))
    };
    let [seven, ten, eleven, twelve] = [7, 10, 11, 12].map(|number| names[number].clone());
    assert_eq!(told(&before), (vec![ten.clone(), eleven.clone(), twelve.clone(), seven.clone()], String::new()));
    assert_eq!(told(registry.published()), (vec!["east/s/new/80".into(), ten, eleven, twelve], seven));
    assert!(before.changes_since(before.revision()).unwrap().changed.is_empty());
    let of = [&names[20], &names[12], &names[7], &names[12]].map(|name| id(name));
    let among = registry.published().changes_among(&of, first.revision()).unwrap();
    assert_eq!(
        (among.changed.len(), among.changed[0].id.as_str(), ids(&among.removed)),
        (1, &*names[12], vec![&*names[7]])
    );
}

#[test]
fn removals_that_are_too_long_ago_are_forgotten_and_said_to_be() {
    let mut registry = registry(vec![]);
    let name = |number: usize| format!("east/s/p{number}/80");
    let pools: Vec<_> = (0..=MAX_REMOVED).map(|number| pool(&name(number), &[])).collect();
    let first = tell(&mut registry, 0, vec![Update::Reset(pools)]).unwrap().snapshot.revision();
    let one = tell(&mut registry, 0, vec![Update::Remove(id(&name(0)))]).unwrap().snapshot;
    assert!(one.changes_since(first).is_some());
    let rest = (1..=MAX_REMOVED).map(|number| Update::Remove(id(&name(number)))).collect();
    let snapshot = tell(&mut registry, 0, rest).unwrap().snapshot;
    assert!(snapshot.changes_since(first).is_none());
    assert_eq!(snapshot.changes_since(one.revision()).unwrap().removed.len(), MAX_REMOVED);
}

#[test]
fn an_endpoint_that_stops_taking_requests_is_urgent_and_one_that_comes_is_not() {
    let mut registry = registry(vec![]);
    tell(&mut registry, 0, vec![Update::Reset(vec![pool("east/s/a/80", &[1, 2])])]);
    let mut apply = |content: PoolContent| {
        registry.apply(0, SourceEvent::Pools(vec![Update::Add(content)]), at(2));
        let urgent = registry.is_urgent();
        registry.publish();
        urgent
    };
    assert!(!apply(pool("east/s/a/80", &[1, 2, 3])));
    let mut draining = pool("east/s/a/80", &[1, 2, 3]);
    let drained = |it: &Endpoint| Endpoint { state: EndpointState::Draining, ..it.clone() };
    draining.endpoints = draining.endpoints.iter().map(drained).collect();
    assert!(apply(draining));
    assert!(!apply(pool("east/s/a/80", &[1, 2, 3])));
    assert!(apply(pool("east/s/a/80", &[1])));
}

#[test]
fn policies_make_pools_of_their_generation_and_a_list_of_them_is_all_of_them() {
    let mut registry = registry(vec![]);
    tell(&mut registry, 0, vec![Update::Reset(vec![pool("east/s/a/80", &[1]), pool("east/s/b/80", &[2])])]);
    let policy = |name: &str, generation, member: &str| Join {
        traffic_generation: Some(generation),
        ..join(name, &[(member, 100, 0)])
    };
    let joins = vec![policy("app/s/x/http", 1, "east/s/a/80"), policy("app/s/y/http", 1, "east/s/a/80")];
    registry.apply(0, SourceEvent::Joins(vec![JoinUpdate::Reset(joins)]), at(2));
    registry.publish();
    assert_eq!(addresses(registry.published(), "app/s/x/http").unwrap(), ["1"]);
    let switched = JoinUpdate::Add(policy("app/s/x/http", 2, "east/s/b/80"));
    registry.apply(0, SourceEvent::Joins(vec![switched.clone()]), at(3));
    assert!(registry.is_urgent(), "a switch does not wait");
    registry.publish();
    let pool = registry.published().pool("app/s/x/http").unwrap().clone();
    assert_eq!((pool.traffic_generation, pool.endpoints[0].address), (Some(2), IpAddr::from([10, 0, 0, 2])));
    let JoinUpdate::Add(kept) = switched else { unreachable!() };
    registry.apply(0, SourceEvent::Joins(vec![JoinUpdate::Reset(vec![kept])]), at(4));
    let published = registry.publish().unwrap();
    assert_eq!(ids(&published.changed), ["app/s/y/http"]);
    assert!(published.snapshot.pool("app/s/y/http").is_none());
}

#[test]
fn who_is_there_for_some_requests_is_beside_the_pool_and_not_in_it_and_follows_its_own_pool() {
    let mut registry = registry(vec![]);
    tell(&mut registry, 0, vec![Update::Reset(vec![pool("east/s/a/80", &[1]), pool("east/s/b/80", &[2])])]);
    let requests = serde_json::from_str(r#"{"headers":[{"name":"x-canary","values":["yes"]}]}"#).unwrap();
    let rule = Rule { pool: id("east/s/b/80"), requests };
    let policy = |generation, matched: &[Rule]| {
        let joined = join("app/s/x/http", &[("east/s/a/80", 100, 0)]);
        JoinUpdate::Add(Join { traffic_generation: Some(generation), matched: matched.to_vec(), ..joined })
    };
    let say = |registry: &mut Registry, update| {
        registry.apply(0, SourceEvent::Joins(vec![update]), at(2));
        registry.publish().unwrap()
    };
    say(&mut registry, policy(1, std::slice::from_ref(&rule)));
    let look = |registry: &Registry| {
        let pool = registry.published().pool("app/s/x/http").unwrap().clone();
        let parts: Vec<usize> = pool.matched.iter().map(|it| it.endpoints.len()).collect();
        (addresses(registry.published(), "app/s/x/http").unwrap(), parts)
    };
    assert_eq!(look(&registry), (vec!["1".to_owned()], vec![1]));
    let published = tell(&mut registry, 0, vec![Update::Add(pool("east/s/b/80", &[2, 3]))]).unwrap();
    assert_eq!(ids(&published.changed), ["east/s/b/80", "app/s/x/http"]);
    assert_eq!(look(&registry), (vec!["1".to_owned()], vec![2]));
    // Nobody else is ready: what is for some requests does not stand in.
    tell(&mut registry, 0, vec![Update::Add(pool("east/s/a/80", &[]))]);
    assert_eq!(look(&registry), (vec![], vec![2]));
    let published = say(&mut registry, policy(2, &[]));
    assert_eq!((ids(&published.changed), look(&registry).1), (vec!["app/s/x/http"], vec![]));
}

#[test]
fn an_id_that_two_sources_claim_stays_with_the_first_and_goes_to_the_other_when_it_leaves() {
    let shards = ["one", "two"].map(|name| Shard::new(name.into(), None));
    let mut registry = Registry::new(shards.into(), vec![], HOLD, None);
    tell(&mut registry, 0, vec![Update::Reset(vec![pool("p", &[1])])]);
    let published = tell(&mut registry, 1, vec![Update::Reset(vec![pool("p", &[2])])]).unwrap();
    assert_eq!(addresses(&published.snapshot, "p").unwrap(), ["1"]);
    let published = tell(&mut registry, 0, vec![Update::Remove(id("p"))]).unwrap();
    assert_eq!(addresses(&published.snapshot, "p").unwrap(), ["2"]);
}

#[test]
fn a_start_without_sources_serves_what_was_kept_and_says_that_it_is_stale() {
    let mut before = registry(vec![]);
    tell(&mut before, 0, vec![Update::Reset(vec![pool("east/s/a/80", &[1, 2])])]);
    let policy = Join { traffic_generation: Some(3), ..join("app/s/x/http", &[("east/s/a/80", 1, 0)]) };
    before.apply(0, SourceEvent::Joins(vec![JoinUpdate::Add(policy)]), at(1));
    let kept = before.keep();
    assert_eq!(kept.len(), 1, "a source that never said anything has nothing to keep");

    let mut after = registry(vec![]);
    assert!(!after.published().knows_absence_of("east/s/a/80"));
    kept.into_iter().for_each(|shard| after.restore(shard, at(100)));
    let snapshot = after.publish().unwrap().snapshot;
    assert_eq!(addresses(&snapshot, "east/s/a/80").unwrap(), ["1", "2"]);
    assert_eq!(snapshot.pool("app/s/x/http").unwrap().traffic_generation, Some(3));
    let status = &snapshot.shards()[0].status;
    assert_eq!((status.loaded, status.is_fresh(), status.synced_at), (true, false, Some(at(1))));
    assert!(!snapshot.is_loaded(), "the other cluster is not known");
    assert!(snapshot.knows_absence_of("east/s/zzz/80") && !snapshot.knows_absence_of("west/s/a/80"));
}

/// The quickest of many publications of one change in a registry with so many pools of ten endpoints.
fn cost_of_a_change(pools: usize) -> Duration {
    let mut registry = registry(vec![]);
    let name = |number: usize| format!("east/s/p{number}/80");
    let all = (0..pools).map(|number| pool(&name(number), &[1, 2, 3, 4, 5, 6, 7, 8, 9, 10])).collect();
    tell(&mut registry, 0, vec![Update::Reset(all)]);
    let change = |round: u8| {
        let update = Update::Add(pool(&name(usize::from(round) % pools), &[11, 12, round]));
        let began = std::time::Instant::now();
        let published = tell(&mut registry, 0, vec![update]).unwrap();
        let took = began.elapsed();
        assert_eq!(published.changed.len(), 1);
        took
    };
    (20..120).map(change).min().unwrap()
}

#[test]
fn a_change_costs_the_same_whatever_else_there_is() {
    let (few, many) = (cost_of_a_change(100), cost_of_a_change(10_000));
    println!("one change among 1 000 endpoints: {few:?}, among 100 000: {many:?}");
    // A hundred times as many: whatever grew with them would take far longer than ten times as long.
    assert!(many < few * 10, "{few:?} {many:?}");
}
