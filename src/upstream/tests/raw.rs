//! Endpoints that do what they should not: close, reset, half-close, babble, never take a connection.

use std::net::SocketAddr;
use std::time::Duration;

use http_body_util::BodyExt;
use hyper::Method;
use hyper::body::Bytes;
use socket2::{Domain, Socket, Type};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::server::{Server, read_head};
use super::support::*;
use crate::upstream::config::*;
use crate::upstream::*;

const OK: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";

async fn bed(address: SocketAddr) -> Bed {
    Bed::with(PoolConfig::default(), &[address]).await
}

/// Answers the first request of each connection well, and what comes then as `then` does.
async fn second<F, R>(then: F) -> Server
where
    F: Fn(TcpStream) -> R + Clone + Send + Sync + 'static,
    R: Future<Output = ()> + Send + 'static,
{
    Server::serving(move |mut stream, _| {
        let then = then.clone();
        async move {
            read_head(&mut stream).await;
            stream.write_all(OK).await.unwrap();
            then(stream).await;
        }
    })
    .await
}

async fn reset(stream: TcpStream) {
    stream.set_zero_linger().unwrap();
    drop(stream);
}

#[tokio::test]
async fn a_reused_connection_that_closes_under_a_request_says_so() {
    for how in ["close", "reset"] {
        let server = second(move |mut stream| async move {
            // Not before the request has come: nobody could have known.
            let first = stream.read_u8().await.unwrap();
            assert_eq!(first, b'G');
            read_head(&mut stream).await;
            if how == "reset" {
                reset(stream).await;
            }
        })
        .await;
        let bed = bed(server.address).await;
        assert_eq!(bed.get("/1").await, "ok");
        let error = bed.send(get("/2")).await.unwrap_err();
        assert!(matches!(error.kind(), SendErrorKind::Closed | SendErrorKind::Reset), "{how}: {error}");
        assert_eq!((error.is_reused(), error.written()), (true, Written::Maybe), "{how}");
        assert_eq!(
            error.outcome(),
            Outcome::Cancelled,
            "an idle connection may close: that says nothing of the endpoint"
        );
        assert_eq!(bed.get("/3").await, "ok", "the next one is new");
        assert_eq!(server.opened(), 2);
    }
}

