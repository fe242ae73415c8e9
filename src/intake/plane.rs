//! Starts and stops the log plane's front: listeners, workers, and who gets which connection.

use std::fmt::Display;
use std::io::{self, Write};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{SyncSender, sync_channel};
use std::thread::JoinHandle;

use mio::{Poll, Waker};
use tokio::task::JoinSet;

use super::cluster::Cluster;
use super::config::{IntakeConfig, ListenAddress};
use super::live::Hub;
use super::policy::{Policy, Reloader};
use super::route_counts::RouteReport;
use super::shared::Shared;
use super::users::{Users, UsersError};
use super::whose::Surroundings;
use super::worker::{self, Parts, Worker};
use crate::base::budget::Budget;
use crate::base::scheduling::yield_to_nobody;
use crate::net::listener::{Accepted, Listener};
use crate::peers::PeerList;
use crate::record::route::RouteTable;
use crate::record::sink::RecordSink;

/// Connections that may wait for their worker's next turn.
const INBOX: usize = 1024;

/// Why the plane does not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// An address cannot be bound.
    #[error("cannot listen on {address}: {error}")]
    Bind {
        /// The address.
        address: String,
        /// What the operating system says.
        #[source]
        error: io::Error,
    },
    /// A user is configured wrongly.
    #[error(transparent)]
    Users(#[from] UsersError),
    /// A thread, a descriptor or a sink cannot be had.
    #[error("a worker does not start: {0}")]
    Worker(String),
}

/// The running front.
pub struct Intake {
    shared: Arc<Shared>,
    addresses: Vec<ListenAddress>,
    accepting: JoinSet<()>,
    desks: Arc<[Door]>,
    threads: Vec<JoinHandle<()>>,
}

/// The way to one worker.
struct Door {
    inbox: SyncSender<Accepted>,
    waker: Waker,
    load: Arc<AtomicU64>,
}

// === impl Intake ===

impl Intake {
    /// Binds all addresses, starts the workers, and accepts. `sink` makes a worker's sink on its thread; with `adaptive`
    /// the workers decide when a batch goes, else it goes every turn.
    ///
    /// # Errors
    /// An address is taken, or a worker cannot be had.
    pub fn start<S, E>(
        config: &IntakeConfig,
        routes: RouteTable,
        budget: Budget,
        surroundings: Surroundings,
        cluster: Cluster,
        adaptive: bool,
        sink: impl Fn() -> Result<S, E> + Clone + Send + 'static,
    ) -> Result<Self, StartError>
    where
        S: RecordSink,
        E: Display,
    {
        let users = Users::from_config(&config.users)?;
        let listeners: Vec<Listener> = config.listen.iter().map(bind).collect::<Result<_, _>>()?;
        let port = listeners.iter().find_map(Listener::port).unwrap_or(0);
        let policy = Policy::new(users, routes, config.tls.clone(), cluster);
        let shared = Arc::new(Shared::new(config, policy, budget, surroundings, port));
        let mut desks = Vec::with_capacity(config.threads);
        let mut threads = Vec::with_capacity(config.threads);
        for number in 0..config.threads {
            let (door, thread) = start_worker(number, config, &shared, adaptive, sink.clone())?;
            desks.push(door);
            threads.push(thread);
        }
        let desks: Arc<[Door]> = desks.into();
        let addresses =
            config.listen.iter().zip(&listeners).map(|(asked, bound)| bound_address(asked, bound)).collect();
        let mut accepting = JoinSet::new();
        for listener in listeners {
            accepting.spawn(accept(listener, shared.clone(), desks.clone()));
        }
        Ok(Self { shared, addresses, accepting, desks, threads })
    }

    /// The bound addresses, ports chosen by the system filled in, in the order of the configuration.
    pub fn addresses(&self) -> &[ListenAddress] {
        &self.addresses
    }

    /// What records are followed live by.
    pub fn hub(&self) -> Arc<Hub> {
        self.shared.hub.clone()
    }

    /// The number of connections, whenever asked.
    pub fn connections(&self) -> impl Fn() -> u64 + Send + Sync + use<> {
        let shared = self.shared.clone();
        move || shared.connected()
    }

    /// What the routes took and refused, whenever asked.
    pub fn routes_report(&self) -> impl Fn() -> Vec<RouteReport> + Send + Sync + use<> {
        let shared = self.shared.clone();
        move || {
            let policy = shared.policy.load();
            let routes = policy.routes.routes().iter().zip(&policy.states);
            routes.map(|(route, state)| state.counts.report(&route.config.key, &route.config.topic)).collect()
        }
    }

    /// The instances of the Service that clients of the cluster are told of, whenever asked; nothing without a Service.
    pub fn peers(&self) -> impl Fn() -> Option<Arc<PeerList>> + Send + Sync + use<> {
        let shared = self.shared.clone();
        move || shared.policy.load().cluster.peers()
    }

    /// What a reload of the configuration goes through; there is to be one.
    pub fn reloader(&self) -> Reloader {
        Reloader::new(self.shared.clone())
    }

