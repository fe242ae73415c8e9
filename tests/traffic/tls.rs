//! TLS on the pull port: who a certificate is, and what changes while connections are open.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};
use serde_json::Value;

use crate::bed::certificates::{Authority, Certified};
use crate::bed::{WorkDir, wait_until};
use crate::kube::Cluster;
use crate::kube::objects::slice;
use crate::support::{Plane, SOON, Setup};

const FILE: &str = "[[pool]]\nid = \"vm/a\"\nendpoints = [{ address = \"10.9.4.1\", port = 8080 }]\n";

/// A connection on which requests follow each other.
struct Client {
    stream: StreamOwned<ClientConnection, TcpStream>,
}

struct Answer {
    status: u16,
    head: String,
    body: String,
}

fn config(authority: &Path, certificate: Option<&Certified>, protocols: &[&[u8]]) -> Arc<ClientConfig> {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(authority).unwrap()).unwrap();
    let builder = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()));
    let builder = builder.with_safe_default_protocol_versions().unwrap().with_root_certificates(roots);
    let mut config = match certificate {
        None => builder.with_no_client_auth(),
        Some(Certified { certificate, key }) => {
            let chain = vec![CertificateDer::from_pem_file(certificate).unwrap()];
            builder.with_client_auth_cert(chain, PrivateKeyDer::from_pem_file(key).unwrap()).unwrap()
        }
    };
    config.alpn_protocols = protocols.iter().map(|protocol| protocol.to_vec()).collect();
    Arc::new(config)
}

/// What every certificate is for, wherever its server listens.
fn name() -> ServerName<'static> {
    ServerName::from(std::net::IpAddr::from([127, 0, 0, 1]))
}

impl Client {
    fn connect(server: SocketAddr, authority: &Path, certificate: Option<&Certified>) -> Self {
        Self::speaking(server, config(authority, certificate, &[b"http/1.1"]))
    }

    fn speaking(server: SocketAddr, config: Arc<ClientConfig>) -> Self {
        let session = ClientConnection::new(config, name()).unwrap();
        let stream = TcpStream::connect(server).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(40))).unwrap();
        Self { stream: StreamOwned::new(session, stream) }
    }

    fn send(&mut self, method: &str, path: &str, headers: &str, body: &str) -> std::io::Result<()> {
        let length = body.len();
        let text = format!("{method} {path} HTTP/1.1\r\nHost: any\r\nContent-Length: {length}\r\n{headers}\r\n{body}");
        self.stream.write_all(text.as_bytes())?;
        self.stream.flush()
    }

    fn answer(&mut self) -> std::io::Result<Answer> {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            let mut byte = [0];
            self.stream.read_exact(&mut byte)?;
            head.push(byte[0]);
        }
        let head = String::from_utf8(head).unwrap().to_ascii_lowercase();
        let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")?.parse().ok()).unwrap_or(0);
        let mut body = vec![0; length];
        self.stream.read_exact(&mut body)?;
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        Ok(Answer { status, head, body: String::from_utf8(body).unwrap() })
    }

    fn try_get(&mut self, path: &str, headers: &str) -> std::io::Result<Answer> {
        self.send("GET", path, headers, "")?;
        self.answer()
    }

    fn get(&mut self, path: &str, headers: &str) -> Answer {
        self.try_get(path, headers).unwrap()
    }

    fn post(&mut self, path: &str, body: &str) -> u16 {
        self.send("POST", path, "", body).unwrap();
        self.answer().unwrap().status
    }

    /// The certificate that the server showed.
    fn shown(&self) -> Vec<u8> {
        self.stream.conn.peer_certificates().unwrap()[0].to_vec()
    }
}

impl Answer {
    fn header(&self, name: &str) -> &str {
        self.head.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": ")).unwrap()
    }
}

fn tls(server: &Certified, client_ca: Option<(&Authority, &str)>) -> String {
    let client =
        client_ca.map(|(authority, auth)| format!(", client_ca = {:?}, client_auth = \"{auth}\"", authority.path()));
    format!("tls = {{ certificate = {:?}, key = {:?}{} }}", server.certificate, server.key, client.unwrap_or_default())
}

fn rewrite(plane: &mut Plane, from: &str, to: &str) {
    let path = plane.tidegate.directory().join("tidegate.toml");
    let text = std::fs::read_to_string(&path).unwrap();
    assert!(text.contains(from), "{text}");
    std::fs::write(&path, text.replace(from, to)).unwrap();
    plane.tidegate.signal("HUP");
}

fn reloads(plane: &Plane, result: &str) -> f64 {
    plane.tidegate.metric_with("tidegate_config_reloads_total", &format!("result=\"{result}\""))
}

