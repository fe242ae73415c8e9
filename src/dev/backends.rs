//! Two back ends for the pool `demo`: each answers with its name.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use axum::Router;

use crate::base::drain::Drain;
use crate::net::http::{HttpListener, Limits};

const LIMITS: Limits = Limits { connections: 256, lifetime: Duration::from_secs(300), http2_streams: None };

/// Starts them on free ports of 127.0.0.1, until the drain is requested.
pub(super) async fn start(drain: &Drain) -> io::Result<Vec<SocketAddr>> {
    let mut addresses = Vec::new();
    for name in ["one", "two"] {
        let listener = HttpListener::bind((Ipv4Addr::LOCALHOST, 0).into()).await?;
        addresses.push(listener.address());
        let router = Router::new().fallback(move || async move { format!("back end {name}\n") });
        tokio::spawn(listener.serve(router, LIMITS, "demo back end", drain.clone()));
    }
    Ok(addresses)
}
