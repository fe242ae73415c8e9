//! A client of xDS over gRPC, one stream at a time, blocking.

#[allow(dead_code, reason = "the server's own messages, of which a client needs its part")]
#[path = "../../src/discovery/formats/envoy/messages.rs"]
pub(crate) mod envoy;
#[allow(dead_code, reason = "the server's own messages, of which a client needs its part")]
#[path = "../../src/discovery/xds/messages.rs"]
pub(crate) mod messages;

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::time::Duration;

use futures_util::stream::unfold;
use hyper::body::Bytes;
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use prost::Message;
use tokio::runtime::Runtime;
use tokio::sync::mpsc::{Sender, channel};
use tonic::{Status, Streaming};
use tonic_prost::ProstCodec;

use self::envoy::{Any, ClusterLoadAssignment, HealthStatus};
use self::messages::Node;

pub(crate) const ASSIGNMENT: &str = "type.googleapis.com/envoy.config.endpoint.v3.ClusterLoadAssignment";
pub(crate) const DELTA_EDS: &str = "/envoy.service.endpoint.v3.EndpointDiscoveryService/DeltaEndpoints";
pub(crate) const STREAM_EDS: &str = "/envoy.service.endpoint.v3.EndpointDiscoveryService/StreamEndpoints";

/// For what comes at once on a machine with nothing else to do.
const PATIENCE: Duration = Duration::from_secs(30);

/// Requests that wait to be sent; each answers a response, or is one of few.
const MAX_REQUESTS: usize = 64;

/// An open stream. Its sockets belong to the network namespace of the thread that opened it.
pub(crate) struct Stream<Request, Response> {
    runtime: Runtime,
    requests: Sender<Request>,
    responses: Streaming<Response>,
}

/// Begins a stream on a connection of its own, with its first request.
pub(crate) async fn begin<Request, Response>(
    address: SocketAddr,
    path: &'static str,
    token: Option<&str>,
    first: Request,
) -> Result<(Sender<Request>, Streaming<Response>), Status>
where
    Request: Message + Default + 'static,
    Response: Message + Default + 'static,
{
    let (requests, receiver) = channel(MAX_REQUESTS);
    requests.try_send(first).unwrap();
    let stream = unfold(receiver, |mut receiver| async move { Some((receiver.recv().await?, receiver)) });
    let mut request = tonic::Request::new(stream);
    if let Some(token) = token {
        request.metadata_mut().insert("authorization", format!("Bearer {token}").parse().unwrap());
    }
    let client = Client::builder(TokioExecutor::new()).http2_only(true).build(HttpConnector::new());
    let mut grpc = tonic::client::Grpc::with_origin(client, format!("http://{address}").parse().unwrap());
    grpc.ready().await.map_err(|error| Status::unavailable(error.to_string()))?;
    let codec = ProstCodec::<Request, Response>::default();
    let path = hyper::http::uri::PathAndQuery::from_static(path);
    Ok((requests, grpc.streaming(request, path, codec).await?.into_inner()))
}

impl<Request, Response> Stream<Request, Response>
where
    Request: Message + Default + 'static,
    Response: Message + Default + std::fmt::Debug + 'static,
{
    /// Opens a stream with its first request. `token` is sent as the client's.
    pub(crate) fn open(
        address: SocketAddr,
        path: &'static str,
        token: Option<&str>,
        first: Request,
    ) -> Result<Self, Status> {
        // With a thread of its own, so that what is sent goes out while the test looks elsewhere.
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let opening = begin(address, path, token, first);
        let opened = runtime.block_on(async { tokio::time::timeout(PATIENCE, opening).await });
        let (requests, responses) = opened.unwrap_or_else(|_| Err(Status::deadline_exceeded("no answer")))?;
        Ok(Self { runtime, requests, responses })
    }

    pub(crate) fn send(&self, request: Request) {
        // A stream that has ended says so when it is read.
        let _ = self.requests.try_send(request);
    }

    /// The next response within this time; `None` if there was none.
    pub(crate) fn poll(&mut self, wait: Duration) -> Result<Option<Response>, Status> {
        let read = async { tokio::time::timeout(wait, self.responses.message()).await };
        match self.runtime.block_on(read) {
            Ok(Ok(Some(response))) => Ok(Some(response)),
            Ok(Ok(None)) => Err(Status::unavailable("the stream ended")),
            Ok(Err(status)) => Err(status),
            Err(_) => Ok(None),
        }
    }

    /// The next response.
    pub(crate) fn next(&mut self) -> Response {
        self.poll(PATIENCE).unwrap().unwrap_or_else(|| panic!("no response in {PATIENCE:?}"))
    }

    /// Says that nothing comes for a while.
    pub(crate) fn assert_silent(&mut self) {
        let response = self.poll(Duration::from_millis(500)).unwrap();
        assert!(response.is_none(), "{response:?}");
    }
}

pub(crate) fn node(id: &str) -> Option<Node> {
    Some(Node { id: id.to_owned() })
}

/// A pool's id with its endpoints as `ADDRESS:PORT STATE`, of an encoded assignment.
pub(crate) fn endpoints(resource: &Bytes) -> (String, BTreeSet<String>) {
    let any = Any::decode(resource.clone()).unwrap();
    assert_eq!(any.type_url, ASSIGNMENT);
    let assignment = ClusterLoadAssignment::decode(any.value).unwrap();
    let line = |it: &envoy::LbEndpoint| {
        let socket = it.endpoint.clone().unwrap().address.unwrap().socket_address.unwrap();
        let state = if it.health_status == HealthStatus::Healthy as i32 { "ready" } else { "draining" };
        format!("{}:{} {state}", socket.address, socket.port_value)
    };
    let lines = assignment.endpoints.iter().flat_map(|zone| &zone.lb_endpoints).map(line).collect();
    (assignment.cluster_name, lines)
}
