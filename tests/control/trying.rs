//! What `tidegate dev` points to, done as it is written, line by line.

use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

use crate::bed::process::Process;
use crate::bed::{WorkDir, http, poll};
use crate::support::{SOON, cluster};

/// A file of this checkout.
fn source(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

/// The lines of the first block of commands.
fn lines() -> Vec<String> {
    let text = std::fs::read_to_string(source("config/try/README.md")).unwrap();
    let block = text.split("```\n").nth(1).expect("a block of commands");
    block.lines().map(str::to_owned).collect()
}

/// What `kubectl` would do, which is not installed here.
fn kubectl(line: &str, at: &Path) {
    let client = cluster().client();
    match line {
        "kubectl config view --raw --minify --flatten > kubeconfig" => {
            std::fs::copy(cluster().kubeconfig(), at.join("kubeconfig")).map(drop).unwrap();
        }
        // The suite's cluster has them, from these very files.
        "kubectl apply -f deploy/kubernetes/crds/" => {}
        "kubectl create namespace try" => {
            let namespace = serde_json::json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "try"}});
            client.create(&namespace);
        }
        "kubectl apply -f config/try/app.yaml" => {
            let app: Value =
                serde_saphyr::from_str(&std::fs::read_to_string(source("config/try/app.yaml")).unwrap()).unwrap();
            client.create(&app);
        }
        other => panic!("the test cannot do this: {other}"),
    }
}

#[test]
fn a_deploy_against_a_cluster_is_tried_as_it_is_written() {
    let cluster = cluster();
    let files = WorkDir::new("try");
    for folder in ["config", "deploy"] {
        std::os::unix::fs::symlink(source(folder), files.path().join(folder)).unwrap();
    }
    let program = Path::new(env!("CARGO_BIN_EXE_tidegate"));
    let path = format!("{}:{}", program.parent().unwrap().display(), std::env::var("PATH").unwrap());
    let mut background = Vec::new();
    for (number, line) in lines().iter().enumerate() {
        if line.starts_with("kubectl ") {
            kubectl(line, files.path());
            continue;
        }
        let mut command = Command::new("sh");
        let alone = line.trim_end_matches('&');
        command.args(["-c", &format!("exec {alone}")]).env("PATH", &path).current_dir(files.path());
        let mut process = Process::start(&command, files.path(), &format!("line-{number}"));
        if line.ends_with('&') {
            background.push(process);
            continue;
        }
        let logs = |background: &[Process]| background.iter().map(Process::stderr).collect::<Vec<_>>().join("\n");
        let status = process.wait(3 * SOON);
        assert!(status.success(), "{line}: {}\n{}", process.stderr(), logs(&background));
    }
    let web = crate::support::path("try", "releases", "web-3");
    let back = cluster.client().get(&web);
    assert_eq!((&back["spec"]["image"], &back["status"]["phase"]), (&"nginx:1.28".into(), &"Healthy".into()));
    let mut pool = Value::Null;
    let ready = poll(SOON, || {
        let answer = http::get("127.0.0.1:8500".parse().unwrap(), "/v1/pools/app/try/web/http").ok()?;
        pool = serde_json::from_slice(&answer.body).unwrap();
        (pool["endpoints"].as_array()?.len() >= 2).then_some(())
    });
    assert!(ready.is_some(), "{pool:#}");
    cluster.client().delete("/api/v1/namespaces/try");
}