#[tokio::test]
async fn an_idle_connection_that_has_closed_is_passed_over_and_soon_let_go() {
    let server = second(|stream| async move { drop(stream) }).await;
    let bed = bed(server.address).await;
    for _ in 0..3 {
        assert_eq!(bed.get("/a").await, "ok");
        // Its end has come before the next request is sent.
        until("the connection's end", || server.open() == 0).await;
        // It is in this side's socket: one turn of the reactor finds it.
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    assert_eq!(server.opened(), 3);
    let pool = bed.pool();
    until("the sweeper's turn", || pool.members[0].host.target.connections().0 == 0).await;
}

#[tokio::test]
async fn a_new_connection_that_closes_without_an_answer_is_the_endpoints_fault() {
    let closes = Server::serving(|mut stream, _| async move {
        read_head(&mut stream).await;
    });
    let resets = Server::serving(|mut stream, _| async move {
        read_head(&mut stream).await;
        reset(stream).await;
    });
    let cut = Server::serving(|mut stream, _| async move {
        read_head(&mut stream).await;
        stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-le").await.unwrap();
    });
    for (server, kinds) in [
        (closes.await, [SendErrorKind::Closed, SendErrorKind::Closed]),
        (resets.await, [SendErrorKind::Reset, SendErrorKind::Closed]),
        (cut.await, [SendErrorKind::Closed, SendErrorKind::Protocol]),
    ] {
        let error = bed(server.address).await.send(get("/")).await.unwrap_err();
        assert!(kinds.contains(&error.kind()), "{error}");
        assert_eq!((error.is_reused(), error.written(), error.outcome()), (false, Written::Maybe, Outcome::Reset));
    }
}

#[tokio::test]
async fn what_is_no_answer_of_http_is_refused() {
    let answers: [&'static [u8]; 6] = [
        b"220 mail.example ESMTP\r\n\r\n",
        b"HTTP/1.1 99999 ?\r\n\r\n",
        b"HTTP/1.1 200 OK\r\ncontent-length: 1, 2\r\n\r\nab",
        b"HTTP/1.1 200 OK\r\ncontent-length: -1\r\n\r\n",
        b"HTTP/1.1 200 OK\r\na\0b: c\r\n\r\n",
        b"\0\0\0\0\0\0\0\0\r\n\r\n",
    ];
    for answer in answers {
        let server = Server::serving(move |mut stream, _| async move {
            read_head(&mut stream).await;
            stream.write_all(answer).await.unwrap();
            // It goes on waiting: the other side must not.
            _ = stream.read_u8().await;
        })
        .await;
        let error = bed(server.address).await.send(get("/")).await.unwrap_err();
        let answer = String::from_utf8_lossy(answer);
        assert_eq!((error.kind(), error.outcome()), (SendErrorKind::Protocol, Outcome::Reset), "{answer:?}: {error}");
    }
}

#[tokio::test]
async fn a_head_without_end_is_cut_off() {
    let server = Server::serving(|mut stream, _| async move {
        read_head(&mut stream).await;
        _ = stream.write_all(b"HTTP/1.1 200 OK\r\n").await;
        while stream.write_all(&[b'x'; 8192]).await.is_ok() {}
    })
    .await;
    let error = bed(server.address).await.send(get("/")).await.unwrap_err();
    assert_eq!(error.kind(), SendErrorKind::Protocol, "{error}");
}

#[tokio::test]
async fn more_than_the_answer_makes_a_connection_useless() {
    let server = Server::serving(|mut stream, _| async move {
        read_head(&mut stream).await;
        stream.write_all(&[OK, b"HTTP/1.1 200 OK\r\ncontent-length: 6\r\n\r\npoison"].concat()).await.unwrap();
        _ = stream.read_u8().await;
    })
    .await;
    let bed = bed(server.address).await;
    for _ in 0..3 {
        assert_eq!(bed.get("/").await, "ok", "nobody gets the answer to another's request");
    }
    assert_eq!(server.opened(), 3);
}

#[tokio::test]
async fn a_body_that_ends_with_the_connection_is_whole_and_one_that_is_cut_is_an_error() {
    let half = Server::serving(|mut stream, _| async move {
        read_head(&mut stream).await;
        stream.write_all(b"HTTP/1.1 200 OK\r\n\r\nuntil the end").await.unwrap();
        stream.shutdown().await.unwrap();
        _ = stream.read_u8().await;
    })
    .await;
    let bed_half = bed(half.address).await;
    assert_eq!(bed_half.get("/").await, "until the end");
    assert_eq!(bed_half.get("/").await, "until the end");
    assert_eq!(half.opened(), 2);
    for cut in [&b"content-length: 9\r\n\r\nhalf"[..], b"transfer-encoding: chunked\r\n\r\n4\r\nhalf\r\n"] {
        let server = Server::serving(move |mut stream, _| async move {
            read_head(&mut stream).await;
            stream.write_all(&[b"HTTP/1.1 200 OK\r\n", cut].concat()).await.unwrap();
        })
        .await;
        let bed = bed(server.address).await;
        let mut body = bed.send(get("/")).await.unwrap().into_body();
        assert_eq!(body.frame().await.unwrap().unwrap().into_data().unwrap(), "half");
        assert!(body.frame().await.unwrap().is_err(), "what is cut must not look whole");
    }
}

#[tokio::test]
async fn an_early_answer_comes_through_and_the_rest_of_the_request_is_not_awaited() {
    let server = Server::serving(|mut stream, _| async move {
        read_head(&mut stream).await;
        stream.write_all(b"HTTP/1.1 413 Too Large\r\ncontent-length: 2\r\n\r\nno").await.unwrap();
        // Nobody reads on: what is still being sent must not hold up the answer.
        _ = tokio::time::timeout(PATIENCE, stream.writable()).await;
        std::future::pending::<()>().await;
    })
    .await;
    let bed = bed(server.address).await;
    let mut request = get("/");
    *request.method_mut() = Method::POST;
    let endless = futures_util::stream::repeat_with(|| {
        Ok::<_, BoxError>(hyper::body::Frame::data(Bytes::from_static(&[b'x'; 16_384])))
    });
    *request.body_mut() = RequestBody::boxed(http_body_util::StreamBody::new(endless));
    let response = bed.send(request).await.unwrap();
    assert_eq!(response.status(), 413);
    assert_eq!(text(response).await, "no");
    assert_eq!(bed.pool().members[0].host.target.connections().0, 0, "half a request is still on it");
}

#[tokio::test]
async fn a_request_whose_body_fails_is_the_clients_fault() {
    let server = Server::start().await;
    let bed = bed(server.address).await;
    let mut request = get("/echo");
    *request.method_mut() = Method::POST;
    let frames: [Result<hyper::body::Frame<Bytes>, BoxError>; 2] =
        [Ok(hyper::body::Frame::data(Bytes::from_static(b"x"))), Err("the client has gone".into())];
    *request.body_mut() = RequestBody::boxed(http_body_util::StreamBody::new(futures_util::stream::iter(frames)));
    match bed.send(request).await {
        Err(error) => assert_eq!((error.kind(), error.outcome()), (SendErrorKind::Body, Outcome::Cancelled)),
        // The server answers with what it has before it sees the end.
        Ok(response) => assert!(response.into_body().collect().await.is_err()),
    }
}

#[tokio::test]
async fn who_cannot_be_connected_to_has_seen_nothing_and_the_request_comes_back() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let nobody = listener.local_addr().unwrap();
    drop(listener);
    let mut error = bed(nobody).await.send(get("/back")).await.unwrap_err();
    assert_eq!((error.kind(), error.written()), (SendErrorKind::Connect, Written::Nothing));
    assert_eq!((error.outcome(), error.is_reused()), (Outcome::ConnectFailed, false));
    assert_eq!(error.take_request().unwrap().uri(), "/back");
    assert!(error.to_string().contains("refused"), "{error}");
}

