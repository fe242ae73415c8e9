//! What hooks do, and in which order.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use axum::Router;
use axum::http::{Method, StatusCode, Uri};
use serde_json::{Value, json};
use tokio::net::TcpListener;

use super::*;
use crate::hook::serve::{Pod, router};

const HERE: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

/// A server that notes each request as `METHOD URI` and answers with these statuses in turn, the last for ever.
struct Noted {
    at: SocketAddr,
    asked: Arc<Mutex<Vec<String>>>,
}

impl Noted {
    async fn start(statuses: &[u16]) -> Self {
        let listener = TcpListener::bind((HERE, 0)).await.unwrap();
        let at = listener.local_addr().unwrap();
        Self::on(listener, at, statuses)
    }

    fn on(listener: TcpListener, at: SocketAddr, statuses: &[u16]) -> Self {
        let asked = Arc::<Mutex<Vec<String>>>::default();
        let (noted, statuses) = (asked.clone(), statuses.to_vec());
        let router = Router::new().fallback(move |method: Method, uri: Uri| async move {
            let mut noted = noted.lock().unwrap();
            noted.push(format!("{method} {uri}"));
            let status = statuses[(noted.len() - 1).min(statuses.len() - 1)];
            StatusCode::from_u16(status).unwrap()
        });
        tokio::spawn(async move { axum::serve(listener, router).await });
        Self { at, asked }
    }

    fn asked(&self) -> Vec<String> {
        self.asked.lock().unwrap().clone()
    }
}

fn hook(it: Value) -> Hook {
    serde_json::from_value(it).unwrap()
}

async fn sidecar(serving: Serving) -> SocketAddr {
    let listener = TcpListener::bind((HERE, 0)).await.unwrap();
    let at = listener.local_addr().unwrap();
    let pod = Arc::new(Pod::new(serving, HERE));
    let service = router(&pod).into_make_service_with_connect_info::<SocketAddr>();
    tokio::spawn(async move { axum::serve(listener, service).await });
    tokio::spawn(async move { pod.bring_online().await });
    at
}

async fn asked(at: SocketAddr, path: &str) -> (u16, String) {
    let fetcher = Fetcher::new(&format!("http://{at}"), &Credentials::default()).unwrap();
    let answer = fetcher.get(path, &[], Duration::from_secs(30)).await.unwrap();
    (answer.status.as_u16(), String::from_utf8(answer.body.to_vec()).unwrap())
}

