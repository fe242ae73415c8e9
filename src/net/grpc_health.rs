//! gRPC's health protocol as a client speaks it: `grpc.health.v1.Health/Check`
//! (<https://github.com/grpc/grpc/blob/master/doc/health-checking.md>).

use http_body_util::{BodyExt as _, Limited};
use hyper::body::{Body, Bytes};
use hyper::header::{CONTENT_TYPE, TE, USER_AGENT};
use hyper::{Method, Request, Response};
use prost::Message;

/// How much of an answer is read.
const MAX_ANSWER: usize = 4 << 10;

/// `grpc.health.v1.HealthCheckRequest`.
#[derive(Clone, PartialEq, Message)]
struct HealthCheckRequest {
    #[prost(string, tag = "1")]
    service: String,
}

/// `grpc.health.v1.HealthCheckResponse`; a status of 1 is SERVING.
#[derive(Clone, PartialEq, Message)]
struct HealthCheckResponse {
    #[prost(int32, tag = "1")]
    status: i32,
}

/// The call for a service; an empty one is the server as a whole. Its only message is not compressed, its length in four bytes.
///
/// # Errors
/// The authority is none.
pub fn request(scheme: &str, authority: &str, service: &str) -> Result<Request<Bytes>, hyper::http::Error> {
    let message = HealthCheckRequest { service: service.to_owned() }.encode_to_vec();
    let length = u32::try_from(message.len()).unwrap_or(u32::MAX).to_be_bytes();
    let body: Vec<u8> = [0].into_iter().chain(length).chain(message).collect();
    Request::builder()
        .method(Method::POST)
        .uri(format!("{scheme}://{authority}/grpc.health.v1.Health/Check"))
        .header(CONTENT_TYPE, "application/grpc")
        .header(TE, "trailers")
        .header(USER_AGENT, "tidegate-health-check")
        .body(Bytes::from(body))
}

/// Reads an answer.
///
/// # Errors
/// It does not say SERVING; the error says what it is instead.
pub async fn verdict<B>(response: Response<B>) -> Result<(), String>
where
    B: Body,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let (head, body) = response.into_parts();
    let body = Limited::new(body, MAX_ANSWER).collect().await.map_err(|error| error.to_string())?;
    // An error without a message stands in the header.
    let trailers = body.trailers().unwrap_or(&head.headers);
    let status = trailers.get("grpc-status").and_then(|status| status.to_str().ok()).unwrap_or("missing");
    if status != "0" {
        return Err(format!("HTTP status {}, gRPC status {status}", head.status.as_u16()));
    }
    let bytes = body.to_bytes();
    match bytes.get(5..).and_then(|message| HealthCheckResponse::decode(message).ok()) {
        Some(HealthCheckResponse { status: 1 }) => Ok(()),
        Some(HealthCheckResponse { status: 2 }) => Err("it says NOT_SERVING".to_owned()),
        Some(HealthCheckResponse { status }) => Err(format!("it says {status}, which is not SERVING")),
        None => Err("no message of grpc.health.v1".to_owned()),
    }
}