#[tokio::test]
async fn who_takes_no_connection_in_time_is_given_up() {
    // Its queue is full: the kernel answers no further connection.
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    socket.bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into()).unwrap();
    socket.listen(0).unwrap();
    let address = socket.local_addr().unwrap().as_socket().unwrap();
    let _waiting: Vec<_> = (0..8)
        .map(|_| {
            let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
            socket.set_nonblocking(true).unwrap();
            _ = socket.connect(&address.into());
            socket
        })
        .collect();
    let connection = ConnectionConfig { connect_timeout: Duration::from_millis(100), ..ConnectionConfig::default() };
    let bed = Bed::with(PoolConfig { connection, ..PoolConfig::default() }, &[address]).await;
    let error = bed.send(get("/")).await.unwrap_err();
    assert_eq!((error.kind(), error.written()), (SendErrorKind::ConnectTimeout, Written::Nothing));
}

#[tokio::test]
async fn the_proxy_protocol_goes_before_the_request_and_its_connection_carries_no_other() {
    let server = Server::serving(|mut stream, _| async move {
        let mut line = Vec::new();
        while !line.ends_with(b"\r\n") {
            line.push(stream.read_u8().await.unwrap());
        }
        let head = read_head(&mut stream).await;
        assert!(head.starts_with("GET / HTTP/1.1\r\n"), "{head}");
        let answer = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n", line.len());
        stream.write_all(&[answer.as_bytes(), &line].concat()).await.unwrap();
        _ = stream.read_u8().await;
    })
    .await;
    let connection = ConnectionConfig { proxy_protocol: Some(ProxyProtocol::V1), ..ConnectionConfig::default() };
    let bed = Bed::with(PoolConfig { connection, ..PoolConfig::default() }, &[server.address]).await;
    for port in [1_001, 1_002] {
        let options = SendOptions {
            client: Some(SocketAddr::from(([192, 0, 2, 1], port))),
            local: Some(SocketAddr::from(([192, 0, 2, 9], 443))),
        };
        let picked = bed.pick().unwrap();
        let response = bed.connections.send(&picked, get("/"), &options).await.unwrap();
        assert_eq!(text(response).await, format!("PROXY TCP4 192.0.2.1 192.0.2.9 {port} 443\r\n"));
    }
    assert_eq!(server.opened(), 2);
}
