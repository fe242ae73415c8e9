//! TLS on both sides: names, ALPN, client certificates, files that change.

use std::net::SocketAddr;
use std::process::{Command, Stdio};

use crate::backend::Backend;
use crate::bed::certificates::{Authority, Certified};
use crate::bed::wait_until;
use crate::curl::{Answer, curl};
use crate::support::{Gateway, SOON, Setup, endpoint};

fn pair(certified: &Certified) -> String {
    format!("certificate = {:?}, key = {:?}", certified.certificate, certified.key)
}

fn over_tls(backends: &[Backend], tls: &str) -> Gateway {
    Setup::over(backends).listener(&format!("tls = {{ {tls} }}")).route("pool = \"web\"").start()
}

/// curl by this name, which resolves to the gateway.
fn ask(gateway: &Gateway, name: &str, authority: &Authority, arguments: &[&str]) -> Answer {
    let port = gateway.address.port();
    let (url, resolve) = (format!("https://{name}:{port}/"), format!("{name}:{port}:127.0.0.1"));
    let ca = authority.path();
    curl(&[&["--cacert", ca.to_str().unwrap(), "--resolve", &resolve], arguments, &[&url]].concat())
}

/// The subject of the certificate that is shown to who asks for this name.
fn shown(gateway: &Gateway, name: &str) -> String {
    shown_at(gateway.address, name)
}

/// The same at an address; empty where none is.
pub(crate) fn shown_at(address: SocketAddr, name: &str) -> String {
    let address = address.to_string();
    let mut command = Command::new("openssl");
    command.args(["s_client", "-connect", &address, "-servername", name]).stdin(Stdio::null());
    let said = String::from_utf8_lossy(&command.output().unwrap().stdout).into_owned();
    said.lines().find(|line| line.starts_with("subject=")).unwrap_or_default().to_owned()
}

#[test]
fn alpn_chooses_http2_where_the_client_can_and_http1_where_it_cannot() {
    let (authority, backends) = (Authority::new(), Backend::several(1));
    let gateway = over_tls(&backends, &pair(&authority.issue("edge")));
    let two = ask(&gateway, "127.0.0.1", &authority, &["--http2"]);
    assert_eq!((two.status, &*two.version), (200, "2"), "{two:?}");
    assert_eq!(two.echo().header("X-Forwarded-Proto"), ["https"]);
    let one = ask(&gateway, "127.0.0.1", &authority, &["--http1.1"]);
    assert_eq!((one.status, &*one.version), (200, "1.1"), "{one:?}");
    let plain = gateway.curl("/", &[]);
    assert!(plain.exit != 0, "plain text on a TLS port: {plain:?}");
    wait_until(SOON, "the failure is counted", || {
        gateway.tidegate.metric("tidegate_gateway_tls_failures_total") >= 1.0
    });
    let old = ask(&gateway, "127.0.0.1", &authority, &["--tlsv1.1", "--tls-max", "1.1"]);
    assert!(old.exit != 0, "{old:?}");
}

#[test]
fn the_certificate_is_the_one_of_the_name_that_is_asked_for() {
    let (authority, backends) = (Authority::new(), Backend::several(1));
    let named = |name: &str| authority.issue_for(name, &[name]);
    let certificates = [named("shop.example"), authority.issue_for("wide", &["*.news.example"])];
    let list: Vec<String> = certificates.iter().map(|it| format!("{{ {} }}", pair(it))).collect();
    let tls = format!("{}, certificates = [{}]", pair(&authority.issue("default")), list.join(", "));
    let gateway = over_tls(&backends, &tls);
    for (name, subject) in [("shop.example", "shop.example"), ("eu.news.example", "wide"), ("other.example", "default")]
    {
        assert!(shown(&gateway, name).contains(subject), "{name}: {}", shown(&gateway, name));
    }
    assert_eq!(ask(&gateway, "shop.example", &authority, &[]).status, 200);
    assert_eq!(ask(&gateway, "eu.news.example", &authority, &[]).status, 200);
    assert!(ask(&gateway, "other.example", &authority, &[]).exit != 0, "no certificate has this name");
}

