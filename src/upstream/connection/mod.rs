//! Connections to endpoints: kept by address, port and TLS identity, so that they outlive every change of a pool.
//!
//! Each of the gateway's threads has shelves of its own. A request takes the connection that was used last from its
//! thread's shelf of the endpoint; where that turns out to be closed before anything was written, it takes the next one,
//! and at last opens one. A sweeper closes what has been idle for too long, or what the other side has closed.

mod body;
mod error;
mod http1;
mod http2;
mod stream;
mod target;

use std::net::SocketAddr;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use hyper::header::{HOST, HeaderValue};
use hyper::http::uri::PathAndQuery;
use hyper::{Request, Response, Uri, Version};
use tokio::time::Instant;

use self::http1::Http1;
use self::http2::Http2;
use self::stream::{Dial, dial};
use self::target::Shelf;
use super::config::ConnectionConfig;
use super::life::Member;
use super::limits::ConnectionPermit;
use super::pool::Picked;

pub use self::body::{RequestBody, ResponseBody};
pub use self::error::{BoxError, SendError, SendErrorKind, Written};
pub(super) use self::stream::{Dial as ProbeDial, dial as probe_dial};
pub(super) use self::target::{Target, TargetKey};

/// How long the sweeper waits between two turns.
const TURN: Duration = Duration::from_secs(1);
/// How often a request goes on to another shared connection because the one before had ended.
const MAX_STALE: usize = 4;

/// One thread's connections. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Connections(Arc<Thread>);

/// What beside the request a connection may need.
#[derive(Clone, Copy, Debug, Default)]
pub struct SendOptions {
    /// The client, for the PROXY protocol.
    pub client: Option<SocketAddr>,
    /// The address that the client came to, for the PROXY protocol.
    pub local: Option<SocketAddr>,
}

/// A thread's place among all.
#[derive(Debug)]
struct Thread {
    index: usize,
    /// The sweeper's turn.
    turn: AtomicU32,
    /// Endpoints with something to sweep.
    swept: Mutex<Vec<Weak<Target>>>,
}

/// What a request goes over.
enum Way {
    Waiting(Box<Http1>),
    Room(ConnectionPermit),
}

// === impl Connections ===

impl Connections {
    /// The connections of thread `index`, from 0. Called on that thread's runtime, where its sweeper runs until the last
    /// clone is gone.
    pub fn new(index: usize) -> Self {
        let thread = Arc::new(Thread { index, turn: AtomicU32::new(0), swept: Mutex::default() });
        let sweeper = Arc::downgrade(&thread);
        tokio::spawn(async move {
            let mut turns = tokio::time::interval(TURN);
            loop {
                turns.tick().await;
                let Some(thread) = sweeper.upgrade() else { return };
                thread.sweep();
            }
        });
        Self(thread)
    }

    /// Sends a request to the endpoint that was picked and waits for the head of its answer. The request's target is in
    /// origin form, and its `Host` header says whose it is; hop-by-hop headers are the caller's affair. Dropped before,
    /// the request is cancelled. Only connecting is limited in time.
    ///
    /// # Errors
    /// There is no answer.
    #[inline]
    pub async fn send(
        &self,
        picked: &Picked,
        request: Request<RequestBody>,
        options: &SendOptions,
    ) -> Result<Response<ResponseBody>, SendError> {
        if picked.member.http2 {
            Box::pin(self.send_http2(&picked.member, request, options)).await
        } else {
            self.send_http1(&picked.member, request, options).await
        }
    }

    async fn send_http1(
        &self,
        member: &Arc<Member>,
        mut request: Request<RequestBody>,
        options: &SendOptions,
    ) -> Result<Response<ResponseBody>, SendError> {
        *request.version_mut() = Version::HTTP_11;
        origin_form(&mut request);
        let shelf = self.0.shelf(member);
        loop {
            let waiting = match shelf.take() {
                Some(connection) => connection,
                None => match Box::pin(self.connect(member, options)).await {
                    Ok(connection) => connection,
                    Err((kind, source)) => return Err(SendError::unsent(kind, request, source)),
                },
            };
            let reused = waiting.is_reused();
            match waiting.exchange(request).await {
                Ok((response, connection)) => {
                    return Ok(response.map(|incoming| ResponseBody::http1(incoming, connection, member, &self.0)));
                }
                // It was closed just now, and nothing of the request had been written. A new one that is closed at once
                // is an answer of a kind.
                Err(mut error) if reused => match error.take_request() {
                    Some(back) => request = back,
                    None => return Err(error),
                },
                Err(error) => return Err(error),
            }
        }
    }

