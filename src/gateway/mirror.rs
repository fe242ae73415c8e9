//! Copies of requests to another pool, whose answers nobody hears. A copy never slows the request: there are bounded many of
//! them at once, and one above is not sent. Requests with a body are not copied, because nothing of a body is kept here.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use hyper::Request;
use hyper::body::Body;

use super::config::{Mirror, Timeouts};
use super::tries::copy;
use super::worker::Worker;
use crate::upstream::{Outcome, Pick, RequestBody, ResponseBody, SendOptions};

/// Copies of one thread under way at once.
const MOST: usize = 1_000;
/// For one copy, its answer's body included.
const TIME: Duration = Duration::from_secs(30);

/// How many copies are under way.
#[derive(Debug, Default)]
pub(super) struct Copies(AtomicUsize);

/// Sends a copy of a request, where it is its turn.
pub(super) fn send(worker: &Arc<Worker>, mirror: &Mirror, request: &Request<RequestBody>, timeouts: Timeouts) {
    if mirror.per_mille < 1000 && worker.random() % 1000 >= u64::from(mirror.per_mille) {
        return;
    }
    let metrics = &worker.shared.metrics;
    let upgrade = request.headers().contains_key(hyper::header::UPGRADE);
    if !request.body().is_end_stream() || upgrade || worker.copies.0.load(Ordering::Relaxed) >= MOST {
        metrics.mirror_dropped.increment(1);
        return;
    }
    let table = worker.shared.upstreams.table();
    let now = Instant::now();
    let pick = Pick { now, random: worker.random(), thread: worker.thread, hash: None, tried: &[] };
    let Some(Ok(picked)) = table.pool(mirror.pool.as_str()).map(|pool| pool.pick(&pick)) else {
        metrics.mirror_dropped.increment(1);
        return;
    };
    drop(table);
    metrics.mirrored.increment(1);
    worker.copies.0.fetch_add(1, Ordering::Relaxed);
    let (worker, request) = (worker.clone(), copy(request));
    tokio::spawn(async move {
        let sending = async {
            let answer = worker.connections.send(&picked, request, &SendOptions { client: None, local: None }).await;
            let outcome = match &answer {
                Ok(response) => Outcome::Status(response.status().as_u16()),
                Err(error) => error.outcome(),
            };
            picked.record(outcome, now.elapsed(), Instant::now());
            if let Ok(response) = answer {
                drain(response.into_body()).await;
            }
        };
        // Who answers too late is not heard to the end.
        let _ = tokio::time::timeout(timeouts.request.unwrap_or(TIME).min(TIME), sending).await;
        worker.copies.0.fetch_sub(1, Ordering::Relaxed);
    });
}

/// Takes a body to its end, so that its connection can be used again.
async fn drain(mut body: ResponseBody) {
    let mut body = std::pin::Pin::new(&mut body);
    while let Some(Ok(_)) = std::future::poll_fn(|context| body.as_mut().poll_frame(context)).await {}
}
