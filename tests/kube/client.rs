//! A blocking client of an API server, for tests: objects go in and come out as JSON.

use std::cell::RefCell;
use std::path::Path;
use std::pin::pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use ::kube::Client;
use ::kube::config::{KubeConfigOptions, Kubeconfig};
use futures_util::AsyncBufReadExt as _;
use hyper::{Method, Request};
use serde_json::Value;
use tokio::runtime::Runtime;
use tokio::task::JoinHandle;

use crate::bed::poll;

/// What an API server refused, or why it could not be asked.
#[derive(Debug)]
pub struct ApiError(pub String);

/// A client of one cluster.
pub struct ApiClient {
    runtime: Runtime,
    client: Client,
    /// Tries nothing again.
    direct: Client,
}

/// A watch: the API server's own words, as they come.
pub struct Watching {
    events: Arc<Mutex<Vec<Value>>>,
    task: JoinHandle<()>,
}

/// For one request.
const PATIENCE: Duration = Duration::from_secs(20);
/// For a pod to be taken.
const POD: Duration = Duration::from_secs(60);

/// The client that a kubeconfig makes.
pub(super) async fn connect(kubeconfig: &Path) -> Client {
    connect_with(kubeconfig, true).await
}

async fn connect_with(kubeconfig: &Path, retries: bool) -> Client {
    let file = Kubeconfig::read_from(kubeconfig).expect("a kubeconfig");
    let config = ::kube::Config::from_custom_kubeconfig(file, &KubeConfigOptions::default()).await;
    let mut config = config.expect("a configuration");
    config.default_retry = retries;
    Client::try_from(config).expect("a client")
}

