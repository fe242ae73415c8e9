//! What the registry and its sources are told.

use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use super::eureka::EurekaConfig;
use super::hosts::Claim;
use super::hub::HubConfig;
use super::join::Join;
use super::kubernetes::{KubernetesConfig, Place};
use super::pool::PoolId;

/// Everything that the registry runs from.
#[derive(Clone, Debug)]
pub struct EndpointsConfig {
    /// Where pools come from, in order: where two claim one id the first has it.
    pub sources: Vec<SourceConfig>,
    /// Pools that the configuration names itself.
    pub fixed: Vec<FixedPool>,
    /// Pools joined from others.
    pub joins: Vec<Join>,
    /// Hosts that the configuration names for pools.
    pub hosts: Vec<Claim>,
    /// Where this instance is.
    pub place: Place,
    /// When vanished endpoints are held.
    pub hold: HoldConfig,
    /// Where the last pools are kept for a start without sources; `None` keeps nothing.
    pub snapshot_file: Option<PathBuf>,
}

/// Where pools come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SourceConfig {
    /// A cluster.
    Kubernetes(KubernetesConfig),
    /// A file, watched.
    File(PathBuf),
    /// Another Tidegate.
    Hub(Arc<HubConfig>),
    /// A Eureka ring.
    Eureka(Arc<EurekaConfig>),
}

/// A pool with a fixed list of endpoints.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FixedPool {
    /// Its id.
    pub id: PoolId,
    /// Its endpoints.
    pub endpoints: Vec<FixedEndpoint>,
}

/// An endpoint as a person writes it down.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FixedEndpoint {
    /// Where.
    pub address: IpAddr,
    /// Which port.
    pub port: u16,
    /// Its part beside the others.
    pub weight: u32,
    /// Its zone.
    pub zone: Option<Arc<str>>,
}

/// When endpoints that vanished in a relist are held.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HoldConfig {
    /// A pool that loses more than this part of its ready endpoints at once is held. 100 holds nothing.
    pub max_drop_percent: u32,
    /// How long at most.
    pub max_age: Duration,
}
