//! The real nginx, without Lua, with the files of `deploy/nginx-render`.

use std::net::SocketAddr;
use std::process::Command;
use std::time::Duration;

use crate::bed::process::Process;
use crate::bed::{Tidegate, WorkDir, free_port, http, poll, require_gateways, wait_until};
use crate::load::Load;
use crate::pods::Pod;
use crate::support::{Origin, SOON, runtime, sample, tidegate};

const POOL: &str = "vm/shop";

struct Nginx {
    _process: Process,
    listener: SocketAddr,
    files: WorkDir,
    config: String,
}

impl Nginx {
    /// Starts it with a server of its own that sends everything to the pool, and with what is rendered.
    fn start() -> Self {
        require_gateways();
        let files = WorkDir::new("nginx");
        let directory = files.path().display().to_string();
        let port = free_port();
        let config = format!(
            "pid {directory}/nginx.pid;\nerror_log {directory}/error.log notice;\nworker_processes 2;\ndaemon off;\n\
             events {{ worker_connections 2000; }}\n\
             http {{\n  access_log off;\n  client_body_temp_path {directory}/body;\n  proxy_temp_path {directory}/proxy;\n\
               fastcgi_temp_path {directory}/f;\n  uwsgi_temp_path {directory}/u;\n  scgi_temp_path {directory}/s;\n\
               include {directory}/tidegate.conf;\n\
               server {{\n    listen 127.0.0.1:{port};\n    location / {{\n      proxy_http_version 1.1;\n\
                 proxy_set_header Connection \"\";\n      proxy_pass http://vm_shop;\n    }}\n  }}\n}}\n"
        );
        files.write("nginx.conf", &config);
        // As a user begins: the upstream that the configuration names, with nothing in it yet.
        files.write("tidegate.conf", "upstream vm_shop { server 127.0.0.1:9 down; }\n");
        files.write(
            "tidegate.conf.j2",
            sample("nginx-render/tidegate.conf.j2", &[("127.0.0.1:8080", &format!("127.0.0.1:{port}"))]),
        );
        let mut command = Command::new("nginx");
        command.arg("-c").arg(files.path().join("nginx.conf"));
        let process = Process::start(&command, files.path(), "nginx");
        let listener = SocketAddr::from(([127, 0, 0, 1], port));
        wait_until(SOON, "nginx", || http::get(listener, "/").is_ok());
        Self { _process: process, listener, config: format!("{directory}/nginx.conf"), files }
    }

    fn agent_file(&self, server: SocketAddr) -> String {
        let directory = self.files.path().display().to_string();
        let nginx = |word: &str| format!("[\"nginx\", \"-c\", \"{}\", {word}]", self.config);
        let text = sample(
            "nginx-render/agent.toml",
            &[
                ("http://127.0.0.1:8500", &format!("http://{server}")),
                ("/etc/tidegate", &directory),
                ("/etc/nginx/conf.d", &directory),
                ("/var/lib/tidegate", &directory),
                ("apart_ms = 2000", "apart_ms = 500"),
                ("[\"nginx\", \"-t\", \"-q\"]", &nginx("\"-t\", \"-q\"")),
                ("[\"nginx\", \"-s\", \"reload\"]", &nginx("\"-s\", \"reload\"")),
            ],
        );
        self.files.write("agent.toml", text).display().to_string()
    }

    fn agent(&self, server: SocketAddr) -> Process {
        tidegate(&["render", "--config", &self.agent_file(server)], &self.files, "agent")
    }

    fn rendered(&self) -> String {
        std::fs::read_to_string(self.files.path().join("tidegate.conf")).unwrap_or_default()
    }
}

fn addresses(pods: &[Pod]) -> Vec<SocketAddr> {
    pods.iter().map(|pod| pod.address).collect()
}

#[test]
fn every_pod_is_replaced_and_no_request_is_lost_over_the_reloads() {
    let runtime = runtime();
    let start = || -> Vec<Pod> { (0..2).map(|_| Pod::start(runtime.handle())).collect() };
    let mut pods = start();
    let origin = Origin::start(&[(POOL, addresses(&pods))]);
    let nginx = Nginx::start();
    let _agent = nginx.agent(origin.address);
    origin.wait_served("nginx-1", POOL, 2);
    // `nginx -s reload` comes back before the new workers are there.
    wait_until(SOON, "workers with the pool", || http::get(nginx.listener, "/").is_ok_and(|it| it.status == 200));
    let load = Load::start(runtime.handle(), nginx.listener, "x", 200);
    for _ in 0..10 {
        let old = std::mem::replace(&mut pods, start());
        origin.set(&[(POOL, addresses(&pods))]);
        wait_until(SOON, "an answer of each new pod", || pods.iter().all(|pod| load.times(pod.address).is_some()));
        origin.wait_served("nginx-1", POOL, 2);
        // Workers of before the reload end when their clients' connections do; until then they may use the old pods.
        let quiet = |pod: &Pod| {
            let served = pod.served();
            poll(Duration::from_millis(300), || (pod.served() != served).then_some(())).is_none()
        };
        old.iter().for_each(|pod| wait_until(SOON, "a pod without requests", || quiet(pod)));
        old.into_iter().for_each(Pod::end);
    }
    let tally = load.stop();
    assert!(tally.failures.is_empty(), "{:?}", tally.failures);
    assert!(tally.ok > 2_000);
}

