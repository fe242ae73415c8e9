//! TLS: what a listener needs for it, and the stream of a connection that speaks it.
//!
//! A client's part is a [`client`] configuration from the same kinds of files.
//!
//! rustls does no I/O. The worker's one read of the socket goes through [`TlsStream::receive`], which decrypts all that it
//! got; what is to be sent is encrypted by [`TlsStream::write`] and stays with the session until the socket takes it. No
//! session can be resumed: log connections live for long, and a certificate that was taken back is never honoured from
//! memory.

use std::fmt;
use std::io::{self, Read, Write};
use std::sync::Arc;

use mio::net::TcpStream;
use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{NoServerSessionStorage, WebPkiClientVerifier};
use rustls::{ClientConfig, RootCertStore, ServerConfig, ServerConnection};
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::{FromDer, X509Certificate};

use super::stream::Received;

/// The largest record of TLS with what surrounds it, in bytes: what may be decrypted beyond what was read just now.
const RECORD: usize = 17 << 10;

/// Certificate and key of a listener, and which clients it lets in. Cheap to clone.
#[derive(Clone)]
pub struct TlsConfig {
    server: Arc<ServerConfig>,
    expires_at: i64,
    clients: Clients,
}

/// Which certificates clients show.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Clients {
    /// None is asked for.
    Unasked,
    /// One of the authority's, or none.
    Optional,
    /// One of the authority's.
    Required,
}

/// Why there is no TLS with these files.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TlsError {
    /// The certificate's file.
    #[error("{0}")]
    Certificate(String),
    /// The key's file.
    #[error("{0}")]
    Key(String),
    /// The file of the authority of clients.
    #[error("{0}")]
    ClientCa(String),
}

/// A connection with TLS on it.
pub struct TlsStream {
    socket: TcpStream,
    session: ServerConnection,
}

// === impl TlsConfig ===

impl TlsConfig {
    /// Of PEM texts: a chain with the listener's own certificate first, its key, and the authorities whose certificates
    /// clients show.
    ///
    /// # Errors
    /// A text holds no such thing, or key and certificate do not belong together. No error shows the key.
    pub fn new(chain: &[u8], key: &[u8], authorities: &[u8], clients: Clients) -> Result<Self, TlsError> {
        let chain = certificates(chain).map_err(TlsError::Certificate)?;
        let expires_at = chain.first().map_or(0, expiry);
        let key = PrivateKeyDer::from_pem_slice(key)
            .map_err(|_| TlsError::Key("holds no private key: write one in PEM, without a password".to_owned()))?;
        let provider = Arc::new(ring::default_provider());
        let builder = ServerConfig::builder_with_provider(provider.clone())
            .with_safe_default_protocol_versions()
            .map_err(|error| TlsError::Certificate(error.to_string()))?;
        let builder = if clients == Clients::Unasked {
            builder.with_no_client_auth()
        } else {
            let roots = roots(authorities).map_err(TlsError::ClientCa)?;
            let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider);
            let verifier = if clients == Clients::Optional { verifier.allow_unauthenticated() } else { verifier };
            let verifier = verifier.build().map_err(|error| TlsError::ClientCa(error.to_string()))?;
            builder.with_client_cert_verifier(verifier)
        };
        let mut server =
            builder.with_single_cert(chain, key).map_err(|error| TlsError::Key(format!("does not serve: {error}")))?;
        server.session_storage = Arc::new(NoServerSessionStorage {});
        server.send_tls13_tickets = 0;
        Ok(Self { server: Arc::new(server), expires_at, clients })
    }

    /// The same with these application protocols, the preferred one first (ALPN).
    #[must_use]
    pub fn with_protocols(&self, protocols: &[&[u8]]) -> Self {
        let mut server = ServerConfig::clone(&self.server);
        server.alpn_protocols = protocols.iter().map(|protocol| protocol.to_vec()).collect();
        Self { server: Arc::new(server), ..self.clone() }
    }

    /// What accepts a connection of tokio's.
    pub(super) fn acceptor(&self) -> tokio_rustls::TlsAcceptor {
        tokio_rustls::TlsAcceptor::from(self.server.clone())
    }

    /// Until when the listener's certificate is valid, in seconds of the Unix epoch.
    pub fn expires_at(&self) -> i64 {
        self.expires_at
    }

    /// Which certificates clients show.
    pub fn clients(&self) -> Clients {
        self.clients
    }
}

