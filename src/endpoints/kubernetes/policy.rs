//! TrafficPolicy objects: the joined pools that deploys switch.

use serde::Deserialize;

use super::object::Metadata;
use crate::endpoints::join::{Join, Member};
use crate::endpoints::pool::PoolId;

/// Where TrafficPolicies are served.
pub(super) const GROUP_VERSION: &str = "tidegate.dev/v1alpha1";

/// A TrafficPolicy as it is read.
#[derive(Clone, Debug, Deserialize)]
pub(super) struct PolicyObject {
    /// As of every object; its generation is the identity of a switch.
    pub metadata: Metadata,
    /// What is wished.
    pub spec: PolicySpec,
}

/// What a TrafficPolicy wishes.
#[derive(Clone, Debug, Deserialize)]
pub(super) struct PolicySpec {
    /// The last part of the pool's id: the name or number of the application's port.
    pub port: Port,
    /// What the pool is made from.
    pub members: Vec<PolicyMember>,
    /// Endpoints of one's own zone first.
    #[serde(rename = "preferZone", default)]
    pub prefer_zone: bool,
}

/// A port by name or by number.
#[derive(Clone, Debug, Deserialize)]
#[serde(untagged)]
pub(super) enum Port {
    /// As `http`.
    Name(String),
    /// As `8080`.
    Number(u16),
}

/// One part of the pool.
#[derive(Clone, Debug, Deserialize)]
pub(super) struct PolicyMember {
    /// A pool's id.
    pub pool: String,
    /// Its part of the traffic.
    #[serde(default)]
    pub share: u32,
    /// The lowest that is not empty serves.
    #[serde(default)]
    pub priority: u32,
    /// Which requests it is for. Only a gateway that sees requests can tell: such a member has no part of the rest.
    #[serde(rename = "match", default)]
    pub matches: Option<serde_json::Value>,
}

/// More members than any deploy has.
const MAX_MEMBERS: usize = 64;

// === impl PolicyObject ===

impl super::watch::Object for PolicyObject {
    fn metadata(&self) -> &Metadata {
        &self.metadata
    }
}

impl PolicyObject {
    /// The id of the pool that it makes.
    ///
    /// # Errors
    /// The port is none that can stand in an id.
    pub(super) fn pool_id(&self) -> Result<PoolId, String> {
        let Metadata { namespace, name, .. } = &self.metadata;
        let port = match &self.spec.port {
            Port::Name(port) => port.clone(),
            Port::Number(port) => port.to_string(),
        };
        PoolId::parse(&format!("app/{namespace}/{name}/{port}")).map_err(|error| format!("spec.port {port:?} {error}"))
    }

    /// The pool that it makes.
    ///
    /// # Errors
    /// Its members are none, too many, or not pools' ids.
    pub(super) fn join(&self) -> Result<Join, String> {
        if self.spec.members.is_empty() || self.spec.members.len() > MAX_MEMBERS {
            return Err(format!("spec.members has {} entries: give 1 to {MAX_MEMBERS}", self.spec.members.len()));
        }
        let unmatched = self.spec.members.iter().filter(|member| member.matches.is_none());
        let member = |member: &PolicyMember| {
            let pool =
                PoolId::parse(&member.pool).map_err(|error| format!("spec.members: {:?} {error}", member.pool))?;
            Ok(Member { pool, share: member.share, priority: member.priority })
        };
        Ok(Join {
            id: self.pool_id()?,
            members: unmatched.map(member).collect::<Result<_, String>>()?,
            prefer_zone: self.spec.prefer_zone,
            traffic_generation: Some(self.metadata.generation),
            namespace: Some(self.metadata.namespace.as_str().into()),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn policy(spec: &str) -> PolicyObject {
        let text = format!(
            r#"{{"metadata":{{"name":"checkout","namespace":"shop","generation":7,"managedFields":[{{"x":1}}]}},"spec":{spec}}}"#
        );
        serde_json::from_str(&text).unwrap()
    }

    #[test]
    fn a_policy_is_a_joined_pool_of_its_generation() {
        let join = policy(
            r#"{"port":"http","members":[{"pool":"east/shop/a/http","share":90},{"pool":"east/shop/b/http","share":10},
                {"pool":"east/shop/b/http","share":0,"match":{"header":"x"}}]}"#,
        )
        .join()
        .unwrap();
        assert_eq!((join.id.as_str(), join.traffic_generation), ("app/shop/checkout/http", Some(7)));
        let members: Vec<_> = join.members.iter().map(|it| (it.pool.as_str(), it.share)).collect();
        assert_eq!(
            members,
            [("east/shop/a/http", 90), ("east/shop/b/http", 10)],
            "a matched member has no part of the rest"
        );
    }

    #[test]
    fn a_policy_that_makes_no_pool_says_why() {
        assert!(policy(r#"{"port":8080,"members":[]}"#).join().unwrap_err().contains("spec.members has 0"));
        let bad = policy(r#"{"port":8080,"members":[{"pool":"a b"}]}"#);
        assert!(bad.join().unwrap_err().contains("\"a b\""));
        assert_eq!(bad.pool_id().unwrap().as_str(), "app/shop/checkout/8080");
    }
}
