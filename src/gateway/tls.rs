//! TLS of a listener: its certificates, HTTP/2 by ALPN, certificates of clients.

use std::fmt;
use std::sync::Arc;

use rustls::crypto::ring;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::server::{NoServerSessionStorage, WebPkiClientVerifier};
use rustls::{RootCertStore, ServerConfig};

pub use super::certificates::{Certificate, HostCertificate, Identity};
use super::certificates::{Names, Resolver};
use crate::net::tls::{Clients, TlsError};

/// Certificates of a listener, and which clients it lets in. Cheap to clone.
#[derive(Clone)]
pub struct ServerTls {
    server: Arc<ServerConfig>,
    file: Arc<Names>,
    clients: Clients,
}

// === impl ServerTls ===

impl ServerTls {
    /// Of the default identity and further ones; without any, a cluster's certificates alone are shown. Of two with the same name, the
    /// first one counts. `authorities` in PEM are those whose certificates clients show.
    ///
    /// # Errors
    /// A text holds no such thing, or key and certificate do not belong together; with the place of the identity. No error
    /// shows a key.
    pub fn new(
        default: Option<Identity<'_>>,
        further: &[Identity<'_>],
        authorities: &[u8],
        clients: Clients,
        http2: bool,
    ) -> Result<Self, (usize, TlsError)> {
        let provider = Arc::new(ring::default_provider());
        let default = default.map(Certificate::new).transpose().map_err(|error| (0, error))?;
        let made =
            |(place, identity): (usize, &Identity<'_>)| Certificate::new(*identity).map_err(|error| (place + 1, error));
        let further = further.iter().enumerate().map(made).collect::<Result<Vec<_>, _>>()?;
        let file = Arc::new(Names::of_file(default, further));
        let refused = |error: TlsError| (0, error);
        let builder = ServerConfig::builder_with_provider(provider.clone())
            .with_safe_default_protocol_versions()
            .map_err(|error| refused(TlsError::Certificate(error.to_string())))?;
        let builder = if clients == Clients::Unasked {
            builder.with_no_client_auth()
        } else {
            let ca = |text: String| refused(TlsError::ClientCa(text));
            let verifier =
                WebPkiClientVerifier::builder_with_provider(Arc::new(roots(authorities).map_err(ca)?), provider);
            let verifier = if clients == Clients::Optional { verifier.allow_unauthenticated() } else { verifier };
            builder.with_client_cert_verifier(verifier.build().map_err(|error| ca(error.to_string()))?)
        };
        let resolver = Resolver { file: file.clone(), cluster: Names::default() };
        let mut server = builder.with_cert_resolver(Arc::new(resolver));
        server.alpn_protocols =
            if http2 { vec![b"h2".to_vec(), b"http/1.1".to_vec()] } else { vec![b"http/1.1".to_vec()] };
        if clients == Clients::Unasked {
            server.ticketer = ring::Ticketer::new().map_err(|error| refused(TlsError::Key(error.to_string())))?;
        } else {
            // A certificate that was taken back is never honoured from memory.
            server.session_storage = Arc::new(NoServerSessionStorage {});
            server.send_tls13_tickets = 0;
        }
        Ok(Self { server: Arc::new(server), file, clients })
    }

    /// The same with a cluster's certificates beside its own, as a listener on this port shows them.
    pub(super) fn with_cluster(&self, certificates: &[HostCertificate], port: u16) -> Self {
        let mut server = ServerConfig::clone(&self.server);
        let cluster = Names::of_cluster(certificates, port);
        server.cert_resolver = Arc::new(Resolver { file: self.file.clone(), cluster });
        Self { server: Arc::new(server), ..self.clone() }
    }

    /// What accepts a connection.
    pub(super) fn acceptor(&self) -> tokio_rustls::TlsAcceptor {
        tokio_rustls::TlsAcceptor::from(self.server.clone())
    }
}

impl fmt::Debug for ServerTls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Keys stay out of logs and panics.
        f.debug_struct("ServerTls").field("clients", &self.clients).finish_non_exhaustive()
    }
}

fn roots(pem: &[u8]) -> Result<RootCertStore, String> {
    let mut roots = RootCertStore::empty();
    for authority in CertificateDer::pem_slice_iter(pem) {
        let authority = authority.map_err(|error| format!("is not PEM: {error}"))?;
        roots.add(authority).map_err(|error| format!("is no authority: {error}"))?;
    }
    if roots.is_empty() { Err("holds no certificate: write one or more in PEM".to_owned()) } else { Ok(roots) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gateway::certificates::tests::{identity, pair};

    #[test]
    fn what_cannot_serve_is_named_by_its_place_and_no_key_is_shown() {
        let (good, other) = (pair(&["a"]), pair(&["b"]));
        let mixed = Identity { chain: good.0.as_bytes(), key: other.1.as_bytes() };
        let refused = ServerTls::new(Some(identity(&good)), &[mixed], b"", Clients::Unasked, true).unwrap_err();
        assert!(matches!(&refused, (1, TlsError::Key(text)) if text.starts_with("does not serve: ")), "{refused:?}");
        let refused = ServerTls::new(Some(identity(&good)), &[], b"x", Clients::Required, true).unwrap_err();
        assert!(matches!(refused, (0, TlsError::ClientCa(_))));
        let made = ServerTls::new(Some(identity(&good)), &[identity(&other)], b"", Clients::Unasked, true).unwrap();
        assert_eq!(format!("{made:?}"), "ServerTls { clients: Unasked, .. }");
    }
}
