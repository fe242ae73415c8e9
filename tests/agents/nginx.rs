//! The real nginx, without Lua, with the files of `deploy/nginx-render`.

use std::net::SocketAddr;
use std::process::Command;
use std::time::Duration;

use crate::bed::process::Process;
use crate::bed::{Tidegate, WorkDir, free_port, http, poll, require_gateways, wait_until};
use crate::load::{Killed, Load};
use crate::pods::Pod;
use crate::support::{Agent, BadServer, Badly, Origin, SOON, runtime, sample};

const POOL: &str = "vm/shop";

struct Nginx {
    process: Process,
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
        Self { process, listener, config: format!("{directory}/nginx.conf"), files }
    }

    /// What the agent is told; `server` is whom it asks.
    fn agent_text(&self, server: SocketAddr) -> String {
        let directory = self.files.path().display().to_string();
        let nginx = |word: &str| format!("[\"nginx\", \"-c\", \"{}\", {word}]", self.config);
        sample(
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
        )
    }

    fn agent(&self, server: SocketAddr) -> Agent {
        Agent::start(&["render"], self.agent_text(server), &self.files)
    }

    /// Its workers, those that are ending among them.
    fn workers(&self) -> Vec<String> {
        let id = self.process.id();
        let children = std::fs::read_to_string(format!("/proc/{id}/task/{id}/children")).unwrap_or_default();
        children.split_whitespace().map(str::to_owned).collect()
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
fn of_killed_pods_only_requests_in_flight_fail_and_whatever_becomes_of_tidegate_the_file_stays() {
    let runtime = runtime();
    let mut pods: Vec<Pod> = (0..5).map(|_| Pod::start(runtime.handle())).collect();
    // Most of what is known must be lost for an accident.
    let others = [("vm/b", vec![pods[0].address]), ("vm/c", vec![pods[1].address])];
    let pools = |pods: &[Pod]| [&[(POOL, addresses(pods))], &others[..]].concat();
    let mut origin = Origin::start(&pools(&pods));
    let mut nginx = Nginx::start();
    let mut agent = nginx.agent(origin.address);
    origin.wait_served("nginx-1", POOL, 5);
    wait_until(SOON, "workers with the pool", || http::get(nginx.listener, "/").is_ok_and(|it| it.status == 200));
    let load = Load::start(runtime.handle(), nginx.listener, "x", 100);
    let more = |answers: u64| {
        let before = load.ok();
        wait_until(SOON, "answers", || load.ok() > before + answers);
    };
    let mut killed = Killed::default();
    for _ in 0..2 {
        killed.kill(pods.pop().unwrap());
        more(300);
        origin.set(&pools(&pods));
        origin.wait_served("nginx-1", POOL, pods.len());
    }
    let (file, workers) = (nginx.rendered(), nginx.workers());
    origin.tidegate.kill9();
    // What else may be said in its place is in HAProxy's tests: the client is the same.
    for badly in [Badly::Unsynced, Badly::NoPools] {
        let server = BadServer::start(origin.address, badly);
        server.wait_asked();
        more(50);
    }
    // It ends, and begins while no Tidegate answers: it makes the same file of what it kept, and reloads nothing.
    agent.process.terminate(Duration::from_secs(10));
    agent = nginx.agent(origin.address);
    wait_until(SOON, "a ready agent", || agent.is_ready());
    assert_eq!(nginx.rendered(), file);
    assert!(nginx.workers().iter().all(|it| workers.contains(it)), "nothing was reloaded");
    // nginx itself is reloaded meanwhile: the file is all that it needs.
    nginx.process.signal("HUP");
    wait_until(SOON, "new workers", || nginx.workers().iter().all(|it| !workers.contains(it)));
    more(200);
    pods.push(Pod::start(runtime.handle()));
    origin.set(&pools(&pods));
    origin.tidegate.relaunch();
    origin.wait_served("nginx-1", POOL, pods.len());
    wait_until(SOON, "an answer of the new pod", || load.times(pods[pods.len() - 1].address).is_some());
    let tally = load.stop();
    killed.assert_explains(&tally);
    // A scale to zero is meant, also when it is told after a gap.
    origin.tidegate.kill9();
    origin.set(&[&[(POOL, vec![])], &others[..]].concat());
    origin.tidegate.relaunch();
    origin.wait_served("nginx-1", POOL, 0);
    assert!(nginx.rendered().contains("# nginx refuses a block without servers"), "{}", nginx.rendered());
}

#[test]
fn a_reload_takes_what_is_good_and_refuses_what_is_not_while_the_gateway_keeps_what_it_has() {
    let at = |last: u8| SocketAddr::from(([10, 0, 0, last], 80));
    let origins = [1, 2].map(|last| Origin::start(&[(POOL, vec![at(last)])]));
    let nginx = Nginx::start();
    let away = SocketAddr::from(([127, 0, 0, 1], free_port()));
    let mut agent = nginx.agent(away);
    wait_until(SOON, "an agent", || http::get(agent.admin, "/livez").is_ok_and(|it| it.status == 200));
    assert!(!agent.is_ready(), "it has no pools yet");
    agent.reload(nginx.agent_text(origins[0].address), &nginx.files);
    wait_until(SOON, "a ready agent", || agent.is_ready());
    assert!(nginx.rendered().contains("10.0.0.1:80"));
    // A key that there is not, a template that is none: what was goes on.
    let template = nginx.files.path().join("tidegate.conf.j2");
    let good = std::fs::read_to_string(&template).unwrap();
    for (config, text) in [("[no_such_section]\n", &*good), ("", "{% for %}")] {
        std::fs::write(&template, text).unwrap();
        let refused = agent.metric("tidegate_config_reloads_total");
        agent.reload(nginx.agent_text(origins[1].address) + config, &nginx.files);
        wait_until(SOON, "a refusal", || agent.metric("tidegate_config_reloads_total") > refused);
        assert_eq!(agent.metric("tidegate_config_stale"), 1.0, "{}", agent.process.stderr());
        assert!(agent.is_ready() && nginx.rendered().contains("10.0.0.1:80"));
    }
    origins[0].set(&[(POOL, vec![at(1), at(3)])]);
    wait_until(SOON, "a change by the configuration of before", || nginx.rendered().contains("10.0.0.3:80"));
    std::fs::write(&template, format!("# another template\n{good}")).unwrap();
    agent.reload(nginx.agent_text(origins[1].address), &nginx.files);
    wait_until(SOON, "the other server's pools", || nginx.rendered().contains("10.0.0.2:80"));
    let rendered = nginx.rendered();
    assert!(rendered.starts_with("# another template") && !rendered.contains("10.0.0.1:80"), "{rendered}");
    assert_eq!(agent.metric("tidegate_config_stale"), 0.0);
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
    origin.wait_published(POOL, 2);
    let agent = nginx.agent(origin.address);
    let error = || origin.gateway("nginx-1")["error"].as_str().map(str::to_owned);
    let said = poll(SOON, || error().filter(|error| error.contains("no_such_directive")));
    assert!(said.is_some(), "{:?}\n{}", error(), agent.process.stderr());
    assert_eq!(nginx.rendered(), good);
    // `tidegate gateways` names it, with the reason.
    let server = format!("http://{}", origin.address);
    let output = Tidegate::run_to_end(&["gateways", "--lagging", "--server", &server]);
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(
        output.status.code() == Some(1) && text.contains("nginx-1") && text.contains("no_such_directive"),
        "{text}"
    );
    // Asked for one pool, only of those that serve it.
    for (pool, code, named) in [(POOL, 1, true), ("vm/nobodys", 0, false)] {
        let output = Tidegate::run_to_end(&["gateways", "--pool", pool, "--server", &server]);
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(output.status.code() == Some(code) && text.contains("nginx-1") == named, "{pool}: {text}");
    }
    let load = Load::start(runtime.handle(), nginx.listener, "x", 20);
    wait_until(SOON, "answers", || load.ok() > 50);
    assert!(load.stop().failures.is_empty(), "traffic goes on");
    assert_eq!(origin.gateway("nginx-1")["pools"][POOL]["current"], false, "what is not used is not acknowledged");
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
