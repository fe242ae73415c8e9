//! Bodies on their way through. Nothing is kept: a piece goes on when the other side takes it, within bounds of time and size.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use hyper::body::{Body, Bytes, Frame, Incoming, SizeHint};
use tokio::time::{Instant, Sleep, sleep_until};

use super::downstream::{Downstream, Taken};
use super::exchange::Exchange;
use super::mirror::Copier;
use super::reason::Reason;
use crate::upstream::{BoxError, Picked, ResponseBody};

/// Why a body ends early.
#[derive(Debug, thiserror::Error)]
pub(super) enum BodyError {
    #[error("the body broke off")]
    Cut(#[from] hyper::Error),
    #[error("no more of the body came in time")]
    Idle,
    #[error("the body is larger than allowed")]
    TooLarge,
}

/// How a request's body ended early, for whoever sent it on.
#[derive(Debug)]
pub(super) struct Fault {
    kind: AtomicU8,
    downstream: Arc<Downstream>,
}

/// The body of a request on its way to a pool.
#[derive(Debug)]
pub(super) struct Upload {
    body: Incoming,
    /// What may come still.
    left: u64,
    idle: Idle,
    received: Arc<AtomicU64>,
    fault: Arc<Fault>,
    copier: Option<Copier>,
}

/// The body of an answer on its way to a client. It ends the request when it ends.
pub(super) struct Download {
    kind: Kind,
    exchange: Option<Box<Exchange>>,
}

enum Kind {
    Whole(Bytes),
    Streamed { body: ResponseBody, idle: Idle, taken: Option<Arc<Taken>>, _picked: Picked },
}

/// The time between two pieces.
#[derive(Debug)]
struct Idle {
    time: Duration,
    sleep: Option<Pin<Box<Sleep>>>,
    armed: bool,
}

// === impl Idle ===

impl Idle {
    fn new(time: Duration) -> Self {
        Self { time, sleep: None, armed: false }
    }

    /// A piece came.
    fn touched(&mut self) {
        self.armed = false;
    }

    /// Nothing is there; ready when that has lasted too long.
    fn poll(&mut self, context: &mut Context<'_>) -> Poll<()> {
        let sleep = match &mut self.sleep {
            Some(sleep) if self.armed => sleep,
            Some(sleep) => {
                sleep.as_mut().reset(Instant::now() + self.time);
                sleep
            }
            none => none.insert(Box::pin(sleep_until(Instant::now() + self.time))),
        };
        self.armed = true;
        sleep.as_mut().poll(context)
    }
}

// === impl Fault ===

impl Fault {
    pub(super) fn new(downstream: Arc<Downstream>) -> Self {
        Self { kind: AtomicU8::new(0), downstream }
    }

    fn set(&self, reason: Reason) {
        let number = match reason {
            Reason::BodyTooLarge => 1,
            Reason::BodyTimeout => 2,
            _ => 3,
        };
        self.kind.store(number, Ordering::Release);
    }

    /// Why the client's body ended early, if it did.
    pub(super) fn reason(&self) -> Option<Reason> {
        match self.kind.load(Ordering::Acquire) {
            0 => None,
            1 => Some(Reason::BodyTooLarge),
            2 => Some(Reason::BodyTimeout),
            // What was sent may be no body at all.
            _ => Some(self.downstream.refusal().unwrap_or(Reason::ClientGone)),
        }
    }
}

// === impl Upload ===

impl Upload {
    pub(super) fn new(body: Incoming, most: Option<u64>, idle: Duration, fault: Arc<Fault>) -> Self {
        Self {
            body,
            left: most.unwrap_or(u64::MAX),
            idle: Idle::new(idle),
            received: Arc::default(),
            fault,
            copier: None,
        }
    }

    /// Copies each piece on its way.
    pub(super) fn copy_to(&mut self, copier: Copier) {
        self.copier = Some(copier);
    }

    /// How many bytes came so far.
    pub(super) fn received(&self) -> Arc<AtomicU64> {
        self.received.clone()
    }

    fn copied(&mut self, frame: Option<&Frame<Bytes>>) {
        if let Some(copier) = &mut self.copier {
            copier.put(frame);
        }
    }

    fn fail(&self, reason: Reason, error: BodyError) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        self.fault.set(reason);
        Poll::Ready(Some(Err(error.into())))
    }
}

