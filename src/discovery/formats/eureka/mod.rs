//! Eureka: pools as applications with instances, in the shapes that its JVM client parses.
//!
//! An application is named after the service, in capitals; which one a pool belongs to depends on its id alone:
//!
//! | id | application |
//! |---|---|
//! | `checkout` | `CHECKOUT` |
//! | `east/shop/checkout/http`, `…/8080` (a port without a name) | `CHECKOUT` |
//! | `east/shop/checkout/grpc`, and `…/http/ipv6` | `CHECKOUT-GRPC`, `CHECKOUT-IPV6` |
//! | `vm/checkout` | `CHECKOUT` |
//!
//! Where several pools have one name, a pool whose id is that name alone stands for all of them, because somebody joined it
//! on purpose; else one that a TrafficPolicy makes (`app/…`). Pools of one service in several clusters, namespace and port
//! the same, are one application, as everywhere in Kubernetes. Any others of one name are refused: two services of
//! different namespaces joined would get each other's requests, and leaving one out would empty it; a client of Eureka
//! that is refused keeps what it has.
//!
//! The hash code counts instances by status, `STATUS_COUNT_` for each status in alphabetical order. A client computes it
//! of what it has after each delta, and fetches everything if it differs.

pub(in crate::discovery) mod instance;

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::Arc;

use self::instance::{Action, Instance};
use crate::endpoints::pool::{Endpoint, Pool, PoolId, Protocol};

/// Applications by name, each with its pools.
pub(in crate::discovery) type Apps = BTreeMap<String, Vec<Arc<Pool>>>;

/// Two pools that would be one application although they are not one service.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "the pools {one} and {other} would both be the application {app}: join them as the pool {}, ask under \
     /eureka/namespaces/NAMESPACE, or use a token whose scope has one of them",
    .app.to_lowercase()
)]
pub(in crate::discovery) struct AppCollision {
    app: String,
    one: PoolId,
    other: PoolId,
}

/// What decides between pools of one name; the lowest stands for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Rank {
    Named,
    Policy,
    Plain,
}

/// The application of a pool.
pub(in crate::discovery) fn app_of(id: &PoolId) -> String {
    let (id, family) = match id.as_str().strip_suffix("/ipv6") {
        Some(id) => (id, "-ipv6"),
        None => (id.as_str(), ""),
    };
    let parts: Vec<&str> = id.split('/').collect();
    let name = match parts.as_slice() {
        [_, _, service, port] if *port == "http" || port.bytes().all(|byte| byte.is_ascii_digit()) => {
            Cow::Borrowed(*service)
        }
        [_, _, service, port] => Cow::Owned(format!("{service}-{port}")),
        [.., last] => Cow::Borrowed(*last),
        [] => Cow::Borrowed(id),
    };
    format!("{name}{family}").to_ascii_uppercase()
}

fn rank(id: &str) -> Rank {
    match id {
        id if !id.contains('/') => Rank::Named,
        id if id.starts_with("app/") => Rank::Policy,
        _ => Rank::Plain,
    }
}

/// What two pools of one application have in common: all of the id but the cluster.
fn service(id: &str) -> &str {
    match id.split_once('/') {
        Some((_, service)) if service.matches('/').count() >= 2 => service,
        _ => id,
    }
}

/// The applications that these pools, in the order of their ids, make up.
///
/// # Errors
/// Two services would be one application.
pub(in crate::discovery) fn apps(pools: Vec<Arc<Pool>>) -> Result<Apps, AppCollision> {
    let mut apps = Apps::new();
    for pool in pools {
        let has = apps.entry(app_of(&pool.id)).or_default();
        let Some(one) = has.first() else {
            has.push(pool);
            continue;
        };
        match rank(pool.id.as_str()).cmp(&rank(one.id.as_str())) {
            std::cmp::Ordering::Less => *has = vec![pool],
            std::cmp::Ordering::Greater => {}
            std::cmp::Ordering::Equal => has.push(pool),
        }
    }
    for (app, pools) in &apps {
        let mut ids = pools.iter().map(|pool| &pool.id);
        let Some(one) = ids.next() else { continue };
        if let Some(other) = ids.find(|other| service(other.as_str()) != service(one.as_str())) {
            return Err(AppCollision { app: app.clone(), one: one.clone(), other: other.clone() });
        }
    }
    Ok(apps)
}

/// An application's instances, each once, as their places in pools.
pub(in crate::discovery) fn instances(app: &str, pools: &[Arc<Pool>]) -> BTreeMap<String, Instance> {
    let mut instances = BTreeMap::new();
    for endpoint in pools.iter().flat_map(|pool| pool.endpoints.iter()).filter(|it| is_served(it)) {
        let instance = Instance::new(app, endpoint);
        instances.entry(instance.id().to_owned()).or_insert(instance);
    }
    instances
}

