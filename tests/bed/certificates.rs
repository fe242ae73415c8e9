//! Certificates for tests: an authority, and what it signs.

use super::workdir::WorkDir;
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair,
    KeyUsagePurpose,
};
use std::path::PathBuf;

/// An authority of its own, with a directory for files.
pub struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
    directory: WorkDir,
}

/// A certificate and its key, as files in PEM.
#[derive(Clone, Debug)]
pub struct Certified {
    /// The certificate.
    pub certificate: PathBuf,
    /// Its key.
    pub key: PathBuf,
}

impl Authority {
    /// A new one, which nobody trusts yet.
    pub fn new() -> Self {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, super::unique("authority"));
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate().expect("a key")).expect("an authority");
        let directory = WorkDir::new("authority");
        directory.write("ca.pem", issuer.pem());
        Self { issuer, directory }
    }

    /// Its own certificate's file.
    pub fn path(&self) -> PathBuf {
        self.directory.path().join("ca.pem")
    }

    /// A certificate with this common name, for servers on 127.0.0.1 and for clients alike.
    pub fn issue(&self, name: &str) -> Certified {
        self.issue_until(name, &["127.0.0.1"], 2100)
    }

    /// A certificate with this common name, for servers of these names.
    pub fn issue_for(&self, name: &str, servers: &[&str]) -> Certified {
        self.issue_until(name, servers, 2100)
    }

    /// As [`Authority::issue`], over since long ago.
    pub fn issue_expired(&self, name: &str) -> Certified {
        self.issue_until(name, &["127.0.0.1"], 2021)
    }

    fn issue_until(&self, name: &str, servers: &[&str], year: i32) -> Certified {
        let servers: Vec<String> = servers.iter().map(|server| (*server).to_owned()).collect();
        let mut params = CertificateParams::new(servers).expect("names or addresses");
        params.distinguished_name.push(DnType::CommonName, name);
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        params.not_before = rcgen::date_time_ymd(2020, 1, 1);
        params.not_after = rcgen::date_time_ymd(year, 1, 1);
        let key = KeyPair::generate().expect("a key");
        let certificate = params.signed_by(&key, &self.issuer).expect("a certificate");
        let name = super::unique(name);
        let file = |suffix: &str, text: String| self.directory.write(&format!("{name}.{suffix}"), text);
        Certified { certificate: file("pem", certificate.pem()), key: file("key", key.serialize_pem()) }
    }
}
