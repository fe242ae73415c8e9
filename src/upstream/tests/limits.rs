//! Circuit limits while requests wait for connections.

use std::time::Duration;

use hyper::Response;

use super::server::Server;
use super::support::*;
use crate::upstream::config::*;
use crate::upstream::*;

fn config(connections: u32, pending: u32) -> PoolConfig {
    let limits = Limits { max_connections: Some(connections), max_pending: pending, ..Limits::default() };
    let connection = ConnectionConfig { connect_timeout: Duration::from_secs(5), ..ConnectionConfig::default() };
    PoolConfig { limits, connection, ..PoolConfig::default() }
}

async fn held(bed: &Bed) -> Result<Response<ResponseBody>, SendError> {
    bed.send(get("/held")).await
}

#[tokio::test]
async fn requests_above_the_limit_wait_for_a_connection_and_reuse_it() {
    let server = Server::start().await;
    let bed = Bed::with(config(2, 10), &[server.address]).await;
    let many = (0..8).map(|_| async { text(held(&bed).await.unwrap()).await });
    let pool = bed.pool();
    let usage = &pool.context.life.usage;
    let (answers, ()) = tokio::join!(futures_util::future::join_all(many), async {
        until("two are served and six wait", || (usage.pending(), server.open()) == (6, 2)).await;
        assert_eq!(usage.connections(), 2);
        server.release_all();
    });
    assert_eq!(answers.len(), 8);
    assert_eq!((server.opened(), usage.pending()), (2, 0), "nobody opened a third");
}

#[tokio::test]
async fn more_than_may_wait_are_refused_at_once_and_nothing_of_them_is_lost() {
    let server = Server::start().await;
    let bed = Bed::with(config(1, 1), &[server.address]).await;
    let pool = bed.pool();
    let usage = &pool.context.life.usage;
    let read = || async { text(held(&bed).await.unwrap()).await };
    let (first, second, ()) = tokio::join!(read(), read(), async {
        until("one waits", || usage.pending() == 1).await;
        let mut error = held(&bed).await.unwrap_err();
        assert_eq!((error.kind(), error.written()), (SendErrorKind::Connections, Written::Nothing));
        assert!(error.take_request().is_some() && error.outcome() == Outcome::Cancelled);
        server.release_all();
    });
    assert_eq!((first.as_str(), second.as_str()), ("/held", "/held"));
    assert_eq!(bed.get("/a").await, "/a");
}

#[tokio::test]
async fn an_idle_connection_to_another_endpoint_makes_room() {
    let (one, other) = (Server::start().await, Server::start().await);
    let bed = Bed::with(config(1, 10), &[one.address, other.address]).await;
    for _ in 0..6 {
        assert_eq!(bed.get("/a").await, "/a");
    }
    assert!(one.opened() > 1 && other.opened() > 1, "they take turns");
    assert_eq!(bed.pool().context.life.usage.connections(), 1);
}

#[tokio::test]
async fn a_shared_connection_takes_more_than_it_should_rather_than_break_the_limit() {
    let server = Server::start_http2().await;
    let mut config = config(1, 10);
    (config.connection.protocol, config.connection.max_streams) = (UpstreamProtocol::Http2, 1);
    let bed = Bed::with(config, &[server.address]).await;
    let many = (0..5).map(|_| held(&bed));
    let (answers, ()) = tokio::join!(futures_util::future::join_all(many), async {
        until("all are on their way", || bed.pool().in_flight() == 5).await;
        server.release_all();
    });
    assert!(answers.into_iter().all(|answer| answer.is_ok()));
    assert_eq!(server.opened(), 1);
}
