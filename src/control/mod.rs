//! Deploys: releases of applications are carried out step by step, and every switch of traffic is one generation of a
//! TrafficPolicy that data planes publish and gateways acknowledge.
//!
//! ```text
//! App, Release, Deployments, TrafficPolicy, hubs ─ observe ─▶ plan (pure) ─ apply ─▶ writes ─▶ … until there are none
//! ```
//!
//! An App may run in several clusters ([`plan::waves`]): what people say of it, and its traffic, is in the one that it lives in, and
//! what is made of it is in each.
//!
//! The controller looks at its caches; where they ask for a write, it reads everything again, uncached, plans again, and
//! writes what that says, as long as it leads ([`crate::kubernetes::lease`]). Every write carries the version that was
//! read, so that of two none is lost.

mod apply;
mod autoscale;
mod bundle;
pub mod children;
pub mod config;
mod controller;
mod disruption;
mod exposure;
mod fleet;
mod gate;
mod hubs;
mod leave;
mod logs;
mod member;
mod metrics;
mod observe;
pub mod plan;
mod queue;
pub mod resource;
mod stable;
mod standing;
mod store;
pub mod template;
mod times;
mod trouble;

use std::sync::Arc;

use self::apply::{Server, Writer};
use self::config::ControlConfig;
use self::controller::Controller;
use self::gate::Outside;
use self::hubs::Hubs;
use self::logs::Logs;
use self::member::Member;
use self::metrics::ControlMetrics;
use self::observe::Caches;
use self::store::{Dirty, Told};
use crate::base::drain::Drain;
use crate::base::readiness::Readiness;
use crate::kubernetes::lease::{self, LeaseConfig};
use crate::kubernetes::{self, WatchError};

/// Starts the control component; it ends with `drain`.
///
/// # Errors
/// A kubeconfig, or what a pod has in place of one, does not serve.
pub async fn start(config: ControlConfig, readiness: &Readiness, drain: &Drain) -> Result<(), WatchError> {
    let client = kubernetes::connect(config.kubeconfig.as_deref()).await?;
    let (namespace, name) = config.lease.clone();
    let leadership = lease::stand(client.clone(), LeaseConfig { namespace, name, identity: identity() }, drain);
    let dirty = Arc::new(Dirty::default());
    let told = Told::of(&config.cluster, &dirty);
    let caches = Caches::follow(&config, &told, readiness, drain);
    let writer = Writer {
        server: Server { client, patience: config.api_timeout },
        leadership: leadership.clone(),
        cluster: config.cluster.clone(),
    };
    let mut members = vec![Member::home(writer.clone(), caches.children.clone())];
    for member in &config.members {
        members.push(Member::follow(member, &config, leadership.clone(), &dirty, drain).await?);
    }
    let controller = Controller {
        caches,
        writer,
        members,
        hubs: Hubs::new(config.hubs.clone(), config.required_gateways.clone()),
        outside: Outside {
            allowed: config.egress_allow.clone(),
            prometheus: config.prometheus.clone(),
            ..Outside::default()
        },
        logs: Logs::default(),
        metrics: ControlMetrics::register(),
        dirty,
        config,
    };
    tokio::spawn(controller.run(leadership, drain.clone()));
    Ok(())
}

/// A name of this life of this process.
fn identity() -> String {
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let life = crate::base::backoff::random().to_bits();
    format!("{}_{}_{life:x}", host.trim(), std::process::id())
}