    async fn connect(
        &self,
        member: &Arc<Member>,
        options: &SendOptions,
    ) -> Result<Box<Http1>, (SendErrorKind, Option<BoxError>)> {
        let permit = match self.room(member).await? {
            Way::Waiting(connection) => return Ok(connection),
            Way::Room(permit) => permit,
        };
        let stream = self.open(member, options).await?;
        let keep = member.context.config.connection.proxy_protocol.is_none();
        let connection = Http1::new(stream, keep, permit).await;
        connection.map(Box::new).map_err(|error| (SendErrorKind::Connect, Some(error.into())))
    }

    async fn send_http2(
        &self,
        member: &Arc<Member>,
        mut request: Request<RequestBody>,
        options: &SendOptions,
    ) -> Result<Response<ResponseBody>, SendError> {
        http2::prepare(&mut request, member.host.target.tls().is_some());
        let mut stale = 0;
        loop {
            let found = self.http2(member, options).await;
            let (mut sender, stream, reused) = match found {
                Ok(found) => found,
                Err((kind, source)) => return Err(SendError::unsent(kind, request, source)),
            };
            match sender.try_send_request(request).await {
                Ok(response) => return Ok(response.map(|incoming| ResponseBody::http2(incoming, stream))),
                Err(mut error) => {
                    let back = error.take_message();
                    stale += 1;
                    match back {
                        Some(back) if stale < MAX_STALE => request = back,
                        back => return Err(SendError::sent(error.into_error(), back, reused)),
                    }
                }
            }
        }
    }

    /// A shared connection with room for a request, opened where there is none.
    async fn http2(
        &self,
        member: &Arc<Member>,
        options: &SendOptions,
    ) -> Result<Shared, (SendErrorKind, Option<BoxError>)> {
        let config = &member.context.config.connection;
        let shelf = self.0.shelf(member);
        let until = self.0.until(config);
        let alone = config.proxy_protocol.is_some();
        if !alone && let Some((sender, stream)) = roomy(shelf, config.max_streams, until) {
            return Ok((sender, stream, true));
        }
        let opening = tokio::time::timeout(config.connect_timeout, shelf.opening.lock()).await;
        let _opening = opening.map_err(|_| (SendErrorKind::ConnectTimeout, None))?;
        if !alone && let Some((sender, stream)) = roomy(shelf, config.max_streams, until) {
            return Ok((sender, stream, true));
        }
        let permit = match member.context.life.usage.connect(&member.context.config.limits) {
            Some(permit) => permit,
            // As many as may be: those that are there take more requests than they should.
            None => match roomy(shelf, u32::MAX, until).filter(|_| !alone) {
                Some((sender, stream)) => return Ok((sender, stream, true)),
                None => match self.room(member).await? {
                    Way::Room(permit) => permit,
                    Way::Waiting(_) => return Err((SendErrorKind::Connections, None)),
                },
            },
        };
        let stream = self.open(member, options).await?;
        let refused = |error: hyper::Error| (SendErrorKind::Connect, Some(BoxError::from(error)));
        let connection = Http2::new(stream, permit).await.map_err(refused)?;
        let (sender, stream) = connection.begin(until);
        if !alone && member.host.target.is_wanted() {
            shelf.http2().push(connection);
            self.0.sweep_later(shelf, &member.host.target);
        }
        Ok((sender, stream, false))
    }

    async fn open(
        &self,
        member: &Member,
        options: &SendOptions,
    ) -> Result<stream::Stream, (SendErrorKind, Option<BoxError>)> {
        let config = &member.context.config.connection;
        let target = &member.host.target;
        let greeting = config.proxy_protocol.map(|version| (version, options.client.zip(options.local)));
        let opened = dial(Dial {
            address: target.address(),
            tls: target.tls(),
            http2: member.http2,
            timeout: config.connect_timeout,
            greeting,
        })
        .await;
        member.context.life.metrics.connected(opened.is_ok());
        opened.map_err(|(kind, error)| (kind, Some(error.into())))
    }

