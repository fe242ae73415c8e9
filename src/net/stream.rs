//! A connection's socket as a worker polls it.

use std::io::{self, Read, Write};
use std::net::Shutdown;

use mio::event::Source;
use mio::{Interest, Registry, Token};

use super::tls::{TlsConfig, TlsStream};

/// TCP, with TLS or without, or Unix; not blocking.
#[derive(Debug)]
pub enum Stream {
    /// TCP.
    Tcp(mio::net::TcpStream),
    /// A Unix socket.
    Unix(mio::net::UnixStream),
    /// TLS over TCP.
    Tls(Box<TlsStream>),
}

/// What one read of the socket brought.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Received {
    /// Bytes of the application's.
    pub count: usize,
    /// The socket may hold more. Where it does not, the next bytes make the next event.
    pub more: bool,
    /// The peer sends no more.
    pub end: bool,
}

// === impl Stream ===

impl Stream {
    /// The same connection with TLS on it, which a Unix socket does not need.
    ///
    /// # Errors
    /// rustls does not take the configuration.
    pub fn secured(self, config: &TlsConfig) -> Result<Self, rustls::Error> {
        match self {
            Self::Tcp(socket) => Ok(Self::Tls(Box::new(TlsStream::new(socket, config)?))),
            other => Ok(other),
        }
    }

    /// Reads once from the socket, into `buffer`; `wire` is room for what is encrypted, smaller than `buffer` by 17 KiB
    /// at least.
    ///
    /// # Errors
    /// Of the socket; `InvalidData` where TLS failed.
    #[inline]
    pub fn receive(&mut self, buffer: &mut [u8], wire: &mut [u8]) -> io::Result<Received> {
        let count = match self {
            Self::Tcp(stream) => stream.read(buffer)?,
            Self::Unix(stream) => stream.read(buffer)?,
            Self::Tls(stream) => return stream.receive(buffer, wire),
        };
        Ok(Received { count, more: count == buffer.len(), end: count == 0 })
    }

    /// True while the peers agree on their keys.
    pub fn is_handshaking(&self) -> bool {
        matches!(self, Self::Tls(stream) if stream.is_handshaking())
    }

    /// True where bytes that were written wait for the socket.
    pub fn wants_write(&self) -> bool {
        matches!(self, Self::Tls(stream) if stream.wants_write())
    }

    /// The names in the client's certificate, if it showed one.
    pub fn peer_names(&self) -> Vec<String> {
        if let Self::Tls(stream) = self { stream.peer_names() } else { Vec::new() }
    }

    /// Ends the sending side: the peer reads what was sent, then the end.
    ///
    /// # Errors
    /// The connection is gone already.
    pub fn finish(&mut self) -> io::Result<()> {
        match self {
            Self::Tcp(stream) => stream.shutdown(Shutdown::Write),
            Self::Unix(stream) => stream.shutdown(Shutdown::Write),
            Self::Tls(stream) => stream.finish(),
        }
    }

    fn source(&mut self) -> &mut dyn Source {
        match self {
            Self::Tcp(stream) => stream,
            Self::Unix(stream) => stream,
            Self::Tls(stream) => stream.socket(),
        }
    }

    /// Makes `registry` report `token` when there is something to read or room to write.
    ///
    /// # Errors
    /// The operating system refused.
    pub fn register(&mut self, registry: &Registry, token: Token) -> io::Result<()> {
        registry.register(self.source(), token, Interest::READABLE | Interest::WRITABLE)
    }

    /// Undoes [`Stream::register`].
    ///
    /// # Errors
    /// It was not registered.
    pub fn deregister(&mut self, registry: &Registry) -> io::Result<()> {
        registry.deregister(self.source())
    }
}

impl Write for Stream {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Tcp(stream) => stream.write(bytes),
            Self::Unix(stream) => stream.write(bytes),
            Self::Tls(stream) => stream.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Self::Tcp(_) | Self::Unix(_) => Ok(()),
            Self::Tls(stream) => stream.flush(),
        }
    }
}