impl fmt::Debug for TlsConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The key stays out of logs and panics.
        f.debug_struct("TlsConfig").field("clients", &self.clients).finish_non_exhaustive()
    }
}

/// What a client trusts and shows: the authorities of servers, and its own chain and key, all in PEM.
///
/// # Errors
/// A text holds no such thing, or key and certificate do not belong together. No error shows the key.
pub fn client(authorities: &[u8], identity: Option<(&[u8], &[u8])>) -> Result<ClientConfig, TlsError> {
    let roots = roots(authorities).map_err(TlsError::ClientCa)?;
    let builder = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(|error| TlsError::ClientCa(error.to_string()))?
        .with_root_certificates(roots);
    let Some((chain, key)) = identity else { return Ok(builder.with_no_client_auth()) };
    let chain = certificates(chain).map_err(TlsError::Certificate)?;
    let key = PrivateKeyDer::from_pem_slice(key)
        .map_err(|_| TlsError::Key("holds no private key: write one in PEM, without a password".to_owned()))?;
    builder.with_client_auth_cert(chain, key).map_err(|error| TlsError::Key(format!("does not serve: {error}")))
}

fn roots(authorities: &[u8]) -> Result<RootCertStore, String> {
    let mut roots = RootCertStore::empty();
    for authority in certificates(authorities)? {
        roots.add(authority).map_err(|error| format!("is no authority: {error}"))?;
    }
    Ok(roots)
}