#[test]
fn a_client_certificate_is_asked_for_and_its_name_arrives() {
    let (authority, backends) = (Authority::new(), Backend::several(1));
    let tls = format!("{}, client_ca = {:?}", pair(&authority.issue("edge")), authority.path());
    let gateway = over_tls(&backends, &tls);
    let with = |certified: &Certified| {
        let (certificate, key) = (certified.certificate.to_str().unwrap(), certified.key.to_str().unwrap());
        ask(
            &gateway,
            "127.0.0.1",
            &authority,
            &["--cert", certificate, "--key", key, "-H", "X-Forwarded-Client-Name: forged"],
        )
    };
    let known = with(&authority.issue("alice"));
    assert!(known.echo().header("X-Forwarded-Client-Name").join("").contains("alice"), "{}", known.text());
    assert!(!known.text().contains("forged"), "{}", known.text());
    assert_eq!(with(&Authority::new().issue("mallory")).status, 0);
    assert_eq!(with(&authority.issue_expired("late")).status, 0);
    assert_eq!(ask(&gateway, "127.0.0.1", &authority, &[]).status, 0);
}

#[test]
fn a_renewed_certificate_is_shown_and_connections_go_on() {
    let (authority, backends) = (Authority::new(), Backend::several(1));
    let files = authority.issue("before");
    let mut gateway = over_tls(&backends, &pair(&files));
    let port = gateway.address.port();
    let ca = authority.path();
    let url = format!("https://127.0.0.1:{port}/delay/2000");
    let ca_text = ca.to_str().unwrap().to_owned();
    let slow = std::thread::spawn(move || curl(&["--cacert", &ca_text, &url]));
    wait_until(SOON, "the request is under way", || backends[0].statistics()["in_flight"] == 1);
    let renewed = authority.issue("after");
    std::fs::copy(&renewed.key, &files.key).unwrap();
    std::fs::copy(&renewed.certificate, &files.certificate).unwrap();
    gateway.tidegate.signal("HUP");
    wait_until(SOON, "the new certificate", || shown(&gateway, "127.0.0.1").contains("after"));
    assert_eq!(slow.join().unwrap().status, 200);
}

#[test]
fn an_upstream_is_spoken_to_by_tls_and_must_be_who_it_says() {
    let authority = Authority::new();
    let served = authority.issue("inner");
    let (certificate, key) = (served.certificate.to_str().unwrap(), served.key.to_str().unwrap());
    let backend = Backend::start_with("b0", [127, 0, 0, 1].into(), &["-cert", certificate, "-key", key]);
    let stranger = Authority::new();
    let tls = |id: &str, ca: &Authority, protocol: &str, further: &str| {
        format!(
            "[[gateway.pool]]\nid = \"{id}\"\nprotocol = \"{protocol}\"\ntls = {{ ca = {:?}{further} }}\n[[gateway.route]]\n\
             path_prefix = \"/{id}\"\npool = \"{id}\"\n",
            ca.path()
        )
    };
    let pools = ["one", "two", "wrong-ca", "wrong-name"];
    let mut setup = Setup::new();
    for pool in pools {
        setup = setup.endpoints(pool, vec![endpoint(backend.http, "")]);
    }
    let gateway = setup
        .section(&tls("one", &authority, "http1", ""))
        .section(&tls("two", &authority, "http2", ""))
        .section(&tls("wrong-ca", &stranger, "http1", ""))
        .section(&tls("wrong-name", &authority, "http1", ", server_name = \"other.example\""))
        .start();
    assert_eq!(gateway.curl("/one", &[]).echo().text("protocol"), "HTTP/1.1");
    assert_eq!(gateway.curl("/two", &["-d", "x"]).echo().text("protocol"), "HTTP/2.0");
    gateway.curl("/wrong-ca", &[]).assert_refused(502, "connect_failed");
    gateway.curl("/wrong-name", &[]).assert_refused(502, "connect_failed");
}
