//! Addresses: every thread has a socket of its own on each, and the system spreads clients over them.
//!
//! They are bound at the start, so that an address that cannot be had is told at once, and listened on later ([`Opener`]): the
//! system gives a socket that listens its part of the clients, be another process there that could serve them or not.

use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};

use arc_swap::ArcSwapOption;
use socket2::{Domain, Protocol, Socket, Type};
use tokio::sync::watch;

use super::GatewayError;
use super::config::ListenerConfig;
use super::tls::{HostCertificate, ServerTls};

/// Connections that the kernel keeps for one socket until they are accepted.
const BACKLOG: i32 = 4096;

/// One socket of one thread. It is listened on once `open` says so.
pub(super) struct Bound {
    pub(super) socket: Socket,
    pub(super) open: watch::Receiver<bool>,
    pub(super) listener: Arc<Listener>,
}

/// What all sockets of an address share.
#[derive(Debug)]
pub(super) struct Listener {
    pub(super) address: SocketAddr,
    /// What new connections are accepted with; replaced when what it is made of is.
    pub(super) tls: ArcSwapOption<ServerTls>,
    certificates: Mutex<Certificates>,
    pub(super) proxy_protocol: bool,
    pub(super) http2: bool,
}

/// What a listener's TLS is made of. Each part changes when it likes.
#[derive(Debug)]
struct Certificates {
    file: Option<ServerTls>,
    cluster: Vec<HostCertificate>,
}

/// Lets clients in. Without it, the addresses are bound and nobody can connect.
#[derive(Debug)]
#[must_use = "nobody can connect to a gateway that is not opened"]
pub struct Opener {
    sockets: Vec<(SocketAddr, Socket)>,
    open: watch::Sender<bool>,
}

// === impl Listener ===

impl Listener {
    /// Puts the certificates of a file into force. Whether a listener speaks TLS is settled when it is bound.
    pub(super) fn set_file(&self, tls: &ServerTls) {
        self.change(|certificates| certificates.file = certificates.file.is_some().then(|| tls.clone()));
    }

    /// Puts a cluster's certificates into force, those for other ports among them.
    pub(super) fn set_cluster(&self, cluster: &[HostCertificate]) {
        self.change(|certificates| cluster.clone_into(&mut certificates.cluster));
    }

    fn change(&self, change: impl FnOnce(&mut Certificates)) {
        // Held to the end, so that what is in force is what was changed last.
        let mut certificates = self.certificates.lock().unwrap_or_else(PoisonError::into_inner);
        change(&mut certificates);
        let Certificates { file, cluster } = &*certificates;
        self.tls.store(file.as_ref().map(|file| Arc::new(file.with_cluster(cluster, self.address.port()))));
    }
}

// === impl Opener ===

impl Opener {
    pub(super) fn new() -> Self {
        Self { sockets: Vec::new(), open: watch::Sender::new(false) }
    }

    /// A socket for a thread, which this opens with the others.
    pub(super) fn hold(&mut self, socket: Socket, listener: &Arc<Listener>) -> io::Result<Bound> {
        self.sockets.push((listener.address, socket.try_clone()?));
        Ok(Bound { socket, open: self.open.subscribe(), listener: listener.clone() })
    }

    /// Listens on every address.
    ///
    /// # Errors
    /// Somebody else has bound and listened on one meanwhile, who does not share it.
    pub fn open(self) -> Result<(), GatewayError> {
        for (address, socket) in &self.sockets {
            socket.listen(BACKLOG).map_err(|error| GatewayError::Bind(*address, error))?;
        }
        // A thread that closes its socket must be the last who has it.
        drop(self.sockets);
        self.open.send_replace(true);
        Ok(())
    }
}

/// Binds an address for so many threads; port 0 is any free one, the same for all.
///
/// # Errors
/// The address is taken, or is none of this machine's.
pub(super) fn bind(config: &ListenerConfig, threads: usize) -> io::Result<(Arc<Listener>, Vec<Socket>)> {
    let first = socket(config.listen)?;
    let address = first.local_addr()?.as_socket().unwrap_or(config.listen);
    let mut sockets = vec![first];
    for _ in 1..threads {
        sockets.push(socket(address)?);
    }
    let listener = Listener {
        address,
        tls: ArcSwapOption::from_pointee(config.tls.clone()),
        certificates: Mutex::new(Certificates { file: config.tls.clone(), cluster: Vec::new() }),
        proxy_protocol: config.proxy_protocol,
        http2: config.http2,
    };
    Ok((Arc::new(listener), sockets))
}

fn socket(address: SocketAddr) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    // A restart must not wait for connections of the process before.
    socket.set_reuse_address(true)?;
    socket.set_reuse_port(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    Ok(socket)
}