#[test]
fn what_nginx_refuses_is_not_used_and_is_said_and_the_next_good_one_is() {
    let runtime = runtime();
    let pods: Vec<Pod> = (0..2).map(|_| Pod::start(runtime.handle())).collect();
    let origin = Origin::start(&[(POOL, addresses(&pods[..1]))]);
    let nginx = Nginx::start();
    let agent = nginx.agent(origin.address);
    origin.wait_served("nginx-1", POOL, 1);
    drop(agent);
    let good = nginx.rendered();
    let template = nginx.files.path().join("tidegate.conf.j2");
    let text = std::fs::read_to_string(&template).unwrap();
    std::fs::write(&template, format!("{text}\nserver {{ no_such_directive {{{{ pools | length }}}}; }}\n")).unwrap();
    origin.set(&[(POOL, addresses(&pods))]);
    let agent = nginx.agent(origin.address);
    let error = || origin.gateway("nginx-1")["error"].as_str().map(str::to_owned);
    let said = poll(SOON, || error().filter(|error| error.contains("no_such_directive")));
    assert!(said.is_some(), "{:?}\n{}", error(), agent.stderr());
    assert_eq!(nginx.rendered(), good);
    // `tidegate gateways` names it, with the reason.
    let args = ["gateways", "--lagging", "--server", &format!("http://{}", origin.address)];
    let output = Tidegate::run_to_end(&args);
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(
        output.status.code() == Some(1) && text.contains("nginx-1") && text.contains("no_such_directive"),
        "{text}"
    );
    let load = Load::start(runtime.handle(), nginx.listener, "x", 20);
    wait_until(SOON, "answers", || load.ok() > 50);
    assert!(load.stop().failures.is_empty(), "traffic goes on");
    drop(agent);
    std::fs::write(&template, text_without(&template)).unwrap();
    let _agent = nginx.agent(origin.address);
    origin.wait_served("nginx-1", POOL, 2);
    assert!(error().is_none());
}

fn text_without(template: &std::path::Path) -> String {
    let text = std::fs::read_to_string(template).unwrap();
    text.lines().filter(|line| !line.contains("no_such_directive")).map(|line| format!("{line}\n")).collect()
}

#[test]
fn one_shot_and_dry_run_say_what_they_do_and_a_template_s_mistake_is_told_with_its_line() {
    let origin = Origin::start(&[(POOL, vec!["10.0.0.1:80".parse().unwrap()])]);
    let files = WorkDir::new("render");
    let template = files.write("t.j2", "{% for e in pool(\"vm/shop\").ready %}\n{{ e.socket }}\n{% endfor %}\n");
    let output = files.path().join("out");
    let server = format!("http://{}", origin.address);
    let run = |further: &[&str]| {
        let (template, output) = (template.display().to_string(), output.display().to_string());
        let args = ["render", "--template", &template, "--output", &output, "--server", &server];
        Tidegate::run_to_end(&[&args[..], further].concat())
    };
    let dry = run(&["--dry-run"]);
    let text = String::from_utf8_lossy(&dry.stdout).into_owned();
    assert!(dry.status.success() && text.contains("+10.0.0.1:80"), "{text}");
    assert!(!output.exists());
    let mark = files.path().join("reloaded");
    let reload = format!("touch,{}", mark.display());
    assert!(run(&["--once", "--reload", &reload]).status.success());
    assert_eq!(std::fs::read_to_string(&output).unwrap(), "10.0.0.1:80\n");
    assert!(mark.exists());
    let dry = run(&["--dry-run"]);
    assert!(String::from_utf8_lossy(&dry.stdout).contains("unchanged"));
    let failed = run(&["--once", "--check", "false"]);
    assert!(failed.status.success(), "nothing was to be done");
    files.write("t.j2", "a\n{{ poools }}\n");
    let bad = run(&["--once"]);
    let said = String::from_utf8_lossy(&bad.stderr).into_owned();
    assert!(bad.status.code() == Some(1) && said.contains("t.j2:2: unknown name poools"), "{said}");
}