/// The hash code of all instances, by status.
pub(in crate::discovery) fn hash_code(apps: &Apps) -> String {
    let mut counts: BTreeMap<&'static str, usize> = BTreeMap::new();
    for (app, pools) in apps {
        match pools.as_slice() {
            [alone] => {
                for endpoint in alone.endpoints.iter().filter(|it| is_served(it)) {
                    *counts.entry(instance::status(endpoint)).or_default() += 1;
                }
            }
            several => {
                for instance in instances(app, several).values() {
                    *counts.entry(instance.status()).or_default() += 1;
                }
            }
        }
    }
    let mut code = String::new();
    for (status, count) in counts {
        // Writing to a string does not fail.
        let _ = write!(code, "{status}_{count}_");
    }
    code
}

/// Applications are spoken to over TCP.
fn is_served(endpoint: &Endpoint) -> bool {
    endpoint.protocol == Protocol::Tcp
}

/// A pool's instances in JSON, separated by commas.
pub(super) fn json(pool: &Pool) -> String {
    let app = app_of(&pool.id);
    let served = pool.endpoints.iter().filter(|it| is_served(it));
    served.map(|it| Instance::new(&app, it).json(Action::Added)).collect::<Vec<_>>().join(",")
}

/// A pool's instances in XML.
pub(super) fn xml(pool: &Pool) -> String {
    let app = app_of(&pool.id);
    let served = pool.endpoints.iter().filter(|it| is_served(it));
    served.map(|it| Instance::new(&app, it).xml(Action::Added)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::discovery::formats::tests::sample;

    fn grouped(ids: &[&str]) -> Result<Vec<(String, Vec<String>)>, String> {
        let apps = apps(ids.iter().map(|id| Arc::new(sample(id))).collect()).map_err(|error| error.to_string())?;
        let ids = |pools: Vec<Arc<Pool>>| pools.iter().map(|pool| pool.id.to_string()).collect();
        Ok(apps.into_iter().map(|(app, pools)| (app, ids(pools))).collect())
    }

    #[test]
    fn an_application_is_named_after_the_service() {
        for (id, app) in [
            ("checkout", "CHECKOUT"),
            ("east/shop/checkout/http", "CHECKOUT"),
            ("east/shop/checkout/8080", "CHECKOUT"),
            ("app/shop/checkout/http", "CHECKOUT"),
            ("east/shop/checkout/grpc", "CHECKOUT-GRPC"),
            ("east/shop/checkout/http/ipv6", "CHECKOUT-IPV6"),
            ("vm/checkout", "CHECKOUT"),
        ] {
            assert_eq!(app_of(&PoolId::parse(id).unwrap()), app, "{id}");
        }
    }

    #[test]
    fn one_service_of_several_clusters_is_one_application_and_different_services_are_refused() {
        let of = |ids: &[&str]| ids.iter().map(|id| (*id).to_owned()).collect::<Vec<_>>();
        let both = ["east/shop/checkout/http", "west/shop/checkout/http"];
        assert_eq!(grouped(&both).unwrap(), [("CHECKOUT".to_owned(), of(&both))]);
        let error = grouped(&["east/bill/api/http", "east/shop/api/http"]).unwrap_err();
        for named in ["east/bill/api/http", "east/shop/api/http", "API", "the pool api"] {
            assert!(error.contains(named), "{error}");
        }
        assert!(grouped(&["east/shop/checkout/http", "vm/checkout"]).is_err());
    }

    #[test]
    fn a_pool_that_somebody_made_stands_for_all_of_its_name() {
        let named = ["checkout", "east/shop/checkout/http", "vm/checkout", "app/shop/checkout/http"];
        assert_eq!(grouped(&named).unwrap(), [("CHECKOUT".to_owned(), vec!["checkout".to_owned()])]);
        let policy = ["app/shop/checkout/http", "east/shop/checkout/http", "east/bill/checkout/http"];
        assert_eq!(grouped(&policy).unwrap(), [("CHECKOUT".to_owned(), vec![policy[0].to_owned()])]);
    }

    #[test]
    fn the_hash_code_counts_each_instance_once_by_status() {
        let one = apps(vec![Arc::new(sample("east/shop/checkout/http"))]).unwrap();
        assert_eq!(hash_code(&one), "OUT_OF_SERVICE_1_UP_2_");
        let both =
            apps(["east", "west"].map(|it| Arc::new(sample(&format!("{it}/shop/checkout/http")))).into()).unwrap();
        assert_eq!(hash_code(&both), "OUT_OF_SERVICE_1_UP_2_", "the same addresses in both");
        assert_eq!(hash_code(&Apps::new()), "");
    }
}
