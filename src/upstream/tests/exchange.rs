//! Requests over HTTP/1.1 to hyper's own server.

use std::time::Duration;

use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::{Body, Bytes, Frame};
use hyper::header::{CONNECTION, UPGRADE};
use hyper::{Method, Request, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::server::Server;
use super::support::*;
use crate::endpoints::pool::Endpoint;
use crate::upstream::config::*;
use crate::upstream::*;

async fn bed(server: &Server) -> Bed {
    Bed::with(PoolConfig::default(), &[server.address]).await
}

fn post(path: &str, body: RequestBody) -> Request<RequestBody> {
    let mut request = get(path);
    *request.method_mut() = Method::POST;
    *request.body_mut() = body;
    request
}

#[tokio::test]
async fn requests_one_after_the_other_share_a_connection() {
    let server = Server::start().await;
    let bed = bed(&server).await;
    for path in ["/a", "/none", "/trailers", "/b"] {
        let response = bed.send(get(path)).await.unwrap();
        response.into_body().collect().await.unwrap();
    }
    assert_eq!(bed.get("/who").await, "HTTP/1.1 shop.example");
    assert_eq!((server.opened(), bed.pool().in_flight()), (1, 0));
    let head = Request::head("/a").header("host", "shop.example").body(RequestBody::empty()).unwrap();
    let response = bed.send(head).await.unwrap();
    assert_eq!(response.headers()["content-length"], "2");
    drop(response);
    bed.get("/a").await;
    assert_eq!(server.opened(), 1, "an answer to HEAD has no body to wait for");
}

#[tokio::test]
async fn a_megabyte_goes_there_and_back_with_and_without_a_known_length() {
    let server = Server::start().await;
    let bed = bed(&server).await;
    let sent = Bytes::from((0..1_u32 << 20).map(|at| (at % 251) as u8).collect::<Vec<_>>());
    let chunks: Vec<Result<Frame<Bytes>, BoxError>> =
        sent.chunks(10_007).map(|it| Ok(Frame::data(Bytes::copy_from_slice(it)))).collect();
    let chunked = RequestBody::boxed(StreamBody::new(futures_util::stream::iter(chunks)));
    for body in [RequestBody::full(sent.clone()), RequestBody::boxed(Full::new(sent.clone())), chunked] {
        let response = bed.send(post("/echo", body)).await.unwrap();
        let received = response.into_body().collect().await.unwrap().to_bytes();
        assert!(received == sent, "{} bytes", received.len());
    }
    assert_eq!(server.opened(), 1);
}

#[tokio::test]
async fn trailers_and_lengths_come_through() {
    let server = Server::start().await;
    let bed = bed(&server).await;
    let response = bed.send(get("/abc")).await.unwrap();
    assert_eq!((response.body().size_hint().exact(), response.body().is_end_stream()), (Some(4), false));
    assert_eq!(text(response).await, "/abc");
    let mut request = get("/trailers");
    request.headers_mut().insert("te", "trailers".parse().unwrap());
    let body = bed.send(request).await.unwrap().into_body().collect().await.unwrap();
    assert_eq!(body.trailers().unwrap()["checksum"], "42");
    assert_eq!(body.to_bytes(), "with trailers");
}

#[tokio::test]
async fn an_answer_that_nobody_reads_to_its_end_closes_its_connection() {
    let server = Server::start().await;
    let bed = bed(&server).await;
    let mut response = bed.send(get("/endless")).await.unwrap();
    assert!(response.body_mut().frame().await.unwrap().unwrap().is_data());
    assert_eq!(bed.pool().in_flight(), 0, "the caller holds what counts, not the body");
    drop(response);
    until("the server sees the end", || server.open() == 0).await;
    assert_eq!(bed.get("/a").await, "/a");
    assert_eq!(server.opened(), 2);
}

#[tokio::test]
async fn a_cancelled_request_closes_its_connection() {
    let server = Server::start().await;
    let bed = bed(&server).await;
    let picked = bed.pick().unwrap();
    let options = SendOptions::default();
    let sent = bed.connections.send(&picked, get("/held"), &options);
    assert!(tokio::time::timeout(Duration::from_millis(50), sent).await.is_err());
    until("the server sees the end", || server.opened() == 1 && server.open() == 0).await;
}

#[tokio::test]
async fn a_connection_that_the_server_closes_is_not_used_again() {
    let server = Server::start().await;
    let bed = bed(&server).await;
    assert_eq!(bed.get("/close").await, "/close");
    assert_eq!(bed.get("/a").await, "/a");
    assert_eq!(server.opened(), 2);
}

#[tokio::test]
async fn an_upgrade_gives_the_stream_with_nothing_lost() {
    let server = Server::start().await;
    let bed = bed(&server).await;
    let mut request = get("/upgrade");
    request.headers_mut().insert(CONNECTION, "upgrade".parse().unwrap());
    request.headers_mut().insert(UPGRADE, "echo".parse().unwrap());
    let mut response = bed.send(request).await.unwrap();
    assert_eq!(response.status(), StatusCode::SWITCHING_PROTOCOLS);
    let mut io = TokioIo::new(hyper::upgrade::on(&mut response).await.unwrap());
    for text in ["hello", "again"] {
        io.write_all(text.as_bytes()).await.unwrap();
        let mut echoed = [0; 5];
        io.read_exact(&mut echoed).await.unwrap();
        assert_eq!(echoed, text.as_bytes());
    }
    drop((io, response));
    assert_eq!(bed.get("/a").await, "/a");
    assert_eq!(server.opened(), 2, "an upgraded connection carries no further request");
}

#[tokio::test]
async fn connections_outlive_a_swap_of_everything_else() {
    let server = Server::start().await;
    let mut bed = bed(&server).await;
    bed.get("/a").await;
    let before = bed.pool();
    for weight in 1..20 {
        bed.tell(vec![Endpoint { weight, ..at(server.address) }]).await;
        assert_eq!(bed.get("/a").await, "/a");
    }
    assert!(!std::sync::Arc::ptr_eq(&before, &bed.pool()));
    let config = PoolConfig { balancer: Balancer::LeastRequest, ..PoolConfig::default() };
    drop(bed.upstreams.reconfigure([(id(POOL), config)].into()));
    assert_eq!(bed.pool().config().balancer, Balancer::LeastRequest);
    bed.get("/a").await;
    assert_eq!(server.opened(), 1);
}

#[tokio::test]
async fn an_endpoint_that_is_gone_finishes_what_it_has_and_idle_connections_close() {
    for drains in [true, false] {
        let (server, other) = (Server::start().await, Server::start().await);
        let mut bed = bed(&server).await;
        let picked = bed.pick().unwrap();
        let options = SendOptions::default();
        let connections = bed.connections.clone();
        let (answer, ()) = tokio::join!(connections.send(&picked, get("/held"), &options), async {
            until("the request is there", || server.open() == 1).await;
            let mut told = vec![at(other.address)];
            told.extend(drains.then(|| draining(at(server.address))));
            bed.tell(told).await;
            assert_eq!(bed.get("/who").await, "HTTP/1.1 shop.example");
            assert_eq!(other.opened(), 1, "nobody new goes to who is leaving");
            server.release();
        });
        assert_eq!(text(answer.unwrap()).await, "/held");
        until("its connection closes when it is done", || server.open() == 0).await;
    }
}

#[tokio::test]
async fn idle_connections_close_at_once_when_their_endpoint_goes() {
    let server = Server::start().await;
    let mut bed = bed(&server).await;
    let held: Vec<_> = (0..3).map(|_| bed.pick().unwrap()).collect();
    let options = SendOptions::default();
    let all = held.iter().map(|picked| bed.connections.send(picked, get("/held"), &options));
    let (answers, ()) = tokio::join!(futures_util::future::join_all(all), async {
        until("three connections", || server.open() == 3).await;
        server.release_all();
    });
    for answer in answers {
        text(answer.unwrap()).await;
    }
    assert_eq!(bed.pool().members[0].host.target.connections().0, 3);
    drop(held);
    bed.tell(vec![draining(at(server.address))]).await;
    until("the server sees three ends", || server.open() == 0).await;
}
