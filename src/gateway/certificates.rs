//! Which certificate a client is shown, by the name that it asks for (SNI).
//!
//! The exact name comes before patterns, and patterns before the one for everybody; of each, the file's comes first, but for the last:
//! a cluster's is there only where somebody asked for it, and the file's is needed where nobody did. The file's certificates serve the
//! names that stand in them; a cluster's serve the hosts that their object has, whatever stands in them: who writes a Secret must not
//! get another's host by it.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;

use super::config::HostPattern;
use crate::net::tls::{TlsError, names};

/// A certificate's chain and its key, both in PEM.
#[derive(Clone, Copy)]
pub struct Identity<'a> {
    /// The listener's own certificate first.
    pub chain: &'a [u8],
    /// The private key.
    pub key: &'a [u8],
}

/// A certificate that can serve. Cheap to clone; its key is never shown.
#[derive(Clone)]
pub struct Certificate(Arc<CertifiedKey>);

/// A cluster's certificate and whom it is shown to.
#[derive(Clone, Debug, PartialEq)]
pub struct HostCertificate {
    /// Who asks for this host.
    pub host: HostPattern,
    /// At the listeners on this port; `None`: at all that speak TLS.
    pub port: Option<u16>,
    /// What is shown.
    pub certificate: Certificate,
}

/// Certificates by name.
#[derive(Debug, Default)]
pub(super) struct Names {
    exact: HashMap<String, Certificate>,
    /// Without the `*`, with the dot.
    suffixes: HashMap<String, Certificate>,
    /// For who asks for no name, or for one that nobody has.
    default: Option<Certificate>,
}

/// What a listener chooses from.
#[derive(Debug)]
pub(super) struct Resolver {
    pub(super) file: Arc<Names>,
    pub(super) cluster: Names,
}

// === impl Certificate ===

impl Certificate {
    /// Of what stands in PEM.
    ///
    /// # Errors
    /// A text holds no such thing, or key and certificate do not belong together. No error shows the key.
    pub fn new(identity: Identity<'_>) -> Result<Self, TlsError> {
        let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(identity.chain).collect();
        let chain = chain.map_err(|error| TlsError::Certificate(format!("is not PEM: {error}")))?;
        if chain.is_empty() {
            return Err(TlsError::Certificate("holds no certificate: write one or more in PEM".to_owned()));
        }
        let key = PrivateKeyDer::from_pem_slice(identity.key)
            .map_err(|_| TlsError::Key("holds no private key: write one in PEM, without a password".to_owned()))?;
        let key = CertifiedKey::from_der(chain, key, &ring::default_provider())
            .map_err(|error| TlsError::Key(format!("does not serve: {error}")))?;
        Ok(Self(Arc::new(key)))
    }

    /// The names that stand in it, as hosts.
    pub(super) fn hosts(&self) -> Vec<HostPattern> {
        let host = |name: String| {
            let name = name.to_ascii_lowercase();
            match name.strip_prefix('*') {
                Some(suffix) => HostPattern::Suffix(suffix.to_owned()),
                None => HostPattern::Exact(name),
            }
        };
        self.0.cert.first().map(names).unwrap_or_default().into_iter().map(host).collect()
    }
}

impl PartialEq for Certificate {
    /// A certificate names its key, so that the chain says it all.
    fn eq(&self, other: &Self) -> bool {
        self.0.cert == other.0.cert
    }
}

impl fmt::Debug for Certificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Keys stay out of logs and panics.
        f.debug_struct("Certificate").finish_non_exhaustive()
    }
}

// === impl Names ===

impl Names {
    /// Of the file: the default and further ones, by the names that stand in them. Of two with the same name, the first one counts.
    pub(super) fn of_file(default: Option<Certificate>, further: Vec<Certificate>) -> Self {
        let mut all = Self { default: default.clone(), ..Self::default() };
        for certificate in default.into_iter().chain(further) {
            certificate.hosts().into_iter().for_each(|host| all.add(host, &certificate));
        }
        all
    }

    /// Of a cluster, for the listeners on a port. Of two for the same host, the first one counts.
    pub(super) fn of_cluster(certificates: &[HostCertificate], port: u16) -> Self {
        let mut all = Self::default();
        for it in certificates.iter().filter(|it| it.port.is_none_or(|own| own == port)) {
            all.add(it.host.clone(), &it.certificate);
        }
        all
    }