impl Body for Upload {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let this = self.get_mut();
        let frame = match Pin::new(&mut this.body).poll_frame(context) {
            Poll::Ready(frame) => frame,
            Poll::Pending => {
                ready!(this.idle.poll(context));
                return this.fail(Reason::BodyTimeout, BodyError::Idle);
            }
        };
        this.idle.touched();
        match frame {
            None => {
                this.copied(None);
                Poll::Ready(None)
            }
            Some(Err(error)) => this.fail(Reason::ClientGone, error.into()),
            Some(Ok(frame)) => {
                let length = frame.data_ref().map_or(0, |data| u64::try_from(data.len()).unwrap_or(u64::MAX));
                this.received.fetch_add(length, Ordering::Relaxed);
                match this.left.checked_sub(length) {
                    Some(left) => this.left = left,
                    None => return this.fail(Reason::BodyTooLarge, BodyError::TooLarge),
                }
                this.copied(Some(&frame));
                if this.body.is_end_stream() {
                    // Nobody may ask again.
                    this.copied(None);
                }
                Poll::Ready(Some(Ok(frame)))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

// === impl Download ===

impl Download {
    /// Made here, of what is at hand.
    pub(super) fn whole(bytes: Bytes, exchange: Box<Exchange>) -> Self {
        Self { kind: Kind::Whole(bytes), exchange: Some(exchange) }
    }

    /// Of a request that goes on when the answer has ended.
    pub(super) fn bare(bytes: Bytes) -> Self {
        Self { kind: Kind::Whole(bytes), exchange: None }
    }

    /// Of a pool.
    pub(super) fn streamed(body: ResponseBody, picked: Picked, idle: Duration, exchange: Box<Exchange>) -> Self {
        let taken = exchange.http2.then(|| exchange.downstream.answering());
        Self { kind: Kind::Streamed { body, idle: Idle::new(idle), taken, _picked: picked }, exchange: Some(exchange) }
    }

    fn fail(&mut self, reason: Reason) {
        if let Some(mut exchange) = self.exchange.take() {
            exchange.reason = Some(reason);
        }
    }
}

impl Body for Download {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let this = self.get_mut();
        let frame = match &mut this.kind {
            Kind::Whole(bytes) => {
                let bytes = std::mem::take(bytes);
                (!bytes.is_empty()).then(|| Ok(Frame::data(bytes)))
            }
            Kind::Streamed { body, idle, taken, .. } => match Pin::new(body).poll_frame(context) {
                Poll::Ready(frame) => {
                    idle.touched();
                    if let (Some(taken), Some(exchange)) = (taken, &this.exchange) {
                        exchange.downstream.handed(taken);
                    }
                    frame
                }
                Poll::Pending => {
                    if let Some(taken) = taken {
                        taken.waits();
                    }
                    ready!(idle.poll(context));
                    this.fail(Reason::AnswerTimeout);
                    return Poll::Ready(Some(Err(BodyError::Idle)));
                }
            },
        };
        match frame {
            Some(Ok(frame)) => {
                if let (Some(exchange), Some(data)) = (&mut this.exchange, frame.data_ref()) {
                    exchange.sent += u64::try_from(data.len()).unwrap_or_default();
                }
                Poll::Ready(Some(Ok(frame)))
            }
            Some(Err(error)) => {
                this.fail(Reason::AnswerCut);
                Poll::Ready(Some(Err(error.into())))
            }
            None => {
                this.exchange = None;
                Poll::Ready(None)
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.kind {
            Kind::Whole(bytes) => bytes.is_empty(),
            Kind::Streamed { body, .. } => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.kind {
            Kind::Whole(bytes) => SizeHint::with_exact(u64::try_from(bytes.len()).unwrap_or_default()),
            Kind::Streamed { body, .. } => body.size_hint(),
        }
    }
}

impl Drop for Download {
    fn drop(&mut self) {
        // What is left of it was not wanted: the client went away. The body of an answer that has none is at its end.
        let cut = matches!(&self.kind, Kind::Streamed { body, .. } if !body.is_end_stream());
        if cut && self.exchange.as_ref().is_some_and(|exchange| exchange.reason.is_none()) {
            self.fail(Reason::ClientGone);
        }
    }
}