impl ApiClient {
    /// Its sockets belong to the network namespace of the calling thread.
    pub fn new(kubeconfig: &Path) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
        let runtime = runtime.expect("a runtime");
        let client = runtime.block_on(connect(kubeconfig));
        let direct = runtime.block_on(connect_with(kubeconfig, false));
        Self { runtime, client, direct }
    }

    /// Whether the API server says that it is ready.
    pub fn is_ready(&self) -> bool {
        self.text(Method::GET, "/readyz", "application/json", Vec::new()).is_ok_and(|text| text == "ok")
    }

    /// What stands at a path that is no object's, as `/metrics`.
    pub fn text_of(&self, path: &str) -> String {
        self.text(Method::GET, path, "text/plain", Vec::new()).unwrap_or_else(|e| panic!("GET {path}: {}", e.0))
    }

    /// The object at a path; `None` where there is none.
    pub fn try_get(&self, path: &str) -> Result<Option<Value>, ApiError> {
        match self.send(Method::GET, path, "application/json", Vec::new()) {
            Ok(value) => Ok(Some(value)),
            Err(ApiError(text)) if text.contains("NotFound") => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// The object at a path.
    pub fn get(&self, path: &str) -> Value {
        self.try_get(path).unwrap_or_else(|e| panic!("GET {path}: {}", e.0)).unwrap_or_else(|| panic!("no {path}"))
    }

    /// Creates an object and gives what became of it.
    pub fn create(&self, object: &Value) -> Value {
        self.try_create(object).unwrap_or_else(|e| panic!("{}\n{object}", e.0))
    }

    /// Creates an object, or says why it was refused.
    pub fn try_create(&self, object: &Value) -> Result<Value, ApiError> {
        self.send(Method::POST, &collection_of(object), "application/json", bytes(object))
    }

    /// Creates a pod, once its namespace has the service account that every pod has: to a new one it comes a moment later.
    pub fn create_pod(&self, pod: &Value) {
        let last = RefCell::new(String::new());
        let taken = poll(POD, || self.try_create(pod).map_err(|error| *last.borrow_mut() = error.0).ok());
        assert!(taken.is_some(), "not within {POD:?}: {}\n{pod}", last.borrow());
    }

    /// Applies a merge patch to the object at a path.
    pub fn patch(&self, path: &str, patch: &Value) -> Value {
        self.try_patch(path, patch).unwrap_or_else(|e| panic!("PATCH {path}: {}\n{patch}", e.0))
    }

    /// Applies a merge patch, or says why it was refused.
    pub fn try_patch(&self, path: &str, patch: &Value) -> Result<Value, ApiError> {
        self.send(Method::PATCH, path, "application/merge-patch+json", bytes(patch))
    }

    /// Posts to a path that is no collection, as `…/serviceaccounts/NAME/token`.
    pub fn post(&self, path: &str, object: &Value) -> Value {
        let posted = self.send(Method::POST, path, "application/json", bytes(object));
        posted.unwrap_or_else(|e| panic!("POST {path}: {}\n{object}", e.0))
    }

    /// Posts to a path once, or says why that was refused: "later" as well, which others try again.
    pub fn try_post(&self, path: &str, object: &Value) -> Result<Value, ApiError> {
        let text = self.text_by(&self.direct, Method::POST, path, "application/json", bytes(object))?;
        serde_json::from_str(&text).map_err(|e| ApiError(format!("{e}: {text}")))
    }

    /// Puts an object in place of the one at a path.
    pub fn replace(&self, path: &str, object: &Value) -> Value {
        let put = self.send(Method::PUT, path, "application/json", bytes(object));
        put.unwrap_or_else(|e| panic!("PUT {path}: {}\n{object}", e.0))
    }

    /// Watches a collection. What is there already comes first, as if it were new.
    pub fn watch(&self, path: &str) -> Watching {
        let list = self.get(path);
        let added = |object: &Value| serde_json::json!({"type": "ADDED", "object": object});
        let there = list["items"].as_array().into_iter().flatten().map(added).collect();
        let events = Arc::new(Mutex::new(there));
        let version = list["metadata"]["resourceVersion"].as_str().expect("a version");
        let uri = format!("{path}?watch=true&resourceVersion={version}");
        let (client, into) = (self.client.clone(), events.clone());
        let task = self.runtime.spawn(async move {
            let request = Request::get(&uri).body(Vec::new()).expect("a request");
            let stream = client.request_stream(request).await.expect("a watch");
            let mut lines = pin!(stream);
            let mut line = String::new();
            while lines.read_line(&mut line).await.is_ok_and(|read| read > 0) {
                lock(&into).push(serde_json::from_str(&line).expect("an event"));
                line.clear();
            }
        });
        Watching { events, task }
    }

    /// What the API server answers to a watch from this version within a second: lines, or a refusal.
    pub fn watch_from(&self, path: &str, version: &str) -> Result<String, ApiError> {
        let uri = format!("{path}?watch=true&timeoutSeconds=1&resourceVersion={version}");
        self.text(Method::GET, &uri, "application/json", Vec::new())
    }

    /// Deletes the object at a path; one that is gone already is as well.
    pub fn delete(&self, path: &str) {
        match self.send(Method::DELETE, path, "application/json", Vec::new()) {
            Ok(_) => {}
            Err(ApiError(text)) if text.contains("NotFound") => {}
            Err(error) => panic!("DELETE {path}: {}", error.0),
        }
    }

    fn send(&self, method: Method, path: &str, kind: &str, body: Vec<u8>) -> Result<Value, ApiError> {
        let text = self.text(method, path, kind, body)?;
        serde_json::from_str(&text).map_err(|e| ApiError(format!("{e}: {text}")))
    }

    fn text(&self, method: Method, path: &str, kind: &str, body: Vec<u8>) -> Result<String, ApiError> {
        self.text_by(&self.client, method, path, kind, body)
    }

    fn text_by(
        &self,
        client: &Client,
        method: Method,
        path: &str,
        kind: &str,
        body: Vec<u8>,
    ) -> Result<String, ApiError> {
        let request = Request::builder().method(method).uri(path).header("content-type", kind).body(body);
        let request = request.map_err(|e| ApiError(e.to_string()))?;
        self.runtime.block_on(async {
            match tokio::time::timeout(PATIENCE, client.request_text(request)).await {
                Ok(answer) => answer.map_err(|e| ApiError(format!("{e:?}"))),
                Err(_) => Err(ApiError(format!("no answer within {PATIENCE:?}"))),
            }
        })
    }
}

impl Watching {
    /// Whether such an event has come.
    pub fn any(&self, wanted: impl Fn(&Value) -> bool) -> bool {
        lock(&self.events).iter().any(wanted)
    }

    /// All events so far.
    pub fn events(&self) -> Vec<Value> {
        self.after(0)
    }

    /// Those so far that are wanted.
    pub fn all(&self, wanted: impl Fn(&Value) -> bool) -> Vec<Value> {
        lock(&self.events).iter().filter(|it| wanted(it)).cloned().collect()
    }

    /// Those that came after so many.
    pub fn after(&self, seen: usize) -> Vec<Value> {
        lock(&self.events).get(seen..).unwrap_or_default().to_vec()
    }
}

impl Drop for Watching {
    fn drop(&mut self) {
        self.task.abort();
    }
}

fn lock(events: &Mutex<Vec<Value>>) -> MutexGuard<'_, Vec<Value>> {
    events.lock().unwrap_or_else(PoisonError::into_inner)
}

fn bytes(value: &Value) -> Vec<u8> {
    value.to_string().into_bytes()
}

/// `/apis/GROUP/VERSION/namespaces/NAMESPACE/PLURAL` of an object.
fn collection_of(object: &Value) -> String {
    let version = object["apiVersion"].as_str().expect("apiVersion");
    let root = if version.contains('/') { "apis" } else { "api" };
    let kind = object["kind"].as_str().expect("kind").to_lowercase();
    let stem = kind.strip_suffix('y').filter(|stem| !stem.ends_with(['a', 'e', 'o', 'u']));
    let plural = match stem {
        Some(stem) => format!("{stem}ies"),
        None if kind == "endpoints" => kind,
        None if kind.ends_with("ss") => format!("{kind}es"),
        None => format!("{kind}s"),
    };
    match object["metadata"]["namespace"].as_str() {
        Some(namespace) => format!("/{root}/{version}/namespaces/{namespace}/{plural}"),
        None => format!("/{root}/{version}/{plural}"),
    }
}
