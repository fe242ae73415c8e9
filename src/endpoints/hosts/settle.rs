//! Who has each host. Pure.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::{Claim, Conflict, HostTable};
use crate::endpoints::pool::Renderings;

/// The namespace that has each host; `None` for the operator's own.
pub(crate) type Owners = BTreeMap<Arc<str>, Option<Arc<str>>>;

/// Settles claims. `owners` are those of before, who keep what they still claim; it is brought up to date.
pub(crate) fn settle<'a>(claims: impl Iterator<Item = &'a Claim>, owners: &mut Owners) -> HostTable {
    let mut by_host: BTreeMap<&Arc<str>, BTreeSet<&Claim>> = BTreeMap::new();
    for claim in claims {
        by_host.entry(&claim.at.host).or_default().insert(claim);
    }
    let before = std::mem::take(owners);
    let (mut granted, mut conflicts) = (Vec::new(), Vec::new());
    for (host, claims) in by_host {
        let owner = owner(&claims, before.get(host));
        owners.insert(host.clone(), owner.clone());
        let mut paths: BTreeMap<&Arc<str>, Vec<&Claim>> = BTreeMap::new();
        for claim in claims {
            if claim.namespace == owner {
                paths.entry(&claim.at.path_prefix).or_default().push(claim);
            } else {
                let taken_by = owner.clone().unwrap_or_else(|| "the operator".into());
                conflicts.push(Conflict { claim: claim.clone(), taken_by });
            }
        }
        for mut claims in paths.into_values() {
            claims.sort_by(|one, other| (one.since, &one.pool).cmp(&(other.since, &other.pool)));
            let Some((first, others)) = claims.split_first() else { continue };
            granted.push((*first).clone());
            let lost = others.iter().filter(|other| other.pool != first.pool);
            conflicts
                .extend(lost.map(|other| Conflict { claim: (*other).clone(), taken_by: first.pool.as_str().into() }));
        }
    }
    let tag = tag(&granted, &conflicts);
    HostTable {
        revision: 0,
        settled: true,
        unheard: Vec::new(),
        granted,
        conflicts,
        tag,
        renderings: Renderings::default(),
    }
}

fn owner(claims: &BTreeSet<&Claim>, before: Option<&Option<Arc<str>>>) -> Option<Arc<str>> {
    if claims.iter().any(|claim| claim.namespace.is_none()) {
        return None;
    }
    let keeps = before.filter(|before| claims.iter().any(|claim| claim.namespace == **before));
    let oldest = || {
        let claims =
            claims.iter().min_by(|one, other| (one.since, &one.namespace).cmp(&(other.since, &other.namespace)));
        claims.and_then(|claim| claim.namespace.clone())
    };
    keeps.cloned().unwrap_or_else(oldest)
}

fn tag(granted: &[Claim], conflicts: &[Conflict]) -> String {
    let mut context = ring::digest::Context::new(&ring::digest::SHA256);
    let mut part = |claim: &Claim, taken_by: &str| {
        let namespace = claim.namespace.as_deref().unwrap_or_default();
        for text in [&*claim.at.host, &*claim.at.path_prefix, claim.pool.as_str(), namespace, taken_by] {
            context.update(text.as_bytes());
            context.update(b"\n");
        }
    };
    granted.iter().for_each(|claim| part(claim, ""));
    conflicts.iter().for_each(|conflict| part(&conflict.claim, &conflict.taken_by));
    crate::endpoints::hub::wire::hex(context.finish().as_ref())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::endpoints::hosts::HostPath;
    use crate::endpoints::pool::PoolId;

    fn claim(at: &str, pool: &str, since: u64) -> Claim {
        let namespace = pool.split('/').nth(1).map(Into::into);
        Claim { at: HostPath::parse(at).unwrap(), pool: PoolId::parse(pool).unwrap(), namespace, since }
    }

    fn table(claims: &[Claim], owners: &mut Owners) -> (Vec<String>, Vec<String>) {
        let table = settle(claims.iter(), owners);
        let granted = table.granted.iter().map(|it| format!("{} {}", it.at, it.pool)).collect();
        let refused = table.conflicts.iter().map(|it| format!("{} {} {}", it.claim.at, it.claim.pool, it.taken_by));
        (granted, refused.collect())
    }

    #[test]
    fn a_host_belongs_to_the_oldest_claim_with_all_its_paths() {
        let claims = [claim("a.example/api", "east/late/x/http", 9), claim("a.example", "east/early/y/http", 5)];
        let (granted, refused) = table(&claims, &mut Owners::new());
        assert_eq!(granted, ["a.example east/early/y/http"]);
        assert_eq!(refused, ["a.example/api east/late/x/http early"]);
    }

    #[test]
    fn who_has_a_host_keeps_it_against_an_older_object_that_claims_it_later() {
        let mut owners = Owners::new();
        let mine = claim("a.example", "east/shop/y/http", 9);
        table(std::slice::from_ref(&mine), &mut owners);
        let (granted, refused) = table(&[claim("a.example", "east/thief/x/http", 1), mine], &mut owners);
        assert_eq!((granted.as_slice(), refused.len()), (&["a.example east/shop/y/http".to_owned()][..], 1));
        let (granted, refused) = table(&[claim("a.example", "east/thief/x/http", 1)], &mut owners);
        assert_eq!(
            (granted.as_slice(), refused.len()),
            (&["a.example east/thief/x/http".to_owned()][..], 0),
            "it was given up"
        );
    }

    #[test]
    fn the_operator_comes_before_all_and_one_path_has_one_pool() {
        let mut operators = claim("a.example", "vm/a", 0);
        operators.namespace = None;
        let claims = [claim("a.example", "east/shop/y/http", 1), operators];
        assert_eq!(table(&claims, &mut Owners::new()).0, ["a.example vm/a"]);
        let claims = [claim("a.example", "west/shop/y/http", 2), claim("a.example", "east/shop/y/http", 1)];
        let (granted, refused) = table(&claims, &mut Owners::new());
        assert_eq!(granted, ["a.example east/shop/y/http"]);
        assert_eq!(refused, ["a.example west/shop/y/http east/shop/y/http"]);
    }

    #[test]
    fn the_tag_depends_on_content_alone() {
        let claims = [claim("a.example", "east/a/y/http", 1), claim("b.example", "east/b/y/http", 2)];
        let swapped = [claims[1].clone(), claims[0].clone()];
        let tag = |claims: &[Claim]| settle(claims.iter(), &mut Owners::new()).tag;
        assert_eq!(tag(&claims), tag(&swapped));
        assert_ne!(tag(&claims), tag(&claims[..1]));
    }
}