/// Asks until it says this.
async fn until(at: SocketAddr, status: u16, said: &str) {
    let reached = async {
        loop {
            let (now, text) = asked(at, "/online").await;
            if now == status && text.contains(said) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    let reached = tokio::time::timeout(Duration::from_secs(20), reached).await;
    assert!(reached.is_ok(), "never {status} {said:?}");
}

#[tokio::test]
async fn a_request_is_tried_again_until_it_is_answered_well_or_its_time_is_over() {
    let server = Noted::start(&[503, 200]).await;
    let url = format!("http://{}/warm?x=1", server.at);
    attempt::hook("beforeStart", &hook(json!({"http": {"url": url, "method": "PUT"}}))).await.unwrap();
    assert_eq!(server.asked(), ["PUT /warm?x=1", "PUT /warm?x=1"]);
    let server = Noted::start(&[500]).await;
    let url = format!("http://{}", server.at);
    let failed = attempt::hook("beforeStart", &hook(json!({"http": {"url": url}, "timeoutSeconds": 1}))).await;
    let said = failed.unwrap_err().to_string();
    assert!(said.contains("beforeStart has not ended well within 1 s") && said.contains("answered 500"), "{said}");
    assert_eq!(server.asked()[0], "POST /");
}

#[tokio::test]
async fn a_command_is_its_status_and_what_it_says_and_one_that_hangs_is_ended() {
    attempt::hook("beforeStart", &hook(json!({"command": ["sh", "-c", "exit 0"]}))).await.unwrap();
    let failing = hook(json!({"command": ["sh", "-c", "echo no database; exit 3"], "timeoutSeconds": 1}));
    let said = attempt::hook("beforeStart", &failing).await.unwrap_err().to_string();
    assert!(said.contains("no database"), "{said}");
    let began = Instant::now();
    let hangs = hook(json!({"command": ["sleep", "60"], "timeoutSeconds": 1}));
    attempt::hook("beforeStart", &hangs).await.unwrap_err();
    assert!(began.elapsed() < Duration::from_secs(20), "{:?}", began.elapsed());
}

#[tokio::test]
async fn a_pod_is_online_only_after_its_port_accepts_and_its_hook_has_ended_well() {
    // A port that nobody has, until the application does.
    let taken = TcpListener::bind((HERE, 0)).await.unwrap();
    let app = taken.local_addr().unwrap();
    drop(taken);
    let warm = Noted::start(&[503, 503, 204]).await;
    let online = Some(hook(json!({"http": {"url": format!("http://{}/warm", warm.at)}})));
    let at = sidecar(Serving { app_port: Some(app.port()), online, ..Serving::default() }).await;
    until(at, 503, "accepts no connection yet").await;
    assert_eq!(warm.asked().len(), 0, "the hook came before the application");
    let listener = TcpListener::bind(app).await.unwrap();
    until(at, 503, "beforeOnline has not ended").await;
    until(at, 200, "online").await;
    assert_eq!(warm.asked().len(), 3);
    drop(listener);
}

#[tokio::test]
async fn before_a_pod_is_offline_it_leaves_the_ring_once_and_then_waits_two_refresh_periods() {
    let (away, ring) = (Noted::start(&[500]).await, Noted::start(&[200]).await);
    let urls = [&away, &ring].map(|it| format!("http://{}/eureka/", it.at));
    let offline = json!({"eureka": {"urls": urls, "app": "SHOP", "instance": "pod-1"}, "refreshSeconds": 1});
    let at = sidecar(Serving { offline: serde_json::from_value(offline).unwrap(), ..Serving::default() }).await;
    // The preStop of an application's container may come first, and begins nothing.
    let waits = tokio::spawn(async move {
        asked(at, "/offline").await;
        Instant::now()
    });
    until(at, 200, "online").await;
    assert!(!waits.is_finished() && ring.asked().is_empty(), "who only waits has begun it");
    let began = Instant::now();
    let (one, other) = tokio::join!(super::offline(at), super::offline(at));
    one.and(other).unwrap();
    assert!(began.elapsed() >= Duration::from_secs(2), "{:?}", began.elapsed());
    assert!(waits.await.unwrap().duration_since(began) >= Duration::from_secs(2));
    assert_eq!(ring.asked(), ["PUT /eureka/apps/SHOP/pod-1/status?value=OUT_OF_SERVICE"]);
    assert_eq!(away.asked().len(), 1);
}

#[tokio::test]
async fn a_pod_that_cannot_leave_goes_all_the_same() {
    let offline = json!({"http": {"url": "http://127.0.0.1:1/leave"}, "timeoutSeconds": 1, "refreshSeconds": 0});
    let at = sidecar(Serving { offline: serde_json::from_value(offline).unwrap(), ..Serving::default() }).await;
    super::offline(at).await.unwrap();
}

#[test]
fn the_address_of_a_pod_stands_in_brackets_where_it_is_one_of_ipv6_and_nothing_else_does() {
    let of = |pod: &str, url: &str| attempt::bracketed(url, pod.parse().ok()).into_owned();
    for (pod, url, asked) in [
        ("fd00:10::5", "http://fd00:10::5:8080/warm?x=1", "http://[fd00:10::5]:8080/warm?x=1"),
        ("fd00:10::5", "http://fd00:10::5/warm", "http://[fd00:10::5]/warm"),
        ("fd00:10::5", "http://fd00:10::5", "http://[fd00:10::5]"),
        ("fd00:10::5", "http://[fd00:10::5]:8080/", "http://[fd00:10::5]:8080/"),
        ("fd00:10::5", "http://fd00:10::51/", "http://fd00:10::51/"),
        ("fd00:10::5", "http://eureka:8761/fd00:10::5", "http://eureka:8761/fd00:10::5"),
        ("10.0.0.5", "http://10.0.0.5:8080/warm", "http://10.0.0.5:8080/warm"),
    ] {
        assert_eq!(of(pod, url), asked, "{pod}");
    }
    let asked: hyper::Uri = of("fd00:10::5", "http://fd00:10::5:8080/warm").parse().unwrap();
    assert_eq!((asked.host(), asked.port_u16()), (Some("[fd00:10::5]"), Some(8080)));
}
