//! The fault proxy alone, before an echo server.

use super::SOON;
use crate::bed::{After, Direction, FaultProxy, free_port, wait_until};
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::time::{Duration, Instant};

/// An echo server for one proxy, on a thread that ends with the last connection.
fn echo() -> SocketAddr {
    let listener = TcpListener::bind(("127.0.0.1", free_port())).unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            std::thread::spawn(move || {
                let mut writer = stream.try_clone().unwrap();
                let _ = std::io::copy(&mut &stream, &mut writer);
            });
        }
    });
    address
}

fn through(proxy: &FaultProxy) -> TcpStream {
    let stream = TcpStream::connect(proxy.address()).unwrap();
    stream.set_nodelay(true).unwrap();
    stream.set_read_timeout(Some(SOON)).unwrap();
    stream
}

fn said(stream: &mut TcpStream, wait: Duration) -> Option<Vec<u8>> {
    stream.set_read_timeout(Some(wait)).unwrap();
    let mut buffer = [0; 1000];
    let read = stream.read(&mut buffer).ok()?;
    Some(buffer[..read].to_vec())
}

#[test]
fn the_proxy_passes_delays_and_throttles() {
    let proxy = FaultProxy::start(echo());
    let mut stream = through(&proxy);
    let big = vec![7; 3_000_000];
    let mut writer = stream.try_clone().unwrap();
    std::thread::scope(|scope| {
        scope.spawn(|| writer.write_all(&big).unwrap());
        let mut back = vec![0; big.len()];
        stream.read_exact(&mut back).unwrap();
        assert!(back == big);
    });
    assert_eq!(proxy.forwarded(Direction::ToServer), 3_000_000);

    proxy.delay(Direction::ToServer, Duration::from_millis(100));
    proxy.delay(Direction::ToClient, Duration::from_millis(100));
    let start = Instant::now();
    stream.write_all(b"x").unwrap();
    assert_eq!(said(&mut stream, SOON).unwrap(), b"x");
    assert!(start.elapsed() >= Duration::from_millis(200));

    proxy.heal();
    proxy.throttle(Direction::ToClient, 2, Duration::from_millis(5));
    stream.write_all(b"abcdef").unwrap();
    let mut pieces = Vec::new();
    while pieces.concat() != b"abcdef" {
        pieces.push(said(&mut stream, SOON).unwrap());
    }
    assert!(pieces.iter().all(|piece| piece.len() <= 2), "{pieces:?}");
}

#[test]
fn the_proxy_cuts_and_refuses() {
    let proxy = FaultProxy::start(echo());
    let mut stream = through(&proxy);
    stream.write_all(b"a").unwrap();
    assert_eq!(said(&mut stream, SOON).unwrap(), b"a");
    proxy.cut();
    assert_eq!(said(&mut stream, SOON), None, "a reset");
    wait_until(SOON, "no open connection", || proxy.open() == 0);

    let mut stream = through(&proxy);
    proxy.cut_after(Direction::ToClient, 3, After::Refuse);
    stream.write_all(b"abcdef").unwrap();
    let mut all = Vec::new();
    stream.read_to_end(&mut all).unwrap();
    assert_eq!(all, b"abc");
    wait_until(SOON, "refusal", || {
        TcpStream::connect(proxy.address()).is_err()
    });
    proxy.heal();
    let mut stream = through(&proxy);
    stream.write_all(b"b").unwrap();
    assert_eq!(said(&mut stream, SOON).unwrap(), b"b");
    proxy.refuse();
    TcpStream::connect(proxy.address()).unwrap_err();
    stream.write_all(b"c").unwrap();
    assert_eq!(
        said(&mut stream, SOON).unwrap(),
        b"c",
        "an open one goes on"
    );
}

#[test]
fn the_proxy_swallows_and_stalls() {
    let short = Duration::from_millis(150);
    let proxy = FaultProxy::start(echo());
    let mut stream = through(&proxy);
    proxy.stall(Direction::ToClient);
    stream.write_all(b"held").unwrap();
    assert_eq!(said(&mut stream, short), None);
    proxy.heal();
    assert_eq!(said(&mut stream, SOON).unwrap(), b"held");

    proxy.black_hole();
    let mut second = through(&proxy);
    for stream in [&mut stream, &mut second] {
        stream.write_all(b"lost").unwrap();
        assert_eq!(said(stream, short), None);
    }
    assert_eq!(proxy.forwarded(Direction::ToServer), 4);
    proxy.heal();
    assert_eq!(
        said(&mut stream, SOON),
        None,
        "a stream with a hole is reset"
    );
    wait_until(SOON, "no open connection", || proxy.open() == 0);
}
