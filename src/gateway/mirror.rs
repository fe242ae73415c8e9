//! Copies of requests to another pool, whose answers nobody hears. A copy never slows the request: there are bounded many of
//! them at once, and one above is not sent; of a body, a piece that the mirror has no room for ends the copy.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use hyper::Request;
use hyper::body::{Body, Bytes, Frame};
use hyper::header::UPGRADE;
use tokio::sync::mpsc::{Receiver, Sender, channel};

use super::config::Mirror;
use super::tries::copy;
use super::worker::Worker;
use crate::upstream::{BoxError, Outcome, Pick, RequestBody, ResponseBody, SendOptions};

/// Copies of one thread under way at once.
const MOST: usize = 1_000;
/// Pieces of a copy's body that wait for the mirror.
const PIECES: usize = 32;
/// For one copy, its answer's body included.
const TIME: Duration = Duration::from_secs(30);

/// How many copies are under way.
#[derive(Debug, Default)]
pub(super) struct Copies(AtomicUsize);

/// Where the pieces of a request's body are copied to.
#[derive(Debug)]
pub(super) struct Copier(Option<Sender<Piece>>);

/// The body of a copy.
#[derive(Debug)]
struct Copied(Receiver<Piece>);

#[derive(Debug)]
enum Piece {
    Data(Bytes),
    /// It was all: without it, the body broke off.
    End,
}

/// The copy had no room, or the request broke off.
#[derive(Debug, thiserror::Error)]
#[error("the copy of the request broke off")]
struct Cut;

/// Whether it is a request's turn to be copied.
pub(super) fn is_due(worker: &Worker, mirror: &Mirror) -> bool {
    mirror.per_mille >= 1000 || worker.random() % 1000 < u64::from(mirror.per_mille)
}

/// A body for a copy, and what fills it.
pub(super) fn pipe() -> (Copier, RequestBody) {
    let (sender, receiver) = channel(PIECES);
    (Copier(Some(sender)), RequestBody::boxed(Copied(receiver)))
}

/// Sends a copy of a request's head with this body.
pub(super) fn send(worker: &Arc<Worker>, mirror: &Mirror, request: &Request<RequestBody>, body: Option<RequestBody>) {
    let metrics = &worker.shared.metrics;
    let now = Instant::now();
    let pick = Pick { now, random: worker.random(), thread: worker.thread, hash: None, tried: &[] };
    let table = worker.shared.upstreams.table();
    let full = worker.copies.0.load(Ordering::Relaxed) >= MOST || request.headers().contains_key(UPGRADE);
    let picked = if full { None } else { table.pool(mirror.pool.as_str()).and_then(|pool| pool.pick(&pick).ok()) };
    let Some(picked) = picked else { return metrics.mirror_dropped.increment(1) };
    metrics.mirrored.increment(1);
    worker.copies.0.fetch_add(1, Ordering::Relaxed);
    let mut request = copy(request);
    if let Some(body) = body {
        *request.body_mut() = body;
    }
    let worker = worker.clone();
    tokio::spawn(async move {
        let sending = async {
            let answer = worker.connections.send(&picked, request, &SendOptions::default()).await;
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
        let _ = tokio::time::timeout(TIME, sending).await;
        worker.copies.0.fetch_sub(1, Ordering::Relaxed);
    });
}

/// Takes a body to its end, so that its connection can be used again.
async fn drain(mut body: ResponseBody) {
    let mut body = Pin::new(&mut body);
    while let Some(Ok(_)) = std::future::poll_fn(|context| body.as_mut().poll_frame(context)).await {}
}

// === impl Copier ===

impl Copier {
    /// Copies what came of the body; nothing at its end.
    pub(super) fn put(&mut self, frame: Option<&Frame<Bytes>>) {
        let Some(sender) = &self.0 else { return };
        let piece = match frame {
            None => Piece::End,
            Some(frame) => match frame.data_ref() {
                Some(data) => Piece::Data(data.clone()),
                // Trailers: the copy goes without.
                None => return,
            },
        };
        if sender.try_send(piece).is_err() {
            self.0 = None;
        }
    }
}

// === impl Copied ===

impl Body for Copied {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        self.0.poll_recv(context).map(|piece| match piece {
            Some(Piece::Data(data)) => Some(Ok(Frame::data(data))),
            Some(Piece::End) => None,
            None => Some(Err(Cut.into())),
        })
    }
}

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt;

    use super::*;

    #[tokio::test]
    async fn a_copy_has_all_of_a_body_or_breaks_off() {
        let (mut copier, body) = pipe();
        copier.put(Some(&Frame::data(Bytes::from_static(b"a"))));
        copier.put(Some(&Frame::data(Bytes::from_static(b"b"))));
        copier.put(None);
        assert_eq!(body.collect().await.unwrap().to_bytes(), "ab");
        let (mut copier, body) = pipe();
        copier.put(Some(&Frame::data(Bytes::from_static(b"a"))));
        drop(copier);
        assert!(body.collect().await.is_err());
    }

    #[tokio::test]
    async fn a_mirror_that_is_slow_loses_the_copy_and_holds_up_nothing() {
        let (mut copier, body) = pipe();
        for _ in 0..=PIECES {
            copier.put(Some(&Frame::data(Bytes::from_static(b"a"))));
        }
        copier.put(None);
        assert!(body.collect().await.is_err());
    }
}
