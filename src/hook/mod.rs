//! `tidegate hook`: what is done for a pod beside its containers. The control component writes these commands into the pods
//! of an App that has `spec.hooks`.
//!
//! ```text
//! run      an init container:   beforeStart, to its end
//! serve    a sidecar:           waits for the application's port ─▶ beforeOnline ─▶ GET /online is 200
//! offline  the sidecar's preStop: POST /offline ─▶ beforeOffline, two refresh periods ─▶ GET /offline is answered, for which
//!                                                                     the preStop of the other containers waits
//! ```

mod attempt;
mod serve;
#[cfg(test)]
mod tests;

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use crate::control::resource::hooks::{Hook, Offline};
use crate::net::fetch::{Credentials, Fetcher};

/// The pod's address, as the API server tells it to its containers.
const POD_IP: &str = "POD_IP";
/// The kubelet ends what takes too long by the pod's grace period; this only ends what nobody would.
const LONG: Duration = Duration::from_secs(7_200);

/// What is asked for.
#[derive(Clone, Debug)]
pub enum Request {
    /// A hook is run to its end.
    Run(Hook),
    /// The sidecar.
    Serve(Serving),
    /// The sidecar at this port is told that its pod is to go; ends when it has done what there is to do.
    Offline {
        /// Its port.
        port: u16,
    },
}

/// What a sidecar does.
#[derive(Clone, Debug, Default)]
pub struct Serving {
    /// The port at which it is asked.
    pub port: u16,
    /// The application's, which must accept connections before the pod can be online; absent: not waited for.
    pub app_port: Option<u16>,
    /// What must end well before the pod is online.
    pub online: Option<Hook>,
    /// What is done when the pod is to go.
    pub offline: Option<Offline>,
}

/// Why it did not end well.
#[derive(Debug, thiserror::Error)]
pub enum HookError {
    /// The hook's time was over.
    #[error("{what} has not ended well within {} s, the last try: {why}", timeout.as_secs())]
    Failed {
        /// Which.
        what: &'static str,
        /// All of its time.
        timeout: Duration,
        /// What was wrong at last.
        why: String,
    },
    /// The variable that says the pod's address.
    #[error("POD_IP={0} is no address: the pod's container sets it from status.podIP")]
    Address(String),
    /// The sidecar did not do what it was told.
    #[error("the sidecar at {0}: {1}")]
    Sidecar(SocketAddr, String),
    /// Its port, signals, or the runtime.
    #[error("{0}: {1}")]
    System(String, #[source] io::Error),
}

/// Does what is asked for.
///
/// # Errors
/// It did not end well; of [`Request::Serve`], the hook before the pod is online.
pub fn run(request: Request) -> Result<(), HookError> {
    let system = |error| HookError::System("the runtime".to_owned(), error);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(system)?;
    runtime.block_on(async {
        match request {
            Request::Run(hook) => attempt::hook("beforeStart", &hook).await,
            Request::Serve(serving) => serve::serve(serving, pod_address()?).await,
            Request::Offline { port } => offline(SocketAddr::new(pod_address()?, port)).await,
        }
    })
}

/// Tells a sidecar that its pod is to go, and waits until it has done what there is to do.
async fn offline(sidecar: SocketAddr) -> Result<(), HookError> {
    let told = |why: String| HookError::Sidecar(sidecar, why);
    let fetcher = Fetcher::new(&format!("http://{sidecar}"), &Credentials::default());
    let fetcher = fetcher.map_err(|error| told(error.to_string()))?;
    let answer = fetcher.post("/offline", Vec::new(), LONG).await.map_err(|error| told(error.to_string()))?;
    if !answer.status.is_success() {
        return Err(told(format!("{}: {}", answer.status, String::from_utf8_lossy(&answer.body))));
    }
    Ok(())
}

/// The pod's; this machine's own where nothing says that this is a pod.
fn pod_address() -> Result<IpAddr, HookError> {
    match std::env::var(POD_IP) {
        Ok(text) => text.parse().map_err(|_| HookError::Address(text)),
        Err(_) => Ok(Ipv4Addr::LOCALHOST.into()),
    }
}