    fn add(&mut self, host: HostPattern, certificate: &Certificate) {
        match host {
            HostPattern::Any => {
                self.default.get_or_insert_with(|| certificate.clone());
            }
            HostPattern::Exact(name) => {
                self.exact.entry(name).or_insert_with(|| certificate.clone());
            }
            HostPattern::Suffix(suffix) => {
                self.suffixes.entry(suffix).or_insert_with(|| certificate.clone());
            }
        }
    }
}

// === impl Resolver ===

impl Resolver {
    fn find(&self, name: Option<&str>) -> Option<&Certificate> {
        let Self { file, cluster } = self;
        let default = || cluster.default.as_ref().or(file.default.as_ref());
        let Some(name) = name else { return default() };
        let name = name.to_ascii_lowercase();
        // A certificate's pattern stands for one label, a host's for any number.
        let one_label = || name.find('.').and_then(|dot| file.suffixes.get(name.get(dot..)?));
        let labels = || name.match_indices('.').find_map(|(dot, _)| cluster.suffixes.get(name.get(dot..)?));
        let exact = file.exact.get(&name).or_else(|| cluster.exact.get(&name));
        exact.or_else(one_label).or_else(labels).or_else(default)
    }
}

impl ResolvesServerCert for Resolver {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        self.find(hello.server_name()).map(|found| found.0.clone())
    }
}

#[cfg(test)]
pub(super) mod tests {
    use rcgen::{CertificateParams, KeyPair};

    use super::*;

    /// A chain and its key.
    pub(in crate::gateway) fn pair(names: &[&str]) -> (String, String) {
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let key = KeyPair::generate().unwrap();
        (CertificateParams::new(names).unwrap().self_signed(&key).unwrap().pem(), key.serialize_pem())
    }

    pub(in crate::gateway) fn identity((chain, key): &(String, String)) -> Identity<'_> {
        Identity { chain: chain.as_bytes(), key: key.as_bytes() }
    }

    fn certificate(names: &[&str]) -> Certificate {
        Certificate::new(identity(&pair(names))).unwrap()
    }

    #[test]
    fn the_certificate_is_that_of_the_name_asked_for() {
        let (first, second) = (certificate(&["a.example"]), certificate(&["b.example", "*.c.example"]));
        let file = Names::of_file(Some(first.clone()), vec![second.clone()]);
        let resolver = Resolver { file: Arc::new(file), cluster: Names::default() };
        for (name, wanted) in [
            (Some("a.example"), &first),
            (Some("B.example"), &second),
            (Some("x.c.example"), &second),
            (Some("x.y.c.example"), &first),
            (Some("c.example"), &first),
            (None, &first),
        ] {
            assert_eq!(resolver.find(name), Some(wanted), "{name:?}");
        }
        let nothing = Resolver { file: Arc::default(), cluster: Names::default() };
        assert_eq!((nothing.find(Some("a.example")), nothing.find(None)), (None, None));
    }

    #[test]
    fn a_clusters_certificate_serves_its_host_alone_whatever_stands_in_it() {
        let (own, wide) = (certificate(&["a.example", "*.news.example"]), certificate(&["x"]));
        let (greedy, everybody) = (certificate(&["b.example", "a.example"]), certificate(&["y"]));
        let of = |host: HostPattern, port, certificate: &Certificate| HostCertificate {
            host,
            port,
            certificate: certificate.clone(),
        };
        let exact = |host: &str| HostPattern::Exact(host.to_owned());
        let all = [
            of(exact("shop.example"), None, &greedy),
            of(HostPattern::Suffix(".wide.example".to_owned()), Some(443), &wide),
            of(exact("shop.example"), Some(443), &everybody),
            of(exact("a.example"), None, &greedy),
            of(HostPattern::Any, Some(8443), &everybody),
        ];
        let file = Arc::new(Names::of_file(Some(own.clone()), Vec::new()));
        let at = |port| Resolver { file: file.clone(), cluster: Names::of_cluster(&all, port) };
        for (port, name, wanted) in [
            (443, "shop.example", &greedy),
            (443, "b.example", &own),
            (443, "a.example", &own),
            (443, "x.news.example", &own),
            (443, "x.y.wide.example", &wide),
            (8443, "x.wide.example", &everybody),
            (8443, "other.example", &everybody),
        ] {
            assert_eq!(at(port).find(Some(name)), Some(wanted), "{port} {name}");
        }
    }
}
