//! Requests over HTTP/2 to hyper's own server.

use http_body_util::BodyExt;
use hyper::Method;
use hyper::body::Bytes;

use super::server::Server;
use super::support::*;
use crate::endpoints::pool::Endpoint;
use crate::upstream::config::*;
use crate::upstream::*;

fn config() -> PoolConfig {
    let connection =
        ConnectionConfig { protocol: UpstreamProtocol::Http2, max_streams: 10, ..ConnectionConfig::default() };
    PoolConfig { connection, ..PoolConfig::default() }
}

#[tokio::test]
async fn a_burst_shares_one_connection_and_opens_another_where_streams_are_used_up() {
    let server = Server::start_http2().await;
    let bed = Bed::with(config(), &[server.address]).await;
    let burst = (0..10).map(|_| bed.get("/who"));
    for answer in futures_util::future::join_all(burst).await {
        assert_eq!(answer, "HTTP/2.0 shop.example");
    }
    assert_eq!(server.opened(), 1);
    let held: Vec<_> = (0..15).map(|_| bed.pick().unwrap()).collect();
    let options = SendOptions::default();
    let held = held.iter().map(|picked| bed.connections.send(picked, get("/held"), &options));
    let (answers, ()) = tokio::join!(futures_util::future::join_all(held), async {
        until("two connections", || server.opened() == 2).await;
        server.release_all();
    });
    assert!(answers.into_iter().all(|answer| answer.is_ok()));
    assert_eq!((bed.get("/a").await, server.opened()), ("/a".to_owned(), 2));
}

#[tokio::test]
async fn bodies_and_trailers_go_there_and_back() {
    let server = Server::start_http2().await;
    let bed = Bed::with(config(), &[server.address]).await;
    let sent = Bytes::from(vec![b'x'; 300_000]);
    let mut request = get("/echo");
    *request.method_mut() = Method::POST;
    *request.body_mut() = RequestBody::full(sent.clone());
    let received = bed.send(request).await.unwrap().into_body().collect().await.unwrap().to_bytes();
    assert!(received == sent);
    let body = bed.send(get("/trailers")).await.unwrap().into_body().collect().await.unwrap();
    assert_eq!(body.trailers().unwrap()["checksum"], "42");
    assert_eq!(body.to_bytes(), "with trailers");
}

#[tokio::test]
async fn the_endpoints_protocol_decides_where_the_pool_says_nothing() {
    let server = Server::start_http2().await;
    let mut bed = Bed::new(PoolConfig::default());
    let named = |name: &str| Endpoint { app_protocol: Some(name.into()), ..at(server.address) };
    bed.tell(vec![named("kubernetes.io/h2c")]).await;
    assert_eq!(bed.get("/who").await, "HTTP/2.0 shop.example");
    bed.tell(vec![named("http")]).await;
    assert!(!bed.pick().unwrap().is_http2());
}

#[tokio::test]
async fn a_connection_that_ends_gracefully_loses_nothing() {
    let server = Server::start_http2().await;
    let bed = Bed::with(config(), &[server.address]).await;
    for _ in 0..5 {
        assert_eq!(bed.get("/a").await, "/a");
        let picked = bed.pick().unwrap();
        let options = SendOptions::default();
        let held = bed.connections.send(&picked, get("/held"), &options);
        let (held, ()) = tokio::join!(held, async {
            until("a request on it", || bed.pool().in_flight() == 1).await;
            server.shut_down();
            // While the one before is still answered, new ones go elsewhere.
            assert_eq!(bed.get("/b").await, "/b");
            server.release();
        });
        assert_eq!(text(held.unwrap()).await, "/held");
    }
    assert!(server.opened() > 1);
}

#[tokio::test]
async fn an_endpoint_that_is_gone_closes_its_shared_connection_when_the_last_request_ends() {
    let server = Server::start_http2().await;
    let mut bed = Bed::with(config(), &[server.address]).await;
    bed.get("/a").await;
    let picked = bed.pick().unwrap();
    let options = SendOptions::default();
    let connections = bed.connections.clone();
    let (held, ()) = tokio::join!(connections.send(&picked, get("/held"), &options), async {
        until("a request on it", || bed.pool().in_flight() == 1).await;
        bed.tell(vec![]).await;
        assert_eq!(bed.pick().unwrap_err(), NoEndpoint::Empty);
        server.release();
    });
    assert_eq!(text(held.unwrap()).await, "/held");
    until("the connection closes", || server.open() == 0).await;
}

#[tokio::test]
async fn an_endpoint_that_does_not_speak_it_is_told_as_such() {
    let server = Server::start().await;
    let bed = Bed::with(config(), &[server.address]).await;
    let error = bed.send(get("/")).await.unwrap_err();
    assert!(matches!(error.kind(), SendErrorKind::Protocol | SendErrorKind::Closed | SendErrorKind::Reset), "{error}");
    assert_eq!(bed.pool().in_flight(), 0);
}

#[tokio::test]
async fn a_stream_that_is_refused_was_not_processed_and_one_that_is_reset_is_the_endpoints_fault() {
    for (reason, kind, written, outcome) in [
        (h2::Reason::REFUSED_STREAM, SendErrorKind::Refused, Written::Nothing, Outcome::Cancelled),
        (h2::Reason::INTERNAL_ERROR, SendErrorKind::Reset, Written::Maybe, Outcome::Reset),
    ] {
        let server = Server::serving(move |stream, _| async move {
            let mut connection = h2::server::handshake(stream).await.unwrap();
            while let Some(Ok((request, mut respond))) = connection.accept().await {
                if request.uri().path() == "/good" {
                    respond.send_response(hyper::Response::new(()), true).unwrap();
                } else {
                    respond.send_reset(reason);
                }
            }
        })
        .await;
        let bed = Bed::with(config(), &[server.address]).await;
        assert!(bed.send(get("/good")).await.is_ok());
        let error = bed.send(get("/bad")).await.unwrap_err();
        assert_eq!((error.kind(), error.written(), error.outcome()), (kind, written, outcome), "{error}");
        assert!(bed.send(get("/good")).await.is_ok());
        assert_eq!(server.opened(), 1, "one stream is not the connection");
    }
}
