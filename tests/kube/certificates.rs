//! The certificates of one cluster: two authorities, and what each program shows to the others.

use std::path::Path;

use rcgen::{
    BasicConstraints, Certificate, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose,
};

/// A certificate and its key, as PEM.
#[derive(Clone)]
pub struct Identity {
    pub certificate: String,
    pub key: String,
}

/// Everything that a cluster's programs read.
pub struct Certificates {
    pub authority: String,
    pub front_proxy_authority: String,
    pub server: Identity,
    pub front_proxy_client: Identity,
    /// Signs service accounts' tokens; the API server reads the public half.
    pub service_accounts: KeyPair,
    authority_issuer: Issuer<'static, KeyPair>,
}

impl Certificates {
    pub fn generate() -> Self {
        let (authority, authority_issuer) = make_authority("cluster");
        let (front_proxy_authority, front_proxy_issuer) = make_authority("front-proxy");
        let names = ["127.0.0.1", "10.96.0.1", "localhost", "kubernetes.default.svc"].map(str::to_owned);
        let mut server = CertificateParams::new(names).expect("names");
        server.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        Self {
            authority: authority.pem(),
            front_proxy_authority: front_proxy_authority.pem(),
            server: sign(server, "kube-apiserver", None, &authority_issuer),
            front_proxy_client: client(&front_proxy_issuer, "front-proxy-client", None),
            service_accounts: KeyPair::generate().expect("a key"),
            authority_issuer,
        }
    }

    /// The certificate of a user, in a group if one is named.
    pub fn user(&self, name: &str, group: Option<&str>) -> Identity {
        client(&self.authority_issuer, name, group)
    }

    /// Writes what the API server and the controllers read into `directory`.
    pub fn write(&self, directory: &Path) {
        let files = [
            ("ca.crt", self.authority.clone()),
            ("front-proxy-ca.crt", self.front_proxy_authority.clone()),
            ("apiserver.crt", self.server.certificate.clone()),
            ("apiserver.key", self.server.key.clone()),
            ("front-proxy-client.crt", self.front_proxy_client.certificate.clone()),
            ("front-proxy-client.key", self.front_proxy_client.key.clone()),
            ("sa.key", self.service_accounts.serialize_pem()),
            ("sa.pub", self.service_accounts.public_key_pem()),
        ];
        for (name, text) in files {
            std::fs::write(directory.join(name), text).unwrap_or_else(|e| panic!("{name}: {e}"));
        }
    }
}

fn make_authority(name: &str) -> (Certificate, Issuer<'static, KeyPair>) {
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign, KeyUsagePurpose::DigitalSignature];
    let key = KeyPair::generate().expect("a key");
    let certificate = params.self_signed(&key).expect("a certificate");
    (certificate, Issuer::new(params, key))
}

fn client(issuer: &Issuer<'static, KeyPair>, name: &str, group: Option<&str>) -> Identity {
    let mut params = CertificateParams::default();
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    sign(params, name, group, issuer)
}

fn sign(mut params: CertificateParams, name: &str, group: Option<&str>, issuer: &Issuer<'static, KeyPair>) -> Identity {
    params.distinguished_name.push(DnType::CommonName, name);
    if let Some(group) = group {
        params.distinguished_name.push(DnType::OrganizationName, group);
    }
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    let key = KeyPair::generate().expect("a key");
    let certificate = params.signed_by(&key, issuer).expect("a certificate");
    Identity { certificate: certificate.pem(), key: key.serialize_pem() }
}
