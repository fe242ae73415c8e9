//! Gates: nothing gets traffic before every pod, a webhook and Prometheus have said yes.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener};
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use serde_json::{Value, json};

use crate::bed::process::Process;
use crate::bed::{WorkDir, free_port, http, poll, unique, wait_until};
use crate::pods::Pods;
use crate::support::{SOON, Stage, path, template};

/// Somebody who is asked, and answers as told.
struct Hook {
    address: SocketAddr,
    answer: Arc<Mutex<&'static str>>,
    asked: Arc<Mutex<Vec<Value>>>,
}

// === impl Hook ===

impl Hook {
    /// Its thread ends with the test process.
    fn start(answer: &'static str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let (answer, asked) = (Arc::new(Mutex::new(answer)), Arc::<Mutex<Vec<Value>>>::default());
        std::thread::spawn({
            let (answer, asked) = (Arc::clone(&answer), Arc::clone(&asked));
            move || {
                for mut stream in listener.incoming().map_while(Result::ok) {
                    let (mut request, mut chunk) = (Vec::new(), [0; 4096]);
                    // A whole request ends with the body's last brace.
                    while !request.ends_with(b"}") {
                        match stream.read(&mut chunk) {
                            Ok(read) if read > 0 => request.extend_from_slice(&chunk[..read]),
                            _ => break,
                        }
                    }
                    let text = String::from_utf8_lossy(&request).into_owned();
                    if let Some((_, body)) = text.split_once("\r\n\r\n") {
                        asked.lock().unwrap().push(serde_json::from_str(body).unwrap());
                    }
                    let answer = *answer.lock().unwrap();
                    let _ = write!(stream, "HTTP/1.1 {answer}");
                }
            }
        });
        Self { address, answer, asked }
    }

    fn answers(&self, answer: &'static str) {
        *self.answer.lock().unwrap() = answer;
    }
}

/// Debian's Prometheus, which scrapes one server each second.
fn prometheus(files: &WorkDir, scraped: SocketAddr) -> (Process, u16) {
    let port = free_port();
    let config = files.write(
        "prometheus.yml",
        format!(
            "global: {{scrape_interval: 1s}}\nscrape_configs:\n\
             - {{job_name: plane, static_configs: [{{targets: [\"{scraped}\"]}}]}}\n"
        ),
    );
    let mut command = Command::new("prometheus");
    command.arg(format!("--config.file={}", config.display()));
    command.arg(format!("--storage.tsdb.path={}", files.path().join("tsdb").display()));
    command.arg(format!("--web.listen-address=127.0.0.1:{port}"));
    let process = Process::start(&command, files.path(), "prometheus");
    let address = SocketAddr::from(([127, 0, 0, 1], port));
    wait_until(SOON, "Prometheus", || http::get(address, "/-/ready").is_ok_and(|answer| answer.status == 200));
    (process, port)
}

#[test]
fn nothing_gets_traffic_before_its_pods_a_webhook_and_prometheus_have_said_yes() {
    const YES: &str = "200 OK\r\ncontent-length: 0\r\nconnection: close\r\n\r\n";
    const LATER: &str = "202 Accepted\r\ncontent-length: 0\r\nconnection: close\r\n\r\n";
    const NO: &str = "403 Forbidden\r\ncontent-length: 14\r\nconnection: close\r\n\r\nnot on Fridays";
    let (stage, files) = (Stage::new(), WorkDir::new("gates"));
    let (_prometheus, port) = prometheus(&files, stage.plane.admin_addr());
    let keys = format!("prometheus = \"http://127.0.0.1:{port}\"\negress_allow = [\"127.0.0.1\"]");
    let _control = stage.control_over(&stage.cluster.kubeconfig(), &keys);
    let hook = Hook::start(LATER);
    let _pods = Pods::serve(&stage);
    stage.create_app("web", 2, &json!({"blueGreen": {"scaleDownDelaySeconds": 0}}), &template());
    let gate = |query: &str, seconds: u32| {
        json!({
            "tcp": {"port": 8080},
            "webhook": {"url": format!("http://{}/may-it", hook.address), "timeoutSeconds": 600},
            "metric": {"query": query, "atLeast": 1, "timeoutSeconds": seconds},
        })
    };
    let up = "up{job=\"plane\"}";
    stage.release("web", "web-1", "web:1", &json!({"gate": gate(up, 600)}));
    let says =
        |text: &'static str| move |status: &Value| status["message"].as_str().is_some_and(|it| it.contains(text));
    stage.wait("web-1", "waiting for the webhook", says("answered 202"));
    let policy = stage.cluster.client().try_get(&path(&stage.namespace, "trafficpolicies", "web")).unwrap();
    assert!(policy.is_none(), "{policy:?}");
    hook.answers(YES);
    let first = stage.wait_phase("web-1", "Healthy")["revision"].as_str().unwrap().to_owned();
    let asked = hook.asked.lock().unwrap().last().cloned().unwrap();
    assert_eq!(
        (&asked["release"], &asked["image"], &asked["readyPods"]),
        (&json!("web-1"), &json!("web:1"), &json!(2))
    );

    // A metric that is not as it should be, for as long as the gate has.
    stage.release("web", "web-2", "web:2", &json!({"gate": gate("up{job=\"plane\"} * 0", 2)}));
    let failed = stage.wait("web-2", "failed", |status| status["failure"].is_object());
    let why = failed["failure"]["reason"].as_str().unwrap();
    assert!(why.contains("* 0 is 0, wanted at least 1"), "{why}");
    // A no is one at once.
    hook.answers(NO);
    stage.release("web", "web-3", "web:3", &json!({"gate": gate(up, 600)}));
    let failed = stage.wait("web-3", "failed", |status| status["failure"].is_object());
    assert!(failed["failure"]["reason"].as_str().unwrap().contains("not on Fridays"), "{failed:#}");
    let only: Vec<String> = stage.shares("web").into_keys().collect();
    assert_eq!(only, [format!("east/{}/web-{first}/http", stage.namespace)]);
}

