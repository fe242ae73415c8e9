//! A connection of HTTP/1.1: one request at a time.
//!
//! hyper's connection is a future of its own. It is not spawned: whoever waits for the answer polls it, in the task that
//! serves the client, so that a request passes no channel to another task and wakes nobody. What hyper hands over through
//! its own channels is there right after the poll that brought it, which is why those are looked into without a waker.

use std::fmt;
use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::task::{Context, Poll, Waker};

use hyper::body::Incoming;
use hyper::client::conn::http1::{self, SendRequest};
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::task::coop::unconstrained;

use super::body::RequestBody;
use super::error::SendError;
use super::stream::Stream;
use crate::upstream::limits::ConnectionPermit;

/// Bytes of an answer's head that are taken, and of a body that wait to be sent on.
const MAX_BUFFER: usize = 128 << 10;

/// An open connection.
pub(super) struct Http1 {
    sender: SendRequest<RequestBody>,
    /// hyper's connection, whose type has no name outside hyper.
    connection: Pin<Box<dyn Future<Output = hyper::Result<()>> + Send>>,
    /// The connection has ended and must not be polled again.
    ended: bool,
    /// It has carried a request.
    reused: bool,
    /// It may carry another one.
    keep: bool,
    _permit: ConnectionPermit,
}

// === impl Http1 ===

impl Http1 {
    /// Speaks HTTP/1.1 on an open stream. Nothing is sent yet. `keep`: it may carry more than one request.
    pub(super) async fn new(stream: Stream, keep: bool, permit: ConnectionPermit) -> hyper::Result<Self> {
        let (sender, connection) =
            http1::Builder::new().max_buf_size(MAX_BUFFER).handshake(TokioIo::new(stream)).await?;
        let connection = Box::pin(connection.with_upgrades());
        Ok(Self { sender, connection, ended: false, reused: false, keep, _permit: permit })
    }

    /// Lets the connection do what it can.
    #[inline]
    pub(super) fn drive(&mut self, cx: &mut Context<'_>) {
        if !self.ended && self.connection.as_mut().poll(cx).is_ready() {
            self.ended = true;
        }
    }

    /// Whether it can take a request, as far as is known: its last answer has ended. Whether the other side has closed it
    /// meanwhile shows when a request is sent, before anything is written.
    #[inline]
    pub(super) fn is_idle(&self) -> bool {
        self.keep && !self.ended && self.sender.is_ready()
    }

    /// The same, after a look at what has come from the other side.
    pub(super) fn is_still_idle(&mut self) -> bool {
        if !self.ended {
            let polled = pin!(unconstrained(self.connection.as_mut())).poll(&mut Context::from_waker(Waker::noop()));
            self.ended = polled.is_ready();
        }
        self.is_idle()
    }

    /// Whether it has carried a request before.
    pub(super) fn is_reused(&self) -> bool {
        self.reused
    }

    /// Sends a request and waits for the head of its answer; dropped before, the connection closes.
    ///
    /// # Errors
    /// There is no answer; the connection is closed.
    #[inline]
    pub(super) async fn exchange(
        mut self: Box<Self>,
        request: Request<RequestBody>,
    ) -> Result<(Response<Incoming>, Box<Self>), SendError> {
        let reused = self.reused;
        let mut answer = pin!(unconstrained(self.sender.try_send_request(request)));
        let answer = poll_fn(|cx| {
            if !self.ended && self.connection.as_mut().poll(cx).is_ready() {
                self.ended = true;
            }
            match answer.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
                Poll::Ready(answer) => Poll::Ready(Some(answer)),
                Poll::Pending if self.ended => Poll::Ready(None),
                Poll::Pending => Poll::Pending,
            }
        });
        match answer.await {
            Some(Ok(response)) => {
                self.reused = true;
                if response.status() == StatusCode::SWITCHING_PROTOCOLS {
                    self.hand_over().await;
                }
                Ok((response, self))
            }
            Some(Err(mut error)) => {
                let request = error.take_message();
                Err(SendError::sent(error.into_error(), request, reused))
            }
            None => Err(SendError::closed(reused)),
        }
    }

    /// Lets the connection end, which it does as soon as the protocol has changed: its stream goes to whoever upgrades.
    async fn hand_over(&mut self) {
        poll_fn(|cx| {
            self.drive(cx);
            if self.ended { Poll::Ready(()) } else { Poll::Pending }
        })
        .await;
    }
}

impl fmt::Debug for Http1 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Http1").field("ended", &self.ended).field("reused", &self.reused).finish_non_exhaustive()
    }
}
