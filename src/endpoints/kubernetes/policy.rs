//! TrafficPolicy objects: the joined pools that deploys switch.

use serde::{Deserialize, Deserializer};

use super::object::Metadata;
use crate::endpoints::hosts::{self, Claim};
use crate::endpoints::interner::Interner;
use crate::endpoints::join::{Join, Member};
use crate::endpoints::matched::Rule;
use crate::endpoints::pool::PoolId;
use crate::kubernetes::policy::{MAX_MEMBERS, TrafficPolicySpec};

/// Where TrafficPolicies are served.
pub(super) const GROUP_VERSION: &str = "tidegate.dev/v1alpha1";

/// A TrafficPolicy as it is read.
#[derive(Clone, Debug, Deserialize)]
pub(super) struct PolicyObject {
    /// As of every object; its generation is the identity of a switch.
    pub metadata: Metadata,
    /// What is wished, or why that cannot be understood: one bad policy must not end the watch of all.
    #[serde(deserialize_with = "understood", default = "nothing_wished")]
    pub spec: Result<TrafficPolicySpec, String>,
}

fn understood<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Result<TrafficPolicySpec, String>, D::Error> {
    let spec = serde_json::Value::deserialize(deserializer)?;
    Ok(TrafficPolicySpec::deserialize(spec).map_err(|error| format!("spec: {error}")))
}

fn nothing_wished() -> Result<TrafficPolicySpec, String> {
    Err("spec: missing".to_owned())
}

// === impl PolicyObject ===

impl super::watch::Object for PolicyObject {
    type Kept = Self;

    fn metadata(&self) -> &Metadata {
        &self.metadata
    }

    fn keep(self, _: &mut Interner) -> Self {
        self
    }
}

impl PolicyObject {
    /// The pool that it makes.
    ///
    /// # Errors
    /// Its spec is not understood, its port cannot stand in an id, or its members are none, too many, or not pools' ids.
    pub(super) fn join(&self) -> Result<Join, String> {
        let spec = self.spec.as_ref().map_err(String::clone)?;
        if spec.members.is_empty() || spec.members.len() > MAX_MEMBERS {
            return Err(format!("spec.members has {} entries: give 1 to {MAX_MEMBERS}", spec.members.len()));
        }
        let Metadata { namespace, name, .. } = &self.metadata;
        let port = spec.port.to_string();
        let id = PoolId::parse(&format!("app/{namespace}/{name}/{port}"));
        let (mut members, mut matched) = (Vec::new(), Vec::new());
        for member in &spec.members {
            let pool =
                PoolId::parse(&member.pool).map_err(|error| format!("spec.members: {:?} {error}", member.pool))?;
            // Who is there for some requests has a part of the others only where it is given one.
            if member.matches.is_none() || member.share > 0 {
                members.push(Member { pool: pool.clone(), share: member.share, priority: member.priority });
            }
            matched.extend(member.matches.clone().map(|requests| Rule { pool, requests }));
        }
        Ok(Join {
            id: id.map_err(|error| format!("spec.port {port:?} {error}"))?,
            members,
            matched,
            prefer_zone: spec.prefer_zone,
            traffic_generation: Some(self.metadata.generation),
            namespace: Some(self.metadata.namespace.as_str().into()),
        })
    }
}