/// Somebody who is asked and says nothing.
struct Silent {
    address: SocketAddr,
    asked: Arc<AtomicUsize>,
    /// Of those questions, how many whoever asked has given up.
    given_up: Arc<AtomicUsize>,
}

// === impl Silent ===

impl Silent {
    /// Its threads end with the test process.
    fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let it = Self { address: listener.local_addr().unwrap(), asked: Arc::default(), given_up: Arc::default() };
        let (asked, given_up) = (Arc::clone(&it.asked), Arc::clone(&it.given_up));
        std::thread::spawn(move || {
            for mut stream in listener.incoming().map_while(Result::ok) {
                asked.fetch_add(1, Ordering::SeqCst);
                let given_up = Arc::clone(&given_up);
                std::thread::spawn(move || {
                    let _ = std::io::copy(&mut stream, &mut std::io::sink());
                    given_up.fetch_add(1, Ordering::SeqCst);
                });
            }
        });
        it
    }

    fn is_being_asked(&self) -> bool {
        self.asked.load(Ordering::SeqCst) > self.given_up.load(Ordering::SeqCst)
    }
}

#[test]
fn a_release_whose_webhook_says_nothing_keeps_no_other_waiting() {
    let stage = Stage::new();
    let control = stage.control_over(&stage.cluster.kubeconfig(), "egress_allow = [\"127.0.0.1\"]");
    let silent = Silent::start();
    let strategy = json!({"blueGreen": {"scaleDownDelaySeconds": 0}});
    stage.create_app("slow", 1, &strategy, &template());
    stage.create_app("other", 1, &strategy, &template());
    let gate = json!({"webhook": {"url": format!("http://{}/may-it", silent.address), "timeoutSeconds": 600}});
    stage.release("slow", "slow-1", "web:1", &json!({"gate": gate}));
    let looks = || control.metric("tidegate_control_reconciles_total").unwrap();
    // Whether a change of the other App is looked at while the question is open, and not only once that is over.
    let is_looked_at = || {
        let from = looks();
        let note = json!({"metadata": {"annotations": {"look": unique("look")}}});
        stage.cluster.client().patch(&path(&stage.namespace, "apps", "other"), &note);
        poll(SOON, || (looks() > from || !silent.is_being_asked()).then_some(())).expect("a look, or an end");
        silent.is_being_asked()
    };
    // A slow machine may not get so far within one question.
    let is_free = (0..10).any(|_| {
        wait_until(SOON, "a question", || silent.is_being_asked());
        (0..3).all(|_| is_looked_at())
    });
    assert!(is_free, "no other App is looked at before who is asked has answered");
    assert_ne!(stage.status("slow-1")["phase"], "Healthy");
}

#[test]
fn a_job_is_made_once_for_a_gate_and_its_end_decides() {
    let stage = Stage::new();
    let _control = stage.control();
    stage.create_app("web", 1, &json!({"blueGreen": {"scaleDownDelaySeconds": 0}}), &template());
    let job = |state: &str, seconds: u32| {
        let template = json!({
            "metadata": {"annotations": {"bed/state": state}},
            "spec": {"terminationGracePeriodSeconds": 1, "containers": [{"name": "smoke", "image": "smoke:1"}]},
        });
        json!({"gate": {"job": {"template": template, "timeoutSeconds": seconds}}})
    };
    let jobs = || {
        let path = format!("/apis/batch/v1/namespaces/{}/jobs", stage.namespace);
        let list = stage.cluster.client().get(&path);
        let name = |it: &Value| it["metadata"]["name"].as_str().unwrap().to_owned();
        list["items"].as_array().unwrap().iter().map(name).collect::<Vec<_>>()
    };
    stage.release("web", "web-1", "web:1", &job("Succeeded", 60));
    let first = stage.wait_phase("web-1", "Healthy")["revision"].as_str().unwrap().to_owned();
    assert_eq!(jobs(), ["web-1-gate-2-0"]);

    stage.release("web", "web-2", "web:2", &job("Failed", 60));
    let failed = stage.wait("web-2", "failed", |status| status["failure"].is_object());
    let why = failed["failure"]["reason"].as_str().unwrap();
    assert!(why.contains("Job web-2-gate-2-0 failed, BackoffLimitExceeded"), "{why}");
    assert!(why.contains("its last words: connecting to db:5432 | the database refuses us"), "{why}");
    // Another try is another Job.
    stage.control_of("web-2", &json!({"retries": 1}));
    wait_until(SOON, "a second Job", || jobs().contains(&"web-2-gate-2-1".to_owned()));

    stage.release("web", "web-3", "web:3", &job("NotReady", 2));
    let failed = stage.wait("web-3", "failed", |status| status["failure"].is_object());
    assert!(failed["failure"]["reason"].as_str().unwrap().contains("DeadlineExceeded"), "{failed:#}");
    let only: Vec<String> = stage.shares("web").into_keys().collect();
    assert_eq!(only, [format!("east/{}/web-{first}/http", stage.namespace)]);
    assert_eq!(jobs().len(), 4, "{:?}", jobs());
}
