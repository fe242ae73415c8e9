//! How the client reaches a server: plainly or over TLS, and as whom.

use mio::net::TcpStream;
use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore};
use std::io::{self, Read, Write};
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

/// What a connection needs to be let in.
#[derive(Clone, Default)]
pub(crate) struct Access {
    pub(crate) tls: Option<Arc<ClientConfig>>,
    /// Name and password for AUTH.
    pub(crate) login: Option<(&'static str, &'static str)>,
}

/// A connection. Reads and writes go on until the socket blocks, as edges of readiness are told of once.
pub(crate) struct Wire {
    pub(crate) socket: TcpStream,
    session: Option<Box<ClientConnection>>,
}

/// A client that trusts servers of this authority.
pub(crate) fn trusting(authority: &Path) -> Arc<ClientConfig> {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(authority).unwrap()).unwrap();
    let builder = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()));
    let builder = builder.with_safe_default_protocol_versions().unwrap();
    Arc::new(builder.with_root_certificates(roots).with_no_client_auth())
}

impl Wire {
    /// Connects, logs in, and hears from the server, so that accepting is over before anything is measured.
    pub(crate) fn connect(address: SocketAddr, access: &Access) -> io::Result<Self> {
        let mut stream = std::net::TcpStream::connect(address)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(Duration::from_secs(10)))?;
        let name = ServerName::from(address.ip());
        let session = access.tls.as_ref().map(|config| ClientConnection::new(config.clone(), name));
        let mut session = session.transpose().map_err(io::Error::other)?.map(Box::new);
        let mut greeting = Vec::new();
        let mut answer = 7;
        if let Some((user, password)) = access.login {
            greeting.extend_from_slice(format!("AUTH {user} {password}\r\n").as_bytes());
            answer += 5;
        }
        greeting.extend_from_slice(b"PING\r\n");
        let mut replies = vec![0; answer];
        match &mut session {
            None => {
                stream.write_all(&greeting)?;
                stream.read_exact(&mut replies)?;
            }
            Some(session) => {
                let mut secure = rustls::Stream::new(session.as_mut(), &mut stream);
                secure.write_all(&greeting)?;
                secure.read_exact(&mut replies)?;
            }
        }
        if replies.contains(&b'-') {
            return Err(io::Error::other(String::from_utf8_lossy(&replies).into_owned()));
        }
        stream.set_nonblocking(true)?;
        Ok(Self { socket: TcpStream::from_std(stream), session })
    }

    /// True where bytes that were written wait for the socket.
    pub(crate) fn wants_write(&self) -> bool {
        self.session.as_ref().is_some_and(|session| session.wants_write())
    }
}

impl Read for Wire {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let Some(session) = &mut self.session else { return self.socket.read(buffer) };
        let mut filled = 0;
        while filled < buffer.len() {
            match session.reader().read(&mut buffer[filled..]) {
                Ok(0) => return Ok(filled),
                Ok(read) => filled += read,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => match session.read_tls(&mut self.socket) {
                    Ok(0) => return Ok(filled),
                    Ok(_) => _ = session.process_new_packets().map_err(io::Error::other)?,
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock && filled > 0 => return Ok(filled),
                    Err(error) => return Err(error),
                },
                Err(error) => return Err(error),
            }
        }
        Ok(filled)
    }
}

impl Write for Wire {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let Some(session) = &mut self.session else { return self.socket.write(bytes) };
        let count = session.writer().write(bytes)?;
        self.flush()?;
        // Nothing taken: it holds as much as it may.
        if count == 0 { Err(io::ErrorKind::WouldBlock.into()) } else { Ok(count) }
    }

    fn flush(&mut self) -> io::Result<()> {
        let Some(session) = &mut self.session else { return Ok(()) };
        while session.wants_write() {
            match session.write_tls(&mut self.socket) {
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}