/// The hosts that a policy claims for its pool; those that are none are told in the second list.
pub(super) fn claims(policy: &PolicyObject, join: &Join) -> (Vec<Claim>, Vec<String>) {
    let Ok(spec) = &policy.spec else { return (Vec::new(), Vec::new()) };
    let (hosts, bad) = hosts::parse(&spec.hosts.join(","));
    let claim =
        |at| Claim { at, pool: join.id.clone(), namespace: join.namespace.clone(), since: policy.metadata.created() };
    (hosts.into_iter().map(claim).collect(), bad)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kubernetes::policy::RequestMatch;

    fn policy(spec: &str) -> PolicyObject {
        let text = format!(
            r#"{{"metadata":{{"name":"checkout","namespace":"shop","generation":7,"managedFields":[{{"x":1}}]}},"spec":{spec}}}"#
        );
        serde_json::from_str(&text).unwrap()
    }

    #[test]
    fn a_policy_is_a_joined_pool_of_its_generation() {
        let join = policy(
            r#"{"port":"http","members":[{"pool":"east/shop/a/http","share":90},{"pool":"east/shop/b/http","share":10}]}"#,
        )
        .join()
        .unwrap();
        assert_eq!((join.id.as_str(), join.traffic_generation), ("app/shop/checkout/http", Some(7)));
        assert_eq!(members(&join), [("east/shop/a/http", 90), ("east/shop/b/http", 10)]);
        assert_eq!(join.matched, []);
    }

    fn members(join: &Join) -> Vec<(&str, u32)> {
        join.members.iter().map(|it| (it.pool.as_str(), it.share)).collect()
    }

    #[test]
    fn a_member_with_a_match_has_a_part_of_the_other_requests_only_by_a_share() {
        let join = policy(
            r#"{"port":"http","members":[{"pool":"a","share":90},
                {"pool":"b","match":{"headers":[{"name":"x-canary","values":["yes","on"]}]}},
                {"pool":"c","share":10,"match":{"cookies":[{"name":"beta","values":["1"]}]}}]}"#,
        )
        .join()
        .unwrap();
        assert_eq!(members(&join), [("a", 90), ("c", 10)]);
        let rules: Vec<_> = join.matched.iter().map(|it| format!("{}: {}", it.pool, it.requests)).collect();
        assert_eq!(rules, ["b: header x-canary=yes|on", "c: cookie beta=1"]);
        assert_eq!(join.pools().map(PoolId::as_str).collect::<Vec<_>>(), ["a", "c", "b", "c"]);
    }

    #[test]
    fn a_match_of_another_version_is_for_no_request_and_gets_none_of_the_others() {
        let join =
            policy(r#"{"port":"http","members":[{"pool":"a"},{"pool":"b","match":{"query":"x"}}]}"#).join().unwrap();
        assert_eq!(members(&join), [("a", 0)]);
        assert_eq!(join.matched[0].requests, RequestMatch::default());
    }

    #[test]
    fn a_policys_hosts_lead_to_its_pool() {
        let policy = policy(r#"{"port":"http","members":[{"pool":"a"}],"hosts":["shop.example/api","a b c:1"]}"#);
        let (claims, bad) = claims(&policy, &policy.join().unwrap());
        let claims: Vec<_> = claims.iter().map(|it| format!("{} {}", it.at, it.pool)).collect();
        assert_eq!(
            claims,
            ["a app/shop/checkout/http", "b app/shop/checkout/http", "shop.example/api app/shop/checkout/http"]
        );
        assert_eq!(bad.len(), 1);
    }

    #[test]
    fn a_policy_that_makes_no_pool_says_why() {
        assert!(policy(r#"{"port":8080,"members":[]}"#).join().unwrap_err().contains("spec.members has 0"));
        let bad = policy(r#"{"port":8080,"members":[{"pool":"a b"}]}"#);
        assert!(bad.join().unwrap_err().contains("\"a b\""));
        assert!(policy(r#"{"port":"a b","members":[{"pool":"a"}]}"#).join().unwrap_err().contains("spec.port \"a b\""));
        let numbered = policy(r#"{"port":8080,"members":[{"pool":"a"}]}"#).join().unwrap();
        assert_eq!(numbered.id.as_str(), "app/shop/checkout/8080");
    }

    #[test]
    fn a_policy_that_is_not_understood_is_read_all_the_same_and_makes_nothing() {
        for spec in ["null", "{}", r#"{"port":"http","members":"all"}"#, "7"] {
            assert!(policy(spec).join().unwrap_err().starts_with("spec"), "{spec}");
        }
        let none: PolicyObject = serde_json::from_str(r#"{"metadata":{"name":"checkout"}}"#).unwrap();
        assert_eq!(none.join().unwrap_err(), "spec: missing");
    }
}