#[test]
fn a_client_is_who_its_certificate_names_and_sees_what_that_one_may() {
    let cluster = Cluster::shared(0);
    let namespace = cluster.namespace("certified");
    let ports = serde_json::json!([{"name": "http", "port": 8080}]);
    cluster.client().create(&slice(&namespace, "a", "a", &serde_json::json!([{"addresses": ["10.244.64.1"]}]), &ports));
    let (authority, strangers) = (Authority::new(), Authority::new());
    let server = authority.issue("hub");
    let files = WorkDir::new("tokens");
    let text = format!("edge certificate namespaces={namespace} write gateways=edge-*\nops:geheim write gateways=*\n");
    let tokens = files.write("tokens", text);
    let keys = format!("tokens_file = {tokens:?}\n{}", tls(&server, Some((&authority, "optional"))));
    // From beyond loopback, so that no certificate is no rights.
    let listen = format!("10.244.210.1:{}", crate::bed::free_port()).parse().unwrap();
    let plane = Setup::at(listen, &keys).cluster("east", cluster, "").file("vms.toml", FILE).start();
    let connect = |shown: Option<Certified>| Client::connect(plane.address, &authority.path(), shown.as_ref());
    let mut edge = connect(Some(authority.issue("edge")));
    let id = format!("/v1/pools/east/{namespace}/a/http");
    assert_eq!((edge.get(&id, "").status, edge.get("/v1/pools/vm/a", "").status), (200, 404));
    assert_eq!(edge.post("/v1/ack", r#"{"gateway":"edge-1"}"#), 204);
    assert_eq!(edge.post("/v1/ack", r#"{"gateway":"core-1"}"#), 403);
    let mut named_like_a_token = connect(Some(authority.issue("ops")));
    assert_eq!(named_like_a_token.get(&id, "").status, 401, "that one is known by its token alone");
    let mut bare = connect(None);
    assert_eq!(bare.get(&id, "").status, 401);
    assert_eq!(bare.get("/v1/pools/vm/a", "Authorization: Bearer geheim\r\n").status, 200);
    assert!(connect(Some(strangers.issue("edge"))).try_get(&id, "").is_err(), "of another authority");
    assert!(connect(Some(authority.issue_expired("edge"))).try_get(&id, "").is_err());
}

#[test]
fn certificates_alone_let_a_listener_be_public_and_both_kinds_of_http_are_spoken() {
    crate::kube::enter();
    let authority = Authority::new();
    let server = authority.issue("hub");
    let keys = tls(&server, Some((&authority, "required")));
    let listen = format!("10.244.211.1:{}", crate::bed::free_port()).parse().unwrap();
    let plane = Setup::at(listen, &keys).file("vms.toml", FILE).start();
    let gateway = authority.issue("edge-1");
    let mut client = Client::connect(plane.address, &authority.path(), Some(&gateway));
    assert_eq!(client.get("/v1/pools/vm/a", "").status, 200);
    assert_eq!(
        (client.post("/v1/ack", r#"{"gateway":"edge-1"}"#), client.post("/v1/ack", r#"{"gateway":"x"}"#)),
        (204, 403)
    );
    assert!(Client::connect(plane.address, &authority.path(), None).try_get("/v1/pools", "").is_err());
    assert!(TcpStream::connect(plane.address).is_ok_and(|mut plain| {
        let mut answer = String::new();
        plain.write_all(b"GET /v1/pools HTTP/1.1\r\nHost: any\r\n\r\n").is_ok()
            && plain.read_to_string(&mut answer).is_ok_and(|_| !answer.contains("200"))
            || answer.is_empty()
    }));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let (status, body) =
        runtime.block_on(over_http2(plane.address, config(&authority.path(), Some(&gateway), &[b"h2"])));
    assert_eq!((status, body), (200, client.get("/v1/pools/vm/a", "").body));
}

async fn over_http2(server: SocketAddr, config: Arc<ClientConfig>) -> (u16, String) {
    let stream = tokio::net::TcpStream::connect(server).await.unwrap();
    let connector = tokio_rustls::TlsConnector::from(config);
    let stream = connector.connect(name(), stream).await.unwrap();
    assert_eq!(stream.get_ref().1.alpn_protocol(), Some(&b"h2"[..]));
    let io = hyper_util::rt::TokioIo::new(stream);
    let executor = hyper_util::rt::TokioExecutor::new();
    let (mut sender, connection) = hyper::client::conn::http2::handshake(executor, io).await.unwrap();
    tokio::spawn(connection);
    let request = hyper::Request::get(format!("https://{server}/v1/pools/vm/a")).body(axum::body::Body::empty());
    let answer = sender.send_request(request.unwrap()).await.unwrap();
    let status = answer.status().as_u16();
    let body = axum::body::to_bytes(axum::body::Body::new(answer.into_body()), 1 << 20).await.unwrap();
    (status, String::from_utf8(body.to_vec()).unwrap())
}

#[test]
fn certificates_and_tokens_change_without_a_connection_lost_and_bad_ones_change_nothing() {
    crate::kube::enter();
    let authority = Authority::new();
    let (first, second) = (authority.issue("first"), authority.issue("second"));
    let files = WorkDir::new("certificate");
    let copy = |certified: &Certified| {
        // As a renewal does: both files, one after the other.
        std::fs::copy(&certified.certificate, files.path().join("tls.crt")).unwrap();
        std::fs::copy(&certified.key, files.path().join("tls.key")).unwrap();
    };
    copy(&first);
    let served = Certified { certificate: files.path().join("tls.crt"), key: files.path().join("tls.key") };
    let tokens = files.write("tokens", "old:secret-1\n");
    let keys = format!("tokens_file = {tokens:?}\n{}", tls(&served, None));
    let mut plane = Setup::new(&keys).file("vms.toml", FILE).start();
    let (address, ca) = (plane.address, authority.path());
    let connect = || Client::connect(address, &ca, None);
    let (old, new) = ("Authorization: Bearer secret-1\r\n", "Authorization: Bearer secret-2\r\n");
    let mut waiting = connect();
    let etag = waiting.get("/v1/pools/vm/a", old).header("etag").to_owned();
    let shown = waiting.shown();
    let wait = format!("{old}If-None-Match: {etag}\r\n");
    waiting.send("GET", "/v1/pools/vm/a?wait=5m", &wait, "").unwrap();
    plane.tidegate.wait_metric("tidegate_discovery_waiting_requests", SOON, |waiting| waiting >= 1.0);
    // Files that do not serve.
    let before = reloads(&plane, "refused");
    std::fs::write(&served.key, "nonsense").unwrap();
    wait_until(SOON, "the refusal", || reloads(&plane, "refused") > before);
    assert_eq!(plane.tidegate.metric("tidegate_config_stale"), 1.0);
    let page: Value = serde_json::from_slice(&plane.tidegate.get("/debug/pools").body).unwrap();
    assert!(page["configuration"]["last_error"].as_str().unwrap().contains("discovery.tls.key"), "{page}");
    let mut client = connect();
    assert_eq!((client.get("/v1/pools/vm/a", old).status, client.shown()), (200, shown.clone()));
    // Others that do, and another token.
    copy(&second);
    std::fs::write(&tokens, "new:secret-2\n").unwrap();
    plane.tidegate.signal("HUP");
    wait_until(SOON, "the new certificate", || {
        let mut client = connect();
        client.get("/v1/pools/vm/a", new).status == 200 && client.shown() != shown
    });
    assert_eq!(
        (connect().get("/v1/pools/vm/a", old).status, plane.tidegate.metric("tidegate_config_stale")),
        (401, 0.0)
    );
    // Whoever waited since before is answered on the same connection.
    std::fs::write(plane.file("vms.toml"), FILE.replace("10.9.4.1", "10.9.4.2")).unwrap();
    let answer = waiting.answer().unwrap();
    assert!(answer.status == 200 && answer.body.contains("10.9.4.2"), "{}", answer.body);
    assert_eq!(waiting.get("/v1/pools/vm/a", new).status, 200);
    // Whether TLS is spoken at all is settled at the start.
    rewrite(&mut plane, "tls = {", "# tls = {");
    plane.tidegate.wait_metric("tidegate_config_needs_restart", SOON, |keys| keys >= 1.0);
    assert_eq!(connect().get("/v1/pools/vm/a", new).status, 200);
}

#[test]
fn a_relay_shows_its_hub_a_certificate_and_a_token_and_trusts_no_other_hub() {
    crate::kube::enter();
    let (authority, strangers) = (Authority::new(), Authority::new());
    let server = authority.issue("hub");
    let files = WorkDir::new("relay");
    let tokens = files.write("tokens", "relay:geheim write gateways=*\n");
    let token = files.write("token", "geheim\n");
    let keys = format!("tokens_file = {tokens:?}\n{}", tls(&server, Some((&authority, "required"))));
    let hub = Setup::new(&keys).file("vms.toml", FILE).start();
    let own = authority.issue("node-1");
    let relay = |ca: &Authority| {
        Setup::new("").sections(&format!(
            "[[discovery.source]]\nkind = \"hub\"\nname = \"node-1\"\nurl = \"https://{}\"\ntoken_file = {token:?}\n\
             tls = {{ ca = {:?}, certificate = {:?}, key = {:?} }}",
            hub.address,
            ca.path(),
            own.certificate,
            own.key
        ))
    };
    let node = relay(&authority).start();
    assert_eq!(node.pool("vm/a").map(|pool| pool.len()), Some(1));
    assert_eq!(node.post("/v1/ack", r#"{"gateway":"edge-1"}"#).status, 204);
    wait_until(SOON, "told", || node.json("/v1/gateways")["gateways"][0]["upstream"]["state"] == "told");
    let blind = relay(&strangers).start_unsynced();
    let page = || String::from_utf8(blind.tidegate.get("/debug/pools").body).unwrap();
    wait_until(SOON, "the reason", || page().contains("certificate"));
    assert_eq!(blind.get("/v1/pools").status, 503);
    // The hub's rights change: what is refused is seen at the relay, and what is known stays.
    std::fs::write(&tokens, "relay:geheim\n").unwrap();
    wait_until(SOON, "refused", || {
        node.post("/v1/ack", r#"{"gateway":"edge-1"}"#);
        let gateway = node.json("/v1/gateways")["gateways"][0].clone();
        gateway["upstream"]["state"] == "refused" && gateway["upstream"]["error"].as_str().unwrap().contains("403")
    });
    assert_eq!(node.pool("vm/a").map(|pool| pool.len()), Some(1));
}
