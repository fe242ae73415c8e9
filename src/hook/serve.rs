//! The sidecar: it says whether the pod is online, and does what there is to do before the pod is offline.

use std::convert::Infallible;
use std::future::pending;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::{ConnectInfo, State};
use axum::http::StatusCode;
use axum::routing::get;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::time::{sleep, timeout};

use super::{HookError, Serving, attempt};
use crate::app::ShutdownSignals;

/// Between two looks at the application's port.
const LOOK: Duration = Duration::from_millis(200);
/// For one connection to it.
const CONNECT: Duration = Duration::from_secs(1);

/// The pod, as its sidecar knows it.
pub(super) struct Pod {
    serving: Serving,
    address: IpAddr,
    /// Why it is not online; empty once it is.
    online: watch::Sender<String>,
    going: watch::Sender<Going>,
}

/// How far its way offline is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Going {
    No,
    UnderWay,
    Done,
}

/// Serves until it is told to end, or until the hook before the pod is online has failed.
pub(super) async fn serve(serving: Serving, address: IpAddr) -> Result<(), HookError> {
    let at = SocketAddr::new(address, serving.port);
    let system = |what: &str| {
        let what = what.to_owned();
        move |error| HookError::System(what, error)
    };
    let signals = ShutdownSignals::listen().map_err(|error| system("signals")(io::Error::other(error)))?;
    let listener = TcpListener::bind(at).await.map_err(system(&at.to_string()))?;
    let pod = Arc::new(Pod::new(serving, address));
    let server = axum::serve(listener, router(&pod).into_make_service_with_connect_info::<SocketAddr>());
    tokio::select! {
        served = async { server.await } => served.map_err(system(&at.to_string())),
        failed = pod.bring_online() => failed.map(|never| match never {}),
        () = signals.received() => Ok(()),
    }
}

pub(super) fn router(pod: &Arc<Pod>) -> Router {
    let routes = Router::new().route("/online", get(online)).route("/offline", get(gone).post(go));
    routes.with_state(pod.clone())
}

/// The kubelet's readiness probe.
async fn online(State(pod): State<Arc<Pod>>) -> (StatusCode, String) {
    let why = pod.online.borrow().clone();
    match why.is_empty() {
        true => (StatusCode::OK, "online\n".to_owned()),
        false => (StatusCode::SERVICE_UNAVAILABLE, format!("{why}\n")),
    }
}

/// The preStop of the other containers: answered once the pod may go. It begins nothing: the network may ask it, too.
async fn gone(State(pod): State<Arc<Pod>>) -> &'static str {
    pod.gone().await;
    "offline\n"
}

/// The sidecar's own preStop.
async fn go(State(pod): State<Arc<Pod>>, ConnectInfo(peer): ConnectInfo<SocketAddr>) -> (StatusCode, &'static str) {
    if !peer.ip().is_loopback() && peer.ip() != pod.address {
        return (StatusCode::FORBIDDEN, "only from within the pod\n");
    }
    pod.go();
    pod.gone().await;
    (StatusCode::OK, "offline\n")
}

// === impl Pod ===

impl Pod {
    pub(super) fn new(serving: Serving, address: IpAddr) -> Self {
        Self {
            serving,
            address,
            online: watch::Sender::new("it has just begun".to_owned()),
            going: watch::Sender::new(Going::No),
        }
    }

    /// Does what there is to do before the pod is online, and ends only where that fails: the kubelet begins it anew.
    pub(super) async fn bring_online(&self) -> Result<Infallible, HookError> {
        if let Some(port) = self.serving.app_port {
            self.online.send_replace(format!("the application's port {port} accepts no connection yet"));
            let at = SocketAddr::new(self.address, port);
            while !matches!(timeout(CONNECT, TcpStream::connect(at)).await, Ok(Ok(_))) {
                sleep(LOOK).await;
            }
        }
        if let Some(hook) = &self.serving.online {
            self.online.send_replace("beforeOnline has not ended".to_owned());
            attempt::hook("beforeOnline", hook).await?;
        }
        self.online.send_replace(String::new());
        tracing::info!("the pod may be online");
        pending().await
    }

    /// Begins the way offline, once.
    fn go(self: &Arc<Self>) {
        let first = self.going.send_if_modified(|going| {
            let first = *going == Going::No;
            if first {
                *going = Going::UnderWay;
            }
            first
        });
        if first {
            let pod = self.clone();
            tokio::spawn(async move {
                if let Some(offline) = &pod.serving.offline {
                    attempt::offline(offline).await;
                }
                pod.going.send_replace(Going::Done);
            });
        }
    }

    async fn gone(&self) {
        // The sender is the pod's own, and lives.
        let _ = self.going.subscribe().wait_for(|going| *going == Going::Done).await;
    }
}
