//! Bodies on their way to an endpoint and back.

use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::task::{Context, Poll, Waker};

use http_body_util::BodyExt;
use http_body_util::combinators::UnsyncBoxBody;
use hyper::body::{Body, Bytes, Frame, Incoming, SizeHint};

use super::Thread;
use super::error::BoxError;
use super::http1::Http1;
use crate::upstream::life::Member;

/// What is sent to an endpoint.
pub struct RequestBody(Kind);

enum Kind {
    Empty,
    Full(Bytes),
    Incoming(Incoming),
    Boxed(UnsyncBoxBody<Bytes, BoxError>),
}

/// What an endpoint answers. Over HTTP/1 it drives the connection itself, so that a request costs no task and no wake-up
/// beside the one that serves the client: poll it or drop it. When it has ended the connection waits for the next
/// request; dropped before, it is closed.
#[derive(Debug)]
pub struct ResponseBody {
    incoming: Incoming,
    carrier: Carrier,
}

/// What an answer comes over.
#[derive(Debug)]
enum Carrier {
    /// A connection of its own.
    Http1(Option<Exchange>),
    /// One stream of a shared connection.
    Http2 { _stream: Stream },
}

/// A connection in use, and where it goes then.
#[derive(Debug)]
struct Exchange {
    connection: Box<Http1>,
    member: Arc<Member>,
    thread: Arc<Thread>,
}

/// A request on a shared connection.
#[derive(Debug)]
pub(super) struct Stream(Arc<AtomicU32>);

// === impl RequestBody ===

impl RequestBody {
    /// No body.
    pub fn empty() -> Self {
        Self(Kind::Empty)
    }

    /// One that is there whole.
    pub fn full(bytes: Bytes) -> Self {
        Self(if bytes.is_empty() { Kind::Empty } else { Kind::Full(bytes) })
    }

    /// A client's, passed on as it comes.
    pub fn incoming(body: Incoming) -> Self {
        Self(if body.is_end_stream() { Kind::Empty } else { Kind::Incoming(body) })
    }

    /// Any other.
    pub fn boxed<B>(body: B) -> Self
    where
        B: Body<Data = Bytes> + Send + 'static,
        B::Error: Into<BoxError>,
    {
        Self(Kind::Boxed(UnsyncBoxBody::new(body.map_err(Into::into))))
    }
}

impl Body for RequestBody {
    type Data = Bytes;
    type Error = BoxError;

    #[inline]
    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let this = self.get_mut();
        match &mut this.0 {
            Kind::Empty => Poll::Ready(None),
            Kind::Full(bytes) => {
                let bytes = std::mem::take(bytes);
                this.0 = Kind::Empty;
                Poll::Ready(Some(Ok(Frame::data(bytes))))
            }
            Kind::Incoming(body) => Pin::new(body).poll_frame(cx).map_err(Into::into),
            Kind::Boxed(body) => Pin::new(body).poll_frame(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.0 {
            Kind::Empty => true,
            Kind::Full(_) => false,
            Kind::Incoming(body) => body.is_end_stream(),
            Kind::Boxed(body) => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.0 {
            Kind::Empty => SizeHint::with_exact(0),
            Kind::Full(bytes) => SizeHint::with_exact(bytes.len() as u64),
            Kind::Incoming(body) => body.size_hint(),
            Kind::Boxed(body) => body.size_hint(),
        }
    }
}

impl fmt::Debug for RequestBody {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = match &self.0 {
            Kind::Empty => "Empty",
            Kind::Full(_) => "Full",
            Kind::Incoming(_) => "Incoming",
            Kind::Boxed(_) => "Boxed",
        };
        f.debug_tuple("RequestBody").field(&kind).finish()
    }
}

// === impl ResponseBody ===

impl ResponseBody {
    pub(super) fn http1(
        incoming: Incoming,
        connection: Box<Http1>,
        member: &Arc<Member>,
        thread: &Arc<Thread>,
    ) -> Self {
        // Nothing comes: the connection is free before the client has its answer.
        if incoming.is_end_stream() {
            thread.release(connection, member);
            return Self { incoming, carrier: Carrier::Http1(None) };
        }
        let exchange = Exchange { connection, member: Arc::clone(member), thread: Arc::clone(thread) };
        Self { incoming, carrier: Carrier::Http1(Some(exchange)) }
    }

    pub(super) fn http2(incoming: Incoming, stream: Stream) -> Self {
        Self { incoming, carrier: Carrier::Http2 { _stream: stream } }
    }
}

impl Body for ResponseBody {
    type Data = Bytes;
    type Error = hyper::Error;

    #[inline]
    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let this = self.get_mut();
        let Carrier::Http1(slot) = &mut this.carrier else { return Pin::new(&mut this.incoming).poll_frame(cx) };
        let Some(exchange) = slot else { return Pin::new(&mut this.incoming).poll_frame(cx) };
        exchange.connection.drive(cx);
        // Only the connection, just driven, could bring more, and it wakes whoever drove it: no second waker is needed.
        let frame = Pin::new(&mut this.incoming).poll_frame(&mut Context::from_waker(Waker::noop()));
        match &frame {
            Poll::Pending | Poll::Ready(Some(Ok(_))) => {}
            Poll::Ready(Some(Err(_))) => *slot = None,
            Poll::Ready(None) => {
                if let Some(exchange) = slot.take() {
                    exchange.thread.release(exchange.connection, &exchange.member);
                }
            }
        }
        frame
    }

    #[inline]
    fn is_end_stream(&self) -> bool {
        self.incoming.is_end_stream()
    }

    #[inline]
    fn size_hint(&self) -> SizeHint {
        self.incoming.size_hint()
    }
}

impl Drop for ResponseBody {
    fn drop(&mut self) {
        // A body of known length is at its end before anybody asks for what comes after.
        if let Carrier::Http1(slot) = &mut self.carrier
            && let Some(exchange) = slot.take()
            && self.incoming.is_end_stream()
        {
            exchange.thread.release(exchange.connection, &exchange.member);
        }
    }
}

// === impl Stream ===

impl Stream {
    pub(super) fn begin(count: &Arc<AtomicU32>) -> Self {
        count.fetch_add(1, Ordering::Relaxed);
        Self(Arc::clone(count))
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}
