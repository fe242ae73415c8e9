//! TLS of a listener: the certificate by the name that the client asks for (SNI), HTTP/2 by ALPN, certificates of clients.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{ClientHello, NoServerSessionStorage, ResolvesServerCert, WebPkiClientVerifier};
use rustls::sign::CertifiedKey;
use rustls::{RootCertStore, ServerConfig};

use crate::net::tls::{Clients, TlsError, names};

/// Certificates of a listener, and which clients it lets in. Cheap to clone.
#[derive(Clone)]
pub struct ServerTls {
    server: Arc<ServerConfig>,
    clients: Clients,
}

/// A certificate's chain and its key, both in PEM.
#[derive(Clone, Copy)]
pub struct Identity<'a> {
    /// The listener's own certificate first.
    pub chain: &'a [u8],
    /// The private key.
    pub key: &'a [u8],
}

/// The certificates by the names that stand in them.
#[derive(Debug)]
struct Resolver {
    exact: HashMap<String, Arc<CertifiedKey>>,
    /// Without the `*`, with the dot.
    suffixes: HashMap<String, Arc<CertifiedKey>>,
    /// For who asks for no name, or for one that nobody has.
    default: Arc<CertifiedKey>,
}

// === impl ServerTls ===

impl ServerTls {
    /// Of the default identity and further ones. Of two with the same name, the first one counts. `authorities` in PEM are
    /// those whose certificates clients show.
    ///
    /// # Errors
    /// A text holds no such thing, or key and certificate do not belong together; with the place of the identity. No error
    /// shows a key.
    pub fn new(
        default: Identity<'_>,
        further: &[Identity<'_>],
        authorities: &[u8],
        clients: Clients,
        http2: bool,
    ) -> Result<Self, (usize, TlsError)> {
        let provider = Arc::new(ring::default_provider());
        let mut resolver = Resolver {
            exact: HashMap::new(),
            suffixes: HashMap::new(),
            default: certified(default).map_err(|error| (0, error))?,
        };
        resolver.add(&resolver.default.clone());
        for (place, identity) in further.iter().enumerate() {
            resolver.add(&certified(*identity).map_err(|error| (place + 1, error))?);
        }
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
        Ok(Self { server: Arc::new(server), clients })
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

// === impl Resolver ===

impl Resolver {
    fn add(&mut self, key: &Arc<CertifiedKey>) {
        for name in key.cert.first().map(names).unwrap_or_default() {
            let name = name.to_ascii_lowercase();
            match name.strip_prefix('*') {
                Some(suffix) => self.suffixes.entry(suffix.to_owned()).or_insert_with(|| key.clone()),
                None => self.exact.entry(name).or_insert_with(|| key.clone()),
            };
        }
    }

    fn find(&self, name: Option<&str>) -> &Arc<CertifiedKey> {
        let Some(name) = name else { return &self.default };
        let name = name.to_ascii_lowercase();
        // A certificate's pattern stands for one label.
        let wild = || name.find('.').and_then(|dot| self.suffixes.get(name.get(dot..)?));
        self.exact.get(&name).or_else(wild).unwrap_or(&self.default)
    }
}

impl ResolvesServerCert for Resolver {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.find(hello.server_name()).clone())
    }
}

fn certified(identity: Identity<'_>) -> Result<Arc<CertifiedKey>, TlsError> {
    let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(identity.chain).collect();
    let chain = chain.map_err(|error| TlsError::Certificate(format!("is not PEM: {error}")))?;
    if chain.is_empty() {
        return Err(TlsError::Certificate("holds no certificate: write one or more in PEM".to_owned()));
    }
    let key = PrivateKeyDer::from_pem_slice(identity.key)
        .map_err(|_| TlsError::Key("holds no private key: write one in PEM, without a password".to_owned()))?;
    let key = CertifiedKey::from_der(chain, key, &ring::default_provider())
        .map_err(|error| TlsError::Key(format!("does not serve: {error}")))?;
    Ok(Arc::new(key))
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
    use rcgen::{CertificateParams, KeyPair};

    use super::*;

    fn pair(names: &[&str]) -> (String, String) {
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let key = KeyPair::generate().unwrap();
        (CertificateParams::new(names).unwrap().self_signed(&key).unwrap().pem(), key.serialize_pem())
    }

    fn identity((chain, key): &(String, String)) -> Identity<'_> {
        Identity { chain: chain.as_bytes(), key: key.as_bytes() }
    }

    #[test]
    fn the_certificate_is_that_of_the_name_asked_for() {
        let (first, second) =
            (certified(identity(&pair(&["a.example"]))).unwrap(), pair(&["b.example", "*.c.example"]));
        let second = certified(identity(&second)).unwrap();
        let mut resolver = Resolver { exact: HashMap::new(), suffixes: HashMap::new(), default: first.clone() };
        resolver.add(&first);
        resolver.add(&second);
        for (name, wanted) in [
            (Some("a.example"), &first),
            (Some("B.example"), &second),
            (Some("x.c.example"), &second),
            (Some("x.y.c.example"), &first),
            (Some("c.example"), &first),
            (None, &first),
        ] {
            assert!(Arc::ptr_eq(resolver.find(name), wanted), "{name:?}");
        }
    }

    #[test]
    fn what_cannot_serve_is_named_by_its_place_and_no_key_is_shown() {
        let (good, other) = (pair(&["a"]), pair(&["b"]));
        let mixed = Identity { chain: good.0.as_bytes(), key: other.1.as_bytes() };
        let refused = ServerTls::new(identity(&good), &[mixed], b"", Clients::Unasked, true).unwrap_err();
        assert!(matches!(&refused, (1, TlsError::Key(text)) if text.starts_with("does not serve: ")), "{refused:?}");
        let refused = ServerTls::new(identity(&good), &[], b"x", Clients::Required, true).unwrap_err();
        assert!(matches!(refused, (0, TlsError::ClientCa(_))));
        let made = ServerTls::new(identity(&good), &[identity(&other)], b"", Clients::Unasked, true).unwrap();
        assert_eq!(format!("{made:?}"), "ServerTls { clients: Unasked, .. }");
    }
}
