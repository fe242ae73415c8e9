//! What the control component is told.

use std::path::PathBuf;
use std::time::Duration;

use crate::net::fetch::Credentials;

/// `[control]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ControlConfig {
    /// The cluster that its resources live in, as data planes name it: the first part of its pools' ids.
    pub cluster: String,
    /// How to reach it; absent: from inside it.
    pub kubeconfig: Option<PathBuf>,
    /// Other clusters that its Apps may run in.
    pub members: Vec<MemberConfig>,
    /// The namespaces whose Apps it deploys; empty for all.
    pub namespaces: Vec<String>,
    /// The Lease by which one of several instances leads: its namespace and its name.
    pub lease: (String, String),
    /// Hubs and data planes that publish its pools, and to whom gateways acknowledge them. At least one.
    pub hubs: Vec<HubConfig>,
    /// Gateways that must acknowledge every switch, whether they asked lately or not.
    pub required_gateways: Vec<String>,
    /// The Prometheus that metric gates ask.
    pub prometheus: Option<String>,
    /// The hosts that webhook gates may ask: a name, or `*.` and the end of names.
    pub egress_allow: Vec<String>,
    /// For one answer of the API server.
    pub api_timeout: Duration,
    /// A switch that is not acknowledged for so long pauses its release.
    pub acknowledge_timeout: Duration,
}

/// A cluster that Apps may run in, beside the one that they live in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MemberConfig {
    /// As data planes name it, and Apps in their `clusters`.
    pub name: String,
    /// How to reach it.
    pub kubeconfig: PathBuf,
}

/// One of the hubs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HubConfig {
    /// Its address, as `http://HOST:PORT`.
    pub url: String,
    /// What is shown to it, and trusted.
    pub credentials: Credentials,
}
