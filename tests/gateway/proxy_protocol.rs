//! The PROXY protocol, both versions, in and out.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::mpsc;
use std::time::Duration;

use crate::backend::Backend;
use crate::bed::wait_until;
use crate::support::{SOON, Setup, endpoint};

const SIGNATURE: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";
const REQUEST: &[u8] = b"GET / HTTP/1.1\r\nHost: t\r\nConnection: close\r\n\r\n";

fn version_2(command: u8, family: u8, rest: &[u8]) -> Vec<u8> {
    let length = u16::try_from(rest.len()).unwrap().to_be_bytes();
    [SIGNATURE, &[0x20 | command, family], &length, rest].concat()
}

/// Sends a header and a request; all that comes back.
fn ask(address: SocketAddr, header: &[u8]) -> String {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    let _ = stream.write_all(&[header, REQUEST].concat());
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer);
    String::from_utf8_lossy(&answer).into_owned()
}

#[test]
fn the_client_is_the_one_that_the_header_names() {
    let backends = Backend::several(1);
    let gateway = Setup::over(&backends).listener("proxy_protocol = true").route("pool = \"web\"").start();
    let named = |header: &[u8], client: &str| {
        let answer = ask(gateway.address, header);
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
        assert!(answer.contains(&format!("\"X-Forwarded-For\":[\"{client}\"]")), "{client}: {answer}");
    };
    named(b"PROXY TCP4 192.0.2.7 127.0.0.1 5000 80\r\n", "192.0.2.7");
    named(b"PROXY TCP6 2001:db8::7 ::1 5000 80\r\n", "2001:db8::7");
    named(b"PROXY UNKNOWN\r\n", "127.0.0.1");
    named(&version_2(1, 0x11, &[192, 0, 2, 8, 127, 0, 0, 1, 0x13, 0x88, 0, 80]), "192.0.2.8");
    named(&version_2(0, 0, &[]), "127.0.0.1");
    // With a TLV behind the addresses.
    named(&version_2(1, 0x11, &[192, 0, 2, 9, 127, 0, 0, 1, 0x13, 0x88, 0, 80, 4, 0, 1, 0]), "192.0.2.9");
}

#[test]
fn a_connection_without_a_good_header_is_closed_and_nothing_of_it_is_served() {
    let backends = Backend::several(1);
    let gateway = Setup::over(&backends)
        .keys("head_timeout_seconds = 1")
        .listener("proxy_protocol = true")
        .route("pool = \"web\"")
        .start();
    for header in [
        &b""[..],
        b"PROXY TCP4 192.0.2.7\r\n",
        b"PROXY TCP4 a b c d\r\n",
        b"PROXY TCP4 192.0.2.7 127.0.0.1 99999 80\r\n",
        b"PROXY TCP4 192.0.2.7 127.0.0.1 5000 80\n",
        &version_2(1, 0x11, &[1, 2, 3]),
        &version_2(3, 0x11, &[192, 0, 2, 8, 127, 0, 0, 1, 0x13, 0x88, 0, 80]),
    ] {
        let answer = ask(gateway.address, header);
        assert!(!answer.contains("HTTP/1.1 200"), "{:?}: {answer}", String::from_utf8_lossy(header));
    }
    assert_eq!(backends[0].requests(), 0);
    // Who sends nothing at all is not waited for.
    let mut silent = TcpStream::connect(gateway.address).unwrap();
    silent.set_read_timeout(Some(SOON)).unwrap();
    let mut nothing = Vec::new();
    let ended = silent.read_to_end(&mut nothing);
    assert!(
        matches!(&ended, Ok(0))
            || ended.as_ref().is_err_and(|error| error.kind() == std::io::ErrorKind::ConnectionReset),
        "{ended:?}"
    );
}

/// A back end that tells the first bytes of its connections and answers with nothing.
fn first_bytes() -> (SocketAddr, mpsc::Receiver<Vec<u8>>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let (sender, receiver) = mpsc::sync_channel(16);
    std::thread::spawn(move || {
        for mut stream in listener.incoming().map_while(Result::ok) {
            let mut bytes = Vec::new();
            let mut piece = [0; 1024];
            while !bytes.windows(4).skip(16).any(|four| four == b"\r\n\r\n") {
                match stream.read(&mut piece) {
                    Ok(count @ 1..) => bytes.extend_from_slice(&piece[..count]),
                    _ => break,
                }
            }
            let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
            if sender.send(bytes).is_err() {
                return;
            }
        }
    });
    (address, receiver)
}

#[test]
fn a_back_end_is_told_the_client_before_the_first_request() {
    for version in ["v1", "v2"] {
        let (address, bytes) = first_bytes();
        let gateway = Setup::new()
            .endpoints("web", vec![endpoint(address, "")])
            .route("pool = \"web\"")
            .section(&format!("[[gateway.pool]]\nid = \"web\"\nproxy_protocol = \"{version}\""))
            .start();
        assert_eq!(gateway.curl("/", &[]).status, 200);
        let came = bytes.recv_timeout(SOON).unwrap();
        let port = gateway.address.port();
        if version == "v1" {
            let text = String::from_utf8_lossy(&came).into_owned();
            assert!(text.starts_with("PROXY TCP4 127.0.0.1 127.0.0.1 "), "{text}");
            assert!(text.lines().next().unwrap().ends_with(&format!(" {port}")), "{text}");
        } else {
            assert_eq!(&came[..12], SIGNATURE);
            assert_eq!((came[12], came[13], &came[16..24]), (0x21, 0x11, &[127, 0, 0, 1, 127, 0, 0, 1][..]));
            assert_eq!(came[26..28], port.to_be_bytes());
        }
        // Connections are not shared between clients.
        assert_eq!(gateway.curl("/", &[]).status, 200);
        wait_until(SOON, "a connection of the second client's own", || bytes.try_recv().is_ok());
    }
}
