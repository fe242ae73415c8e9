//! IPVS: virtual servers from the configuration or from labelled Services, their real servers from pools; and what a real
//! server behind direct routing needs (`tidegate lvs-realserver`).
//!
//! ```text
//! View, markers ──▶ desired: virtual servers, weights, what drains ──▶ keepalived's file ──▶ check, rename, reload
//!                                                                 └──▶ the kernel by netlink, message by message
//! ```
//!
//! A real server that drains, or is gone, has the weight 0 for a time: it takes no new connections and keeps those that it
//! has. Then it is removed. A virtual server without one has its sorry server.

pub mod desired;
mod ipvs;
mod keepalived;
mod kernel;
mod markers;
mod netlink;
pub mod realserver;

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::watch;

use self::desired::{Desired, Drains, desired};
use crate::base::backoff::{Backoff, random};
use crate::base::drain::Drain;
use crate::base::readiness::Gate;
use crate::net::fetch::FetchError;
use crate::pull::{Acknowledged, Applied, Pull, PullConfig, View};
use crate::render::{Apply, TemplateConfig};

/// A virtual server and how it is made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VirtualServer {
    /// Its address.
    pub address: IpAddr,
    /// Its port.
    pub port: u16,
    /// Over what.
    pub transport: Transport,
    /// The pool of its real servers.
    pub pool: String,
    /// IPVS' name of how one is chosen, as `wrr`.
    pub scheduler: String,
    /// How packets reach it.
    pub forwarding: Forwarding,
    /// How long one client stays with one real server; 0 for not at all.
    pub persistence_seconds: u32,
    /// Who answers where there is no real server.
    pub sorry: Option<SocketAddr>,
    /// How keepalived looks whether a real server is well.
    pub check: Check,
}

/// What is spoken below the application.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Transport {
    /// TCP.
    #[default]
    Tcp,
    /// UDP.
    Udp,
}

/// How packets reach a real server.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Forwarding {
    /// On the same link, with the virtual address as it is; ports cannot change.
    #[default]
    Direct,
    /// With another destination, and back through here.
    Masquerade,
    /// In IP.
    Tunnel,
}

/// How a real server is checked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Check {
    /// By a connection.
    #[default]
    Tcp,
    /// Not at all: the pool says who is ready.
    None,
}

/// Where virtual servers come from.
#[derive(Clone, Debug, Default)]
pub struct LvsConfig {
    /// Those of the configuration.
    pub servers: Vec<VirtualServer>,
    /// What those of labelled Services are made with; `None` where they are not looked for.
    pub markers: Option<VirtualServer>,
    /// How long a real server that is gone stays with the weight 0.
    pub linger: Duration,
}

/// keepalived's file.
#[derive(Clone, Debug)]
pub struct KeepalivedConfig {
    /// The file; keepalived's own configuration includes it.
    pub output: PathBuf,
    /// Says whether it is good, as for a template.
    pub check: Vec<String>,
    /// Makes keepalived read it.
    pub reload: Vec<String>,
    /// For either command.
    pub command_timeout: Duration,
}

/// Who is fed.
#[derive(Clone, Debug)]
pub enum Balancer {
    /// keepalived, by its file.
    Keepalived(KeepalivedConfig),
    /// The kernel, by netlink.
    Kernel,
}

/// Why it ended.
#[derive(Debug, thiserror::Error)]
pub enum LvsError {
    /// The pull client's configuration.
    #[error(transparent)]
    Pull(#[from] FetchError),
    /// There is no virtual server, and none is looked for.
    #[error(
        "no virtual server: add a [[virtual_server]], or leave lvs.services on and label Services with {}",
        markers::ADDRESS
    )]
    Nothing,
    /// The kernel has no IPVS, or does not let this process change it.
    #[error(transparent)]
    Kernel(#[from] kernel::KernelError),
}

// === impl VirtualServer ===

impl Default for VirtualServer {
    fn default() -> Self {
        Self {
            address: Ipv4Addr::UNSPECIFIED.into(),
            port: 0,
            transport: Transport::Tcp,
            pool: String::new(),
            scheduler: "wrr".to_owned(),
            forwarding: Forwarding::Direct,
            persistence_seconds: 0,
            sorry: None,
            check: Check::Tcp,
        }
    }
}

/// Where what is desired goes.
enum Target {
    File(Box<Apply>, Option<(String, Instant)>),
    Kernel(kernel::Kernel),
}

/// A file that was refused is tried again after this, though it is the same.
const RETRY: Duration = Duration::from_secs(30);