    /// Stops accepting, lets connections finish what they sent, and waits for the workers, which the configured timeout
    /// ends.
    pub async fn stop(mut self) {
        self.accepting.shutdown().await;
        self.shared.stop();
        for door in self.desks.iter() {
            if let Err(error) = door.waker.wake() {
                tracing::error!(%error, "a worker cannot be told to stop");
            }
        }
        let threads = std::mem::take(&mut self.threads);
        let joined = tokio::task::spawn_blocking(move || threads.into_iter().all(|thread| thread.join().is_ok()));
        if !joined.await.unwrap_or(false) {
            tracing::error!("a worker ended in a panic");
        }
    }
}

fn bind(address: &ListenAddress) -> Result<Listener, StartError> {
    match address {
        ListenAddress::Tcp(tcp) | ListenAddress::Tls(tcp) => {
            let secure = matches!(address, ListenAddress::Tls(_));
            Listener::tcp(*tcp, secure).map_err(|error| StartError::Bind { address: tcp.to_string(), error })
        }
        ListenAddress::Unix(path) => {
            let named = |error| StartError::Bind { address: format!("unix:{}", path.display()), error };
            Listener::unix(path).map_err(named)
        }
    }
}

fn bound_address(asked: &ListenAddress, bound: &Listener) -> ListenAddress {
    let named = |address: &SocketAddr| (address.ip(), bound.port().unwrap_or(address.port())).into();
    match asked {
        ListenAddress::Tcp(address) => ListenAddress::Tcp(named(address)),
        ListenAddress::Tls(address) => ListenAddress::Tls(named(address)),
        ListenAddress::Unix(path) => ListenAddress::Unix(path.clone()),
    }
}

fn start_worker<S: RecordSink, E: Display>(
    number: usize,
    config: &IntakeConfig,
    shared: &Arc<Shared>,
    adaptive: bool,
    sink: impl Fn() -> Result<S, E> + Send + 'static,
) -> Result<(Door, JoinHandle<()>), StartError> {
    let failed = |error: &dyn Display| StartError::Worker(error.to_string());
    let poll = Poll::new().map_err(|error| failed(&error))?;
    let waker = worker::waker(&poll).map_err(|error| failed(&error))?;
    let (inbox, received) = sync_channel(INBOX);
    let load = Arc::new(AtomicU64::new(0));
    let (shared, its_load, shutdown_timeout) = (shared.clone(), load.clone(), config.shutdown_timeout);
    let (started, outcome) = sync_channel(1);
    let thread = std::thread::Builder::new().name(format!("log-{number}")).spawn(move || {
        yield_to_nobody();
        let worker = sink().map_err(|error| error.to_string()).and_then(|sink| {
            let parts = Parts { poll, inbox: received, sink, shared, load: its_load, adaptive, shutdown_timeout };
            Worker::new(parts).map_err(|error| error.to_string())
        });
        match worker {
            Ok(worker) => {
                // The starter waits for this and is there.
                _ = started.send(Ok(()));
                worker.run();
            }
            Err(error) => _ = started.send(Err(error)),
        }
    });
    let thread = thread.map_err(|error| failed(&error))?;
    match outcome.recv() {
        Ok(Ok(())) => Ok((Door { inbox, waker, load }, thread)),
        Ok(Err(error)) => Err(StartError::Worker(error)),
        Err(_) => Err(StartError::Worker("its thread ended in a panic".into())),
    }
}

async fn accept(listener: Listener, shared: Arc<Shared>, desks: Arc<[Door]>) {
    let limit = shared.limits.connections as u64;
    loop {
        let mut accepted = listener.accept().await;
        if shared.counters.connected.fetch_add(1, Ordering::Relaxed) >= limit {
            shared.counters.connected.fetch_sub(1, Ordering::Relaxed);
            shared.counters.connections_rejected.fetch_add(1, Ordering::Relaxed);
            shared.metrics.connections_rejected.increment(1);
            if !accepted.secure {
                // Redis's own words; a fresh socket takes them, and one that does not is lost anyway.
                _ = accepted.stream.write(b"-ERR max number of clients reached\r\n");
            }
            continue;
        }
        shared.counters.connections.fetch_add(1, Ordering::Relaxed);
        shared.metrics.connections.increment(1);
        shared.metrics.connected.increment(1.0);
        // The least loaded worker: hashing by the kernel is uneven where connections are few and stay for long.
        let Some(door) = desks.iter().min_by_key(|door| door.load.load(Ordering::Relaxed)) else { return };
        door.load.fetch_add(1, Ordering::Relaxed);
        let mut waiting = Some(accepted);
        while let Some(accepted) = waiting.take() {
            match door.inbox.try_send(accepted) {
                Ok(()) => {}
                Err(std::sync::mpsc::TrySendError::Full(accepted)) => {
                    waiting = Some(accepted);
                    tokio::task::yield_now().await;
                }
                Err(std::sync::mpsc::TrySendError::Disconnected(_)) => shared.left(&door.load),
            }
        }
        if let Err(error) = door.waker.wake() {
            tracing::error!(%error, "a worker cannot be told of a connection");
        }
    }
}
