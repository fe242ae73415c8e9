//! Envoy's xDS: the endpoints of pools (EDS) and clusters for them (CDS),
//! listeners (LDS) and the routes of hosts (RDS), over REST and over gRPC on the port of the pull
//! API, each gRPC service as the state of the world and as increments, by itself or aggregated (ADS).
//!
//! A resource's name is the pool's id, its version the pool's `ETag`, and the node's id the gateway's name: a response
//! that a gateway takes is its acknowledgement, as `POST /v1/ack` is, and one that it refuses stands as its error in
//! `/v1/gateways`. Both count only from a client that may speak for a gateway of this name; who may not is served all the
//! same. Until a source has told its pools, what it could have is refused with `UNAVAILABLE`, and never answered empty.
//!
//! ```text
//! requests → session → machine (sotw | delta) → subscription ─┐
//! responses ←──────────────────────────────── shared bytes ←──┘ snapshot, as one client may see it
//! ```

mod delta;
mod machine;
mod messages;
pub(super) mod refusals;
mod rest;
mod session;
mod sotw;
mod state;
mod subscription;
#[cfg(test)]
mod tests;
mod view;

use std::future::{Ready, ready};
use std::marker::PhantomData;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, StatusCode, Version, header};
use axum::response::Response;
use axum::routing::post;
use futures_util::Stream;
use tokio::sync::Semaphore;
use tonic::server::{Grpc, StreamingService};
use tonic::{Status, Streaming};
use tonic_prost::ProstCodec;

use self::delta::Delta;
use self::machine::{Machine, Types};
use self::session::{Permits, responses};
use self::sotw::Sotw;
use self::view::Kind;
pub(super) use self::view::Listeners;
use super::access::Client;
use super::answer::error;
use super::api::{Api, Asker};

/// Streams at once, of all clients.
const MAX_STREAMS: usize = 100_000;
/// The largest request, in bytes: an Envoy that comes back says what it has.
const MAX_REQUEST: usize = 8 << 20;
/// What a gRPC request's `Content-Type` begins with.
const GRPC: &[u8] = b"application/grpc";

/// How many streams there may be.
pub(super) fn limit() -> Arc<Semaphore> {
    Arc::new(Semaphore::new(MAX_STREAMS))
}

/// Listeners at these addresses, as resources; Envoy logs requests where a path is given.
pub(super) fn listeners(addresses: &[SocketAddr], access_log: Option<&str>) -> Listeners {
    Listeners::at(addresses, access_log)
}

pub(super) fn routes() -> Router<Arc<Api>> {
    let eds = Types::Only(Kind::Assignments);
    let cds = Types::Only(Kind::Clusters);
    let lds = Types::Only(Kind::Listeners);
    let rds = Types::Only(Kind::Routes);
    Router::new()
        .route("/v3/discovery:endpoints", post(rest::endpoints).layer(rest::limit()))
        .merge(service("endpoint.v3.EndpointDiscoveryService", ["StreamEndpoints", "DeltaEndpoints"], eds))
        .merge(service("cluster.v3.ClusterDiscoveryService", ["StreamClusters", "DeltaClusters"], cds))
        .merge(service("listener.v3.ListenerDiscoveryService", ["StreamListeners", "DeltaListeners"], lds))
        .merge(service("route.v3.RouteDiscoveryService", ["StreamRoutes", "DeltaRoutes"], rds))
        .merge(service(
            "discovery.v3.AggregatedDiscoveryService",
            ["StreamAggregatedResources", "DeltaAggregatedResources"],
            Types::Aggregated,
        ))
}

/// A service with its two methods.
fn service(name: &str, [whole, delta]: [&str; 2], types: Types) -> Router<Arc<Api>> {
    let path = |method| format!("/envoy.service.{name}/{method}");
    Router::new()
        .route(&path(whole), post(move |api, client, request| serve::<Sotw>(api, client, request, types)))
        .route(&path(delta), post(move |api, client, request| serve::<Delta>(api, client, request, types)))
}

/// Whether a request is one of gRPC, whose errors are told in its own way.
pub(super) fn is_grpc(headers: &HeaderMap) -> bool {
    headers.get(header::CONTENT_TYPE).is_some_and(|value| value.as_bytes().starts_with(GRPC))
}

/// An error as gRPC tells it, of the status that HTTP has for it.
pub(super) fn refused(status: StatusCode, text: &str) -> Response {
    let status = match status {
        StatusCode::UNAUTHORIZED => Status::unauthenticated(text),
        StatusCode::FORBIDDEN => Status::permission_denied(text),
        StatusCode::TOO_MANY_REQUESTS => Status::resource_exhausted(text),
        _ => Status::unknown(text),
    };
    status.into_http::<Body>()
}

async fn serve<M: Machine>(State(api): State<Arc<Api>>, client: Asker, request: Request, types: Types) -> Response {
    if !is_grpc(request.headers()) {
        return error(StatusCode::UNSUPPORTED_MEDIA_TYPE, "this path speaks gRPC alone");
    }
    if request.version() != Version::HTTP_2 {
        return error(StatusCode::HTTP_VERSION_NOT_SUPPORTED, "gRPC needs HTTP/2");
    }
    let codec = ProstCodec::<M::Response, M::Request>::default();
    let opening = Opening::<M> { api, client: client.0, types, machine: PhantomData };
    let mut grpc = Grpc::new(codec).max_decoding_message_size(MAX_REQUEST).max_encoding_message_size(usize::MAX);
    grpc.streaming(opening, request).await.map(Body::new)
}

/// Begins a stream.
struct Opening<M> {
    api: Arc<Api>,
    client: Arc<Client>,
    types: Types,
    machine: PhantomData<fn() -> M>,
}

impl<M: Machine> StreamingService<M::Request> for Opening<M> {
    type Response = M::Response;
    type ResponseStream = Pin<Box<dyn Stream<Item = Result<M::Response, Status>> + Send>>;
    type Future = Ready<Result<tonic::Response<Self::ResponseStream>, Status>>;

    fn call(&mut self, request: tonic::Request<Streaming<M::Request>>) -> Self::Future {
        let of_client = self.api.clients.wait(&self.client.account);
        let of_all = self.api.streams.clone().try_acquire_owned();
        let (Ok(of_client), Ok(of_all)) = (of_client, of_all) else {
            return ready(Err(Status::resource_exhausted("more streams than one client gets, or all of them")));
        };
        let permits: Permits = (of_client, of_all, self.api.metrics.stream());
        let responses =
            responses::<M>(self.api.clone(), self.client.clone(), self.types, request.into_inner(), permits);
        ready(Ok(tonic::Response::new(Box::pin(responses))))
    }
}