    /// Room for a connection of the pool, or one that became free meanwhile.
    async fn room(&self, member: &Arc<Member>) -> Result<Way, (SendErrorKind, Option<BoxError>)> {
        let (life, config) = (&member.context.life, &member.context.config);
        if let Some(permit) = life.usage.connect(&config.limits) {
            return Ok(Way::Room(permit));
        }
        let Some(waiting) = life.usage.wait(&config.limits) else {
            life.metrics.refused_connections.increment(1);
            return Err((SendErrorKind::Connections, None));
        };
        let deadline = Instant::now() + config.connection.connect_timeout;
        loop {
            if !member.http2
                && let Some(connection) = self.0.shelf(member).take()
            {
                return Ok(Way::Waiting(connection));
            }
            // Idle connections to other endpoints, or of other threads, make room.
            let permit = life.usage.connect(&config.limits);
            if let Some(permit) =
                permit.or_else(|| life.close_one_idle().then(|| life.usage.connect(&config.limits))?)
            {
                return Ok(Way::Room(permit));
            }
            if tokio::time::timeout_at(deadline, waiting.released()).await.is_err() {
                return Err((SendErrorKind::ConnectionsTimeout, None));
            }
        }
    }
}

type Shared = (hyper::client::conn::http2::SendRequest<RequestBody>, body::Stream, bool);

/// The open connection with the fewest requests, if it has fewer than `most`.
fn roomy(
    shelf: &Shelf,
    most: u32,
    until: u32,
) -> Option<(hyper::client::conn::http2::SendRequest<RequestBody>, body::Stream)> {
    let connections = shelf.http2();
    let open = connections.iter().filter(|connection| connection.is_open());
    let least = open.min_by_key(|connection| connection.streams())?;
    (least.streams() < most.max(1)).then(|| least.begin(until))
}

/// A target in absolute form would tell the endpoint that this is its proxy. One that was prepared for HTTP/2 and given
/// back has its host there.
fn origin_form(request: &mut Request<RequestBody>) {
    if request.uri().scheme().is_some() {
        let mut parts = std::mem::take(request.uri_mut()).into_parts();
        let host = parts.authority.as_ref().and_then(|host| HeaderValue::from_str(host.as_str()).ok());
        if let Some(host) = host {
            request.headers_mut().entry(HOST).or_insert(host);
        }
        (parts.scheme, parts.authority) = (None, None);
        parts.path_and_query.get_or_insert(PathAndQuery::from_static("/"));
        *request.uri_mut() = Uri::from_parts(parts).unwrap_or_default();
    }
}

// === impl Thread ===

impl Thread {
    #[inline]
    fn shelf<'a>(&self, member: &'a Member) -> &'a Shelf {
        member.host.target.shelf(self.index)
    }

    /// The turn until which a connection may wait.
    #[inline]
    fn until(&self, config: &ConnectionConfig) -> u32 {
        let turns = u32::try_from(config.idle_timeout.as_secs()).unwrap_or(u32::MAX / 4).clamp(1, u32::MAX / 4);
        self.turn.load(Ordering::Relaxed).wrapping_add(turns)
    }

    /// A connection has done what it did: it waits for the next request, or closes.
    #[inline]
    fn release(&self, mut connection: Box<Http1>, member: &Member) {
        let (target, config) = (&member.host.target, &member.context.config.connection);
        // As a rule it became idle with the last bytes of the answer, and needs no further look.
        if !(connection.is_idle() || connection.is_still_idle()) || !target.is_wanted() {
            return;
        }
        let shelf = self.shelf(member);
        shelf.put(connection, self.until(config), config.max_idle_per_endpoint);
        self.sweep_later(shelf, target);
        if !target.is_wanted() {
            // The endpoint has gone between the two looks.
            while shelf.take().is_some() {}
        }
        member.context.life.usage.became_idle();
    }

    #[inline]
    fn sweep_later(&self, shelf: &Shelf, target: &Arc<Target>) {
        if !shelf.is_swept.load(Ordering::Relaxed) {
            shelf.is_swept.store(true, Ordering::Relaxed);
            self.swept.lock().unwrap_or_else(PoisonError::into_inner).push(Arc::downgrade(target));
        }
    }

    fn sweep(&self) {
        let turn = self.turn.fetch_add(1, Ordering::Relaxed).wrapping_add(1);
        let targets = std::mem::take(&mut *self.swept.lock().unwrap_or_else(PoisonError::into_inner));
        let left: Vec<_> = targets.into_iter().filter(|target| self.sweep_target(target, turn)).collect();
        self.swept.lock().unwrap_or_else(PoisonError::into_inner).extend(left);
    }

    /// Says whether there is something left to sweep.
    fn sweep_target(&self, target: &Weak<Target>, turn: u32) -> bool {
        let Some(target) = target.upgrade() else { return false };
        let shelf = target.shelf(self.index);
        let left = shelf.sweep(turn);
        shelf.is_swept.store(left, Ordering::Relaxed);
        left
    }
}