/// Feeds a balancer until it is asked to end. What it has then, it keeps; `drains` has what finishes its connections, also
/// for the next run. `served` goes when it has its pools.
///
/// # Errors
/// The configuration does not serve, or the kernel has no IPVS.
pub async fn run(
    pull: PullConfig,
    config: LvsConfig,
    balancer: Balancer,
    drains: &mut Drains,
    served: &mut Option<Gate>,
    drain: Drain,
) -> Result<(), LvsError> {
    if config.servers.is_empty() && config.markers.is_none() {
        return Err(LvsError::Nothing);
    }
    let target = match balancer {
        Balancer::Kernel => Target::Kernel(kernel::Kernel::open()?),
        Balancer::Keepalived(file) => {
            let template = TemplateConfig {
                template: PathBuf::new(),
                output: file.output,
                check: file.check,
                reload: file.reload,
                reload_key: None,
                mode: 0o644,
                command_timeout: file.command_timeout,
            };
            Target::File(Box::new(Apply::new(&template)), None)
        }
    };
    let mut pull = Pull::start(pull, false)?;
    let (marked, marks) = watch::channel(None);
    let looking = markers::follow(config.markers.clone(), pull.upstream.clone(), marked);
    tokio::select! {
        () = follow(&mut pull, &config, marks, target, (drains, served)) => {}
        () = looking => {}
        () = drain.requested() => {}
    }
    Ok(())
}

async fn follow(
    pull: &mut Pull,
    config: &LvsConfig,
    mut marks: watch::Receiver<Option<Arc<[VirtualServer]>>>,
    mut target: Target,
    (drains, served): (&mut Drains, &mut Option<Gate>),
) {
    let mut backoff = Backoff::new(Duration::from_millis(500), Duration::from_secs(30));
    let (mut view, mut wake): (Option<Arc<View>>, Option<Instant>) = (None, None);
    let mut said = None;
    loop {
        let sleep = async {
            match wake {
                Some(at) => tokio::time::sleep_until(at.into()).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            next = pull.next() => match next {
                Some(next) => view = Some(next),
                None => return,
            },
            changed = marks.changed() => if changed.is_err() { return },
            () = sleep => {}
        }
        let Some(view) = &view else { continue };
        let marked = match (&config.markers, marks.borrow_and_update().clone()) {
            // Without them, virtual servers that were marked before would be taken away.
            (Some(_), None) => continue,
            (_, marked) => marked.unwrap_or_default(),
        };
        let now = Instant::now();
        let servers: Vec<VirtualServer> = config.servers.iter().chain(marked.iter()).cloned().collect();
        let Desired { servers, problems } = desired(&servers, view, drains, config.linger, now);
        let applied = target.apply(&servers).await;
        wake = drains.next_end();
        let trouble = match applied {
            Ok(()) => {
                backoff.reset();
                None
            }
            Err(why) => {
                let again = now + backoff.next(random());
                wake = Some(wake.map_or(again, |at| at.min(again)));
                Some(why)
            }
        };
        let trouble = trouble.or_else(|| problems.into_iter().next());
        if said != trouble {
            if let Some(why) = &trouble {
                tracing::error!(why, "virtual servers are not all what they should be");
            }
            said.clone_from(&trouble);
        }
        let pools = servers.iter().filter_map(|it| view.pools.get(&it.virtual_server.pool));
        if trouble.is_none() {
            drop(served.take());
        }
        let applied = match &trouble {
            None => pools.map(|pool| (pool.id.clone(), Applied::of(pool))).collect(),
            Some(_) => pull.acks.told().applied,
        };
        pull.acks.tell(Acknowledged { applied, error: trouble });
    }
}

// === impl Target ===

impl Target {
    async fn apply(&mut self, servers: &[desired::Balanced]) -> Result<(), String> {
        match self {
            Self::Kernel(kernel) => kernel.apply(servers).map_err(|error| error.to_string()),
            Self::File(apply, refused) => {
                let text = keepalived::text(servers);
                if refused.as_ref().is_some_and(|(before, at)| *before == text && at.elapsed() < RETRY) {
                    return Err(format!("{}: was refused, see the log; it is tried again", apply.output().display()));
                }
                *refused = None;
                match apply.apply(&text, true).await {
                    Ok(_) => Ok(()),
                    Err(error) => {
                        *refused = Some((text, Instant::now()));
                        Err(error.to_string())
                    }
                }
            }
        }
    }
}