fn certificates(pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, String> {
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    match found {
        Ok(found) if found.is_empty() => Err("holds no certificate: write one or more in PEM".to_owned()),
        Ok(found) => Ok(found),
        Err(error) => Err(format!("is not PEM: {error}")),
    }
}

fn expiry(certificate: &CertificateDer<'_>) -> i64 {
    X509Certificate::from_der(certificate).map_or(0, |(_, parsed)| parsed.validity().not_after.timestamp())
}

/// The names in a certificate, its alternative names (DNS, URI, e-mail) in order, then its common name.
pub(crate) fn names(certificate: &CertificateDer<'_>) -> Vec<String> {
    // It was verified, so that it can be read.
    let Ok((_, parsed)) = X509Certificate::from_der(certificate) else { return Vec::new() };
    let alternatives = parsed.subject_alternative_name().ok().flatten();
    let alternatives = alternatives.into_iter().flat_map(|extension| &extension.value.general_names);
    let alternatives = alternatives.filter_map(|name| match name {
        GeneralName::DNSName(name) | GeneralName::URI(name) | GeneralName::RFC822Name(name) => Some(*name),
        _ => None,
    });
    let common = parsed.subject().iter_common_name().filter_map(|name| name.as_str().ok());
    alternatives.chain(common).map(str::to_owned).collect()
}

// === impl TlsStream ===

impl TlsStream {
    /// Speaks TLS on a socket that is not blocking.
    ///
    /// # Errors
    /// rustls does not take the configuration.
    pub(super) fn new(socket: TcpStream, config: &TlsConfig) -> Result<Self, rustls::Error> {
        Ok(Self { socket, session: ServerConnection::new(config.server.clone())? })
    }

    pub(super) fn socket(&mut self) -> &mut TcpStream {
        &mut self.socket
    }

    /// Reads once from the socket, into `wire`, and decrypts into `plain`, which must be larger by [`RECORD`].
    ///
    /// # Errors
    /// Of the socket; `InvalidData` where the peer breaks TLS's rules or shows no certificate that is accepted: it has
    /// been told why, as far as the socket took it.
    pub(super) fn receive(&mut self, plain: &mut [u8], wire: &mut [u8]) -> io::Result<Received> {
        let room = plain.len().saturating_sub(RECORD).min(wire.len());
        let wire = wire.get_mut(..room).unwrap_or_default();
        let count = self.socket.read(wire)?;
        let mut received = Received { count: 0, more: count == room, end: count == 0 };
        let mut rest = wire.get(..count).unwrap_or_default();
        while !rest.is_empty() {
            self.session.read_tls(&mut rest)?;
            let state = match self.session.process_new_packets() {
                Ok(state) => state,
                Err(error) => {
                    // The peer may be gone, or not read: then it does not learn why.
                    _ = self.flush();
                    return Err(io::Error::new(io::ErrorKind::InvalidData, error));
                }
            };
            received.end |= state.peer_has_closed();
            let whole = received.count + state.plaintext_bytes_to_read();
            while received.count < whole {
                match self.session.reader().read(plain.get_mut(received.count..).unwrap_or_default())? {
                    // No room, which `plain` is too large for.
                    0 => break,
                    read => received.count += read,
                }
            }
            if state.peer_has_closed() {
                break;
            }
        }
        Ok(received)
    }

    /// Takes bytes to send once all before them are with the socket.
    ///
    /// # Errors
    /// Of the socket, `WouldBlock` among them: nothing was taken.
    pub(super) fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.flush()?;
        let count = self.session.writer().write(bytes)?;
        match self.flush() {
            Err(error) if error.kind() != io::ErrorKind::WouldBlock => Err(error),
            _ => Ok(count),
        }
    }

    /// Gives the socket what is encrypted.
    ///
    /// # Errors
    /// Of the socket, `WouldBlock` among them: some is left.
    pub(super) fn flush(&mut self) -> io::Result<()> {
        while self.session.wants_write() {
            match self.session.write_tls(&mut self.socket) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    pub(super) fn wants_write(&self) -> bool {
        self.session.wants_write()
    }

    pub(super) fn is_handshaking(&self) -> bool {
        self.session.is_handshaking()
    }

    /// The names in the client's certificate; none where it showed none.
    pub(super) fn peer_names(&self) -> Vec<String> {
        self.session.peer_certificates().and_then(<[_]>::first).map(names).unwrap_or_default()
    }

    /// Says that no more comes.
    ///
    /// # Errors
    /// Of the socket.
    pub(super) fn finish(&mut self) -> io::Result<()> {
        self.session.send_close_notify();
        self.flush()?;
        self.socket.shutdown(std::net::Shutdown::Write)
    }
}

impl fmt::Debug for TlsStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TlsStream").field("socket", &self.socket).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, CertifiedIssuer, IsCa, KeyPair};

    use super::*;

    fn pair(names: &[&str], common: &str) -> (String, String) {
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let mut params = CertificateParams::new(names).unwrap();
        params.distinguished_name.push(rcgen::DnType::CommonName, common);
        let key = KeyPair::generate().unwrap();
        (params.self_signed(&key).unwrap().pem(), key.serialize_pem())
    }

    fn refused(chain: &str, key: &str, authorities: &str) -> TlsError {
        TlsConfig::new(chain.as_bytes(), key.as_bytes(), authorities.as_bytes(), Clients::Required).unwrap_err()
    }

    #[test]
    fn files_that_cannot_serve_are_told_apart_and_no_key_is_shown() {
        let ((chain, key), (_, other)) = (pair(&["a"], "a"), pair(&["b"], "b"));
        assert!(matches!(refused("", &key, &chain), TlsError::Certificate(text) if text.contains("no certificate")));
        assert!(matches!(refused(&chain, &chain, &chain), TlsError::Key(text) if text.contains("no private key")));
        assert!(matches!(refused(&chain, &key, "x"), TlsError::ClientCa(text) if text.contains("no certificate")));
        let TlsError::Key(text) = refused(&chain, &other, &chain) else { panic!("a foreign key serves") };
        assert!(text.starts_with("does not serve: "), "{text}");
        let config = TlsConfig::new(chain.as_bytes(), key.as_bytes(), chain.as_bytes(), Clients::Optional).unwrap();
        assert_eq!(format!("{config:?}"), "TlsConfig { clients: Optional, .. }");
        assert!(config.expires_at() > 0);
    }

    #[test]
    fn names_are_the_alternative_ones_then_the_common_one() {
        let mut params = CertificateParams::new(vec!["app.example".to_owned()]).unwrap();
        params.subject_alt_names.push(rcgen::SanType::URI("spiffe://here/app".try_into().unwrap()));
        params.distinguished_name.push(rcgen::DnType::CommonName, "app");
        params.is_ca = IsCa::NoCa;
        let issuer = CertifiedIssuer::self_signed(CertificateParams::default(), KeyPair::generate().unwrap()).unwrap();
        let certificate = params.signed_by(&KeyPair::generate().unwrap(), &issuer).unwrap();
        assert_eq!(names(certificate.der()), ["app.example", "spiffe://here/app", "app"]);
        assert_eq!(names(&CertificateDer::from(vec![1, 2, 3])), [""; 0]);
    }
}
