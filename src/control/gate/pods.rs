//! What every new pod is asked.

use std::net::IpAddr;
use std::time::Duration;

use http_body_util::Full;
use hyper_util::rt::{TokioExecutor, TokioIo};
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;
use tokio::net::TcpStream;

use super::super::resource::gate::{GrpcGate, HttpGate, TcpGate};
use super::super::standing::standing;
use super::{Not, Question};
use crate::net::fetch::{Credentials, Fetcher, flat};
use crate::net::grpc_health;

/// For one pod's answer.
const ANSWER: Duration = Duration::from_secs(2);
/// Pods asked at once.
const AT_ONCE: usize = 32;
/// Asks every ready pod of the revision.
pub(super) async fn ask<'a, A>(question: &Question<'a>, one: impl Fn(&'a Pod) -> A) -> Result<(), Not>
where
    A: Future<Output = Result<(), String>>,
{
    let pods: Vec<&Pod> = standing(question.pods, question.revision).collect();
    if pods.len() < usize::try_from(question.ready).unwrap_or(usize::MAX) {
        return Err(Not::Yet(format!("{} of {} ready pods are known", pods.len(), question.ready)));
    }
    for some in pods.chunks(AT_ONCE) {
        let answers = some.iter().map(|pod| async {
            let name = pod.name_any();
            match tokio::time::timeout(ANSWER, one(pod)).await {
                Ok(answer) => answer.map_err(|why| Not::Yet(format!("pod {name}: {why}"))),
                Err(_) => Err(Not::Yet(format!("pod {name}: no answer within {} s", ANSWER.as_secs()))),
            }
        });
        for answer in futures_util::future::join_all(answers).await {
            answer?;
        }
    }
    Ok(())
}

/// Whether it answers a request with success.
pub(super) async fn http(pod: &Pod, http: &HttpGate) -> Result<(), String> {
    let host = authority(pod, http.port)?;
    let what = format!("GET http://{host}{}", http.path);
    let fetcher = Fetcher::new(&format!("http://{host}"), &Credentials::default());
    let fetcher = fetcher.map_err(|error| format!("{what}: {error}"))?;
    let answer = fetcher.get(&http.path, &[], ANSWER).await.map_err(|error| format!("{what}: {error}"))?;
    if !answer.status.is_success() {
        return Err(format!("{what} answered {}", answer.status.as_u16()));
    }
    Ok(())
}

/// Whether it accepts a connection.
pub(super) async fn tcp(pod: &Pod, tcp: &TcpGate) -> Result<(), String> {
    let host = authority(pod, tcp.port)?;
    TcpStream::connect(&host).await.map(drop).map_err(|error| format!("tcp {host}: {error}"))
}

/// Whether it says that it serves.
pub(super) async fn grpc(pod: &Pod, grpc: &GrpcGate) -> Result<(), String> {
    let host = authority(pod, grpc.port)?;
    let told = |why: String| format!("grpc.health.v1.Health/Check at {host}: {why}");
    check(&host, &grpc.service).await.map_err(told)
}

async fn check(host: &str, service: &str) -> Result<(), String> {
    let stream = TcpStream::connect(host).await.map_err(|error| error.to_string())?;
    let handshake = hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await;
    let (mut sender, connection) = handshake.map_err(|error| flat(&error))?;
    let request = grpc_health::request("http", host, service).map_err(|error| error.to_string())?.map(Full::new);
    let answer = async {
        let response = sender.send_request(request).await.map_err(|error| flat(&error))?;
        grpc_health::verdict(response).await
    };
    tokio::select! {
        answer = answer => answer,
        ended = connection => Err(ended.err().map_or_else(|| "it closed the connection".to_owned(), |error| flat(&error))),
    }
}

/// Its address and this port.
fn authority(pod: &Pod, port: u16) -> Result<String, String> {
    let address = pod.status.as_ref().and_then(|status| status.pod_ip.as_deref()).ok_or("it has no address")?;
    let address: IpAddr = address.parse().map_err(|_| format!("{address} is no address"))?;
    Ok(std::net::SocketAddr::new(address, port).to_string())
}
