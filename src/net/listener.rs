//! Listening and accepting. Each accepted connection goes to whoever takes it; what that means is the caller's.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::{TcpListener, UnixListener};

use super::stream::Stream;

/// Connections that the kernel keeps for us until they are accepted.
const BACKLOG: i32 = 4096;
/// After an error of accept that will not go away at once, such as too few descriptors.
const PAUSE: Duration = Duration::from_millis(50);

/// A bound address.
#[derive(Debug)]
pub enum Listener {
    /// TCP; its connections speak TLS where the flag is set.
    Tcp(TcpListener, bool),
    /// A Unix socket, whose file goes with the listener.
    Unix(UnixListener, SocketFile),
}

/// An accepted connection and where it comes from and came in.
#[derive(Debug)]
pub struct Accepted {
    /// The socket, not blocking.
    pub stream: Stream,
    /// The peer, `host:port` or the socket's path.
    pub peer: String,
    /// Our side.
    pub local: String,
    /// TLS is to be spoken on it.
    pub secure: bool,
}

/// Removes a Unix socket's file when dropped.
#[derive(Debug)]
pub struct SocketFile(PathBuf);

// === impl Listener ===

impl Listener {
    /// Binds a TCP address; port 0 is any free one. With `secure`, whoever takes a connection is told to speak TLS.
    ///
    /// # Errors
    /// The address is taken, or is none of this machine's.
    pub fn tcp(address: SocketAddr, secure: bool) -> io::Result<Self> {
        let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
        // A restart must not wait for connections of the process before.
        socket.set_reuse_address(true)?;
        socket.set_nonblocking(true)?;
        socket.bind(&address.into())?;
        socket.listen(BACKLOG)?;
        Ok(Self::Tcp(TcpListener::from_std(socket.into())?, secure))
    }

    /// Binds a Unix socket. A file left by a process that is gone is replaced.
    ///
    /// # Errors
    /// The path cannot be bound, or somebody listens there.
    pub fn unix(path: &Path) -> io::Result<Self> {
        if path.exists() && std::os::unix::net::UnixStream::connect(path).is_err() {
            std::fs::remove_file(path)?;
        }
        Ok(Self::Unix(UnixListener::bind(path)?, SocketFile(path.to_owned())))
    }

    /// The port, if it has one.
    pub fn port(&self) -> Option<u16> {
        match self {
            Self::Tcp(listener, _) => listener.local_addr().ok().map(|address| address.port()),
            Self::Unix(..) => None,
        }
    }

    /// The address as a client names it.
    pub fn address(&self) -> String {
        match self {
            Self::Tcp(listener, _) => listener.local_addr().map_or_else(|_| "?".into(), |address| address.to_string()),
            Self::Unix(_, file) => format!("unix:{}", file.0.display()),
        }
    }

    /// The next connection. Errors of one connection are passed over; those of the process are logged and waited out.
    pub async fn accept(&self) -> Accepted {
        loop {
            match self.try_accept().await {
                Ok(accepted) => return accepted,
                Err(error) if is_of_the_connection(&error) => {}
                Err(error) => {
                    tracing::warn!(%error, address = self.address(), "no connection can be accepted");
                    tokio::time::sleep(PAUSE).await;
                }
            }
        }
    }

    async fn try_accept(&self) -> io::Result<Accepted> {
        match self {
            Self::Tcp(listener, secure) => {
                let (stream, peer) = listener.accept().await?;
                // Replies are written whole: nothing is gained by waiting for more.
                stream.set_nodelay(true)?;
                let local = stream.local_addr()?.to_string();
                let stream = Stream::Tcp(mio::net::TcpStream::from_std(stream.into_std()?));
                Ok(Accepted { stream, peer: peer.to_string(), local, secure: *secure })
            }
            Self::Unix(listener, file) => {
                let (stream, _) = listener.accept().await?;
                let local = format!("{}:0", file.0.display());
                let stream = Stream::Unix(mio::net::UnixStream::from_std(stream.into_std()?));
                Ok(Accepted { stream, peer: local.clone(), local, secure: false })
            }
        }
    }
}

// === impl SocketFile ===

impl Drop for SocketFile {
    fn drop(&mut self) {
        // It may be gone already, which is as well.
        _ = std::fs::remove_file(&self.0);
    }
}

/// The address in an [`Accepted::peer`]; none for a Unix socket. An IPv4 address within IPv6 is itself.
pub fn host(peer: &str) -> Option<IpAddr> {
    let (host, _) = peer.rsplit_once(':')?;
    let host = host.trim_start_matches('[').trim_end_matches(']');
    host.parse::<IpAddr>().ok().map(|address| address.to_canonical())
}

fn is_of_the_connection(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionReset, Interrupted, NotConnected};
    matches!(error.kind(), ConnectionAborted | ConnectionReset | Interrupted | NotConnected)
}
