//! TLS to endpoints, and checks of their health.

use std::sync::Arc;
use std::time::Duration;

use rcgen::{CertificateParams, CertifiedIssuer, KeyPair};
use rustls::ServerConfig;
use rustls::pki_types::PrivateKeyDer;
use rustls::pki_types::pem::PemObject;
use rustls::server::WebPkiClientVerifier;
use tokio_rustls::TlsAcceptor;

use super::server::Server;
use super::support::*;
use crate::net::tls;
use crate::upstream::config::*;
use crate::upstream::host::Out;
use crate::upstream::*;

/// An authority, and a certificate of it with its key, in PEM.
struct Authority {
    ca: String,
    certificate: String,
    key: String,
}

impl Authority {
    fn new(name: &str) -> Self {
        let mut ca = CertificateParams::default();
        ca.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        let issuer = CertifiedIssuer::self_signed(ca, KeyPair::generate().unwrap()).unwrap();
        let key = KeyPair::generate().unwrap();
        let certificate = CertificateParams::new(vec![name.to_owned()]).unwrap().signed_by(&key, &issuer).unwrap();
        Self { ca: issuer.pem(), certificate: certificate.pem(), key: key.serialize_pem() }
    }

    /// A server of HTTP/2 that asks clients for a certificate of this authority.
    async fn server(&self) -> Server {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let certificate = rustls::pki_types::CertificateDer::from_pem_slice(self.certificate.as_bytes()).unwrap();
        let key = PrivateKeyDer::from_pem_slice(self.key.as_bytes()).unwrap();
        let mut roots = rustls::RootCertStore::empty();
        roots.add(rustls::pki_types::CertificateDer::from_pem_slice(self.ca.as_bytes()).unwrap()).unwrap();
        let clients = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider.clone()).build().unwrap();
        let mut config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_client_cert_verifier(clients)
            .with_single_cert(vec![certificate], key)
            .unwrap();
        config.alpn_protocols = vec![b"h2".to_vec()];
        let acceptor = TlsAcceptor::from(Arc::new(config));
        Server::serving(move |stream, server| {
            let acceptor = acceptor.clone();
            async move {
                if let Ok(stream) = acceptor.accept(stream).await {
                    server.serve_http2(stream).await;
                }
            }
        })
        .await
    }

    fn client(&self, name: Option<&str>, identity: bool) -> PoolConfig {
        let pair = identity.then_some((self.certificate.as_bytes(), self.key.as_bytes()));
        let client = tls::client(self.ca.as_bytes(), pair).unwrap();
        let tls = UpstreamTls::new(&client, name, &format!("{name:?} {identity}")).unwrap();
        let connection = ConnectionConfig {
            tls: Some(Arc::new(tls)),
            protocol: UpstreamProtocol::Http2,
            ..ConnectionConfig::default()
        };
        PoolConfig { connection, ..PoolConfig::default() }
    }
}

#[tokio::test]
async fn tls_verifies_the_name_and_shows_the_clients_certificate() {
    let authority = Authority::new("shop.internal");
    let server = authority.server().await;
    let bed = Bed::with(authority.client(Some("shop.internal"), true), &[server.address]).await;
    assert_eq!(bed.get("/who").await, "HTTP/2.0 shop.example");
    assert_eq!((bed.get("/a").await, server.opened()), ("/a".to_owned(), 1));
    let foreign = Authority::new("shop.internal");
    for config in [
        authority.client(Some("other.internal"), true),
        authority.client(None, true),
        foreign.client(Some("shop.internal"), true),
    ] {
        let bed = Bed::with(config, &[server.address]).await;
        let mut error = bed.send(get("/")).await.unwrap_err();
        assert_eq!((error.kind(), error.written()), (SendErrorKind::Tls, Written::Nothing), "{error}");
        assert!(error.take_request().is_some());
    }
    // In TLS 1.3 a client hears that its certificate is missing only after it has begun.
    let bed = Bed::with(authority.client(Some("shop.internal"), false), &[server.address]).await;
    assert!(bed.send(get("/")).await.is_err());
}

#[tokio::test]
async fn a_change_of_tls_takes_other_connections() {
    let authority = Authority::new("shop.internal");
    let server = authority.server().await;
    let bed = Bed::with(authority.client(Some("shop.internal"), true), &[server.address]).await;
    bed.get("/a").await;
    let foreign = Authority::new("shop.internal").client(Some("shop.internal"), false);
    drop(bed.upstreams.reconfigure([(id(POOL), foreign)].into()));
    until("the connection of before closes", || server.open() == 0).await;
    assert_eq!(bed.send(get("/")).await.unwrap_err().kind(), SendErrorKind::Tls);
    assert!(UpstreamTls::new(&tls::client(authority.ca.as_bytes(), None).unwrap(), Some("a b"), "").is_err());
}

fn checked(kind: CheckKind) -> HealthCheck {
    let (interval, timeout) = (Duration::from_millis(10), Duration::from_secs(2));
    HealthCheck { kind, interval, timeout, rise: 2, fall: 2, port: None }
}

#[tokio::test]
async fn checks_take_an_endpoint_out_and_bring_it_back_and_a_swap_forgets_nothing() {
    let (good, bad) = (Server::start().await, Server::start().await);
    good.set_healthy(true);
    bad.set_healthy(true);
    let check = checked(CheckKind::Http { path: "/health".to_owned(), host: None, expected: (200, 299) });
    let config = PoolConfig { health_check: Some(check), ..PoolConfig::default() };
    let mut bed = Bed::with(config, &[good.address, bad.address]).await;
    let serves = |bed: &Bed| (0..40).filter(|_| bed.pick().unwrap().address() == bad.address).count();
    assert!(serves(&bed) > 0);
    bad.set_healthy(false);
    until("it is out", || serves(&bed) == 0).await;
    let report = bed.upstreams.report().to_string();
    assert!(report.contains("\"unhealthy\"") && report.contains("status 503"), "{report}");
    bed.tell(vec![crate::endpoints::pool::Endpoint { weight: 5, ..at(bad.address) }, at(good.address)]).await;
    assert_eq!(serves(&bed), 0, "the swap kept what is known");
    bad.set_healthy(true);
    until("it is back", || serves(&bed) > 0).await;
}

#[tokio::test]
async fn a_connection_is_enough_for_one_kind_and_grpc_asks_what_grpc_has_for_it() {
    let server = Server::start_http2().await;
    server.set_healthy(true);
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let nobody = listener.local_addr().unwrap();
    drop(listener);
    for kind in [CheckKind::Tcp, CheckKind::Grpc { service: "shop.Cart".to_owned() }] {
        let grpc = kind != CheckKind::Tcp;
        let config = PoolConfig { health_check: Some(checked(kind)), ..PoolConfig::default() };
        let bed = Bed::with(config, &[server.address, nobody]).await;
        let out = |address| {
            let pool = bed.pool();
            let member = pool.members.iter().find(|it| it.host.target.address() == address).unwrap();
            (member.host.is_out_for(Out::Unhealthy), member.host.health.verdict())
        };
        until("nobody is out", || out(nobody).0).await;
        until("the server is checked", || out(server.address).1.checks > 3).await;
        assert_eq!((out(server.address).0, out(server.address).1.failure), (false, None));
        if grpc {
            server.set_healthy(false);
            until("NOT_SERVING", || out(server.address).0).await;
            assert_eq!(out(server.address).1.failure.unwrap(), "it says NOT_SERVING");
        }
    }
}
