//! Addresses: every thread has a socket of its own on each, and the system spreads clients over them.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;

use arc_swap::ArcSwapOption;
use socket2::{Domain, Protocol, Socket, Type};

use super::config::ListenerConfig;
use super::tls::ServerTls;

/// Connections that the kernel keeps for one socket until they are accepted.
const BACKLOG: i32 = 4096;

/// One socket of one thread.
pub(super) struct Bound {
    pub(super) socket: TcpListener,
    pub(super) listener: Arc<Listener>,
}

/// What all sockets of an address share.
#[derive(Debug)]
pub(super) struct Listener {
    pub(super) address: SocketAddr,
    /// What new connections are accepted with; replaced by a reload.
    pub(super) tls: ArcSwapOption<ServerTls>,
    pub(super) proxy_protocol: bool,
    pub(super) http2: bool,
}

/// Binds an address for so many threads; port 0 is any free one, the same for all.
///
/// # Errors
/// The address is taken, or is none of this machine's.
pub(super) fn bind(config: &ListenerConfig, threads: usize) -> io::Result<(Arc<Listener>, Vec<TcpListener>)> {
    let first = socket(config.listen)?;
    let address = first.local_addr()?;
    let mut sockets = vec![first];
    for _ in 1..threads {
        sockets.push(socket(address)?);
    }
    let listener = Listener {
        address,
        tls: ArcSwapOption::from_pointee(config.tls.clone()),
        proxy_protocol: config.proxy_protocol,
        http2: config.http2,
    };
    Ok((Arc::new(listener), sockets))
}

fn socket(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    // A restart must not wait for connections of the process before.
    socket.set_reuse_address(true)?;
    socket.set_reuse_port(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}
