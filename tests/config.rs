//! The configuration file as operators meet it: what is refused is refused with its line, its key and the remedy.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "a test fails by panicking")]

use std::fs;
use std::path::Path;
use std::process::Command;

use tidegate::config::{self, ConfigError, Loaded};
use tidegate::intake::cluster::ClusterMode;
use tidegate::intake::config::Login;

/// A file that is good, to be made bad in one place.
const GOOD: &str = r#"[log]
listen = ["127.0.0.1:0"]

[log.kafka]
brokers = ["127.0.0.1:9092"]

[[log.route]]
key = "app-*"
"#;

fn parse(text: &str) -> Result<Loaded, ConfigError> {
    config::parse("t.toml", text)
}

/// The messages of a file that must be refused.
fn refusal(text: &str) -> String {
    match parse(text) {
        Ok(loaded) => panic!("accepted:\n{text}\nas:\n{}", loaded.effective),
        Err(error) => error.to_string(),
    }
}

/// The sections of a golden file: name, configuration, what is said.
fn golden(text: &str) -> impl Iterator<Item = (&str, &str, &str)> {
    text.split("\n=== ").skip(1).map(|section| {
        let (name, rest) = section.split_once('\n').unwrap();
        let (input, expected) = rest.split_once("---\n").unwrap();
        (name, input, expected.trim_end())
    })
}

#[test]
fn what_is_refused_is_refused_with_line_key_and_remedy() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/refused.golden");
    let text = fs::read_to_string(path).unwrap();
    if std::env::var_os("TIDEGATE_BLESS").is_some() {
        let head = text.split("\n=== ").next().unwrap();
        let sections = golden(&text).map(|(name, input, _)| format!("\n=== {name}\n{input}---\n{}\n", refusal(input)));
        fs::write(path, head.to_owned() + &sections.collect::<String>()).unwrap();
        return;
    }
    assert!(golden(&text).count() >= 25);
    for (name, input, expected) in golden(&text) {
        assert_eq!(refusal(input), expected, "{name}");
    }
}

#[test]
fn the_effective_configuration_is_one_that_means_the_same() {
    let first = parse(GOOD).unwrap().effective;
    assert!(first.contains("hold_ms = 2000") && first.contains("memory_limit = \"256MiB\""), "{first}");
    assert_eq!(parse(&first).unwrap().effective, first);
}

#[test]
fn the_effective_configuration_of_the_traffic_plane_means_the_same() {
    let text = r#"[discovery]
zone = "a"
hold = { max_drop_percent = 10 }
[[discovery.source]]
kind = "kubernetes"
cluster = "east"
namespaces = ["shop"]
[[discovery.source]]
kind = "file"
path = "vms.toml"
[[discovery.source]]
kind = "hub"
url = "http://hub:8500"
[[discovery.source]]
kind = "hub"
service = "tidegate/hub"
lookup = "endpointslices"
name = "relay"
[[discovery.source]]
kind = "eureka"
cluster = "ring"
url = "http://eureka:8761/eureka"
[[discovery.pool]]
id = "checkout"
members = [{ pool = "east/shop/checkout/http" }, { pool = "vm/checkout", share = 30, priority = 1 }]
[[discovery.pool]]
id = "fixed"
endpoints = [{ address = "10.0.0.1", port = 80, zone = "b" }]
"#;
    let Loaded { config, effective, .. } = parse(text).unwrap();
    assert_eq!(parse(&effective).unwrap().effective, effective);
    let traffic = config.discovery.unwrap();
    assert_eq!(traffic.endpoints.joins[0].members[0].share, 100);
    assert!(traffic.api.anonymous_reads && traffic.api.listen.ip().is_loopback(), "{effective}");
    assert_eq!(traffic.endpoints.hold.max_age.as_secs(), 600);
}

#[test]
fn the_effective_configuration_of_the_gateway_means_the_same() {
    let text = r#"[discovery]
[[discovery.pool]]
id = "a"
endpoints = [{ address = "10.0.0.1", port = 80 }]
[gateway]
name = "node-1/edge"
trusted_proxies = ["10.0.0.0/8"]
[gateway.kubernetes]
cluster = "east"
gateways = ["infra/edge"]
addresses = ["192.0.2.1", "edge.example"]
[[gateway.listener]]
listen = "127.0.0.1:0"
[[gateway.listener]]
listen = "127.0.0.1:0"
tls = {}
[[gateway.pool]]
id = "a"
max_requests = 7
adaptive_requests = { min = 5, latency_ms = 250 }
health_check = { kind = "http", path = "/up", port = 81 }
outlier = { consecutive_5xx = 9 }
[[gateway.route]]
host = "*.Shop.example"
path_regex = "/v[0-9]+/.*"
methods = ["GET"]
match = [{ header = "x-a", value = "1" }, { query = "q" }, { cookie = "c", absent = true }]
split = [{ pool = "a", share = 9 }, { pool = "b", match = { header = "x-canary", regex = "y.*" } }]
split_by = "cookie:id"
balancer = "round_robin"
rewrite = { regex = "^/v[0-9]+", replacement = "" }
retry_on = ["503"]
max_body_size = "1MiB"
mirror = { pool = "c", percent = 5 }
fallback = { status = 503, body = "no" }
request_headers = { set = { x-b = "2" }, remove = ["x-c"] }
cors = { allow_origins = ["https://*.example"], allow_methods = ["GET", "PUT"] }
rate_limit = { requests_per_second = 5, burst = 6, per = "header:x-key" }
[[gateway.route]]
name = "away"
redirect = { scheme = "https" }
[[gateway.route]]
path = "/ping"
respond = { body = "pong" }
"#;
    let Loaded { config, effective, .. } = parse(text).unwrap();
    assert_eq!(parse(&effective).unwrap().effective, effective);
    let gateway = config.gateway.unwrap();
    let pools: Vec<_> = gateway.pools.keys().map(|pool| pool.as_str()).collect();
    assert_eq!(pools, ["a", "b", "c"]);
    let kubernetes = gateway.kubernetes.unwrap();
    assert_eq!((kubernetes.ingress_class, kubernetes.write_status, kubernetes.addresses.len()), (None, true, 2));
    assert_eq!(kubernetes.gateways, [("infra".to_owned(), "edge".to_owned())]);
    // Certificates may come from the cluster alone.
    assert!(gateway.gateway.listeners[1].tls.is_some());
    let names: Vec<_> = gateway.gateway.policy.routes.iter().map(|route| &*route.name).collect();
    assert_eq!(names, ["*.shop.example~^(?:/v[0-9]+/.*)$", "away", "/ping"]);
}

#[test]
fn every_key_of_the_reference_is_one() {
    let text = include_str!("../config/reference.toml");
    let problems = parse(text).map(|_| String::new()).unwrap_or_else(|error| error.to_string());
    // Its files are not on this machine, and what depends on them is missing with them; nothing else is wrong with it.
    let other: Vec<_> =
        problems.lines().filter(|line| line.contains(": gateway") && !line.contains("cannot be read")).collect();
    assert_eq!(other, [""; 0]);
}

#[test]
fn the_effective_configuration_of_a_cluster_and_of_llen_means_the_same() {
    let lines = "listen = [\"127.0.0.1:6379\", \"127.0.0.1:26379\"]\ncluster = { service = \"tidegate/log\" }\n\
                 sentinel_port = 26379\nllen = \"lag\"\nllen_group = \"logstash\"";
    let Loaded { config, effective, .. } = parse(&GOOD.replace("listen = [\"127.0.0.1:0\"]", lines)).unwrap();
    assert_eq!(parse(&effective).unwrap().effective, effective);
    let log = config.log.unwrap();
    let ClusterMode::Service(service) = &log.intake.cluster.mode else { panic!("{:?}", log.intake.cluster) };
    assert_eq!((service.namespace.as_str(), service.service.as_str()), ("tidegate", "log"));
    assert_eq!((service.port.as_str(), &service.kubeconfig), ("redis", &None));
    assert_eq!((log.intake.cluster.sentinel_port, log.llen.as_deref()), (Some(26_379), Some("logstash")));
}

#[test]
fn secrets_come_from_files_and_are_never_shown() {
    let directory = tempfile::tempdir().unwrap();
    let file = |name: &str, content: &str| {
        let path = directory.path().join(name);
        fs::write(&path, content).unwrap();
        path.display().to_string()
    };
    let (tokens, app, sasl) = (file("tokens", "ops:geheim1\n"), file("app", "geheim2\n"), file("sasl", "geheim3\n"));
    let text = format!(
        "[admin]\nlisten = \"0.0.0.0:0\"\ntokens_file = {tokens:?}\n{}\n[[log.user]]\nname = \"app\"\npassword_file = {app:?}\n",
        GOOD.replace("127.0.0.1:0", "0.0.0.0:0").replace(
            "[[log.route]]",
            &format!("properties = {{ \"security.protocol\" = \"sasl_plaintext\", \"sasl.mechanism\" = \"PLAIN\", \"sasl.username\" = \"u\" }}\nproperties_files = {{ \"sasl.password\" = {sasl:?} }}\n\n[[log.route]]")
        )
    );
    let Loaded { config, effective, .. } = parse(&text).unwrap();
    let log = config.log.as_ref().unwrap();
    assert_eq!(config.admin.as_ref().unwrap().tokens[0].secret, "geheim1");
    assert!(log.intake.users[0].login == Login::Password("geheim2".into()));
    assert_eq!(log.kafka.properties["sasl.password"], "geheim3");
    assert!(!effective.contains("geheim"), "{effective}");
    assert_eq!(parse(&effective).unwrap().effective, effective);
}

/// Runs `check-config` on a file and returns exit code, stdout and stderr.
fn check(file: &Path) -> (Option<i32>, String, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_tidegate")).arg("check-config").arg(file).output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (output.status.code(), text(output.stdout), text(output.stderr))
}

#[test]
fn check_config_exits_with_2_and_says_where() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("bad.toml");
    fs::write(&file, GOOD.replace("app-*", "app-[")).unwrap();
    let (code, stdout, stderr) = check(&file);
    assert_eq!((code, stdout.as_str()), (Some(2), ""));
    assert!(stderr.starts_with(&format!("{}:8: log.route[0].key: \"app-[\" is no glob", file.display())), "{stderr}");
    let (code, _, stderr) = check(&directory.path().join("absent.toml"));
    assert_eq!(code, Some(2));
    assert!(stderr.contains("absent.toml: cannot be read: No such file or directory"), "{stderr}");
}

#[test]
fn every_configuration_in_the_repository_is_good() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let directory = tempfile::tempdir().unwrap();
    // What the examples expect on the machine where they run.
    let secrets = directory.path().join("secrets");
    fs::create_dir(&secrets).unwrap();
    fs::write(secrets.join("tokens"), "ops:token\n").unwrap();
    fs::write(secrets.join("app-password"), "password\n").unwrap();
    fs::write(secrets.join("hub-token"), "token\n").unwrap();
    fs::write(secrets.join("admin-tokens"), "ops:token\n").unwrap();
    fs::write(secrets.join("sasl-password"), "password\n").unwrap();
    fs::write(secrets.join("kubeconfig"), "apiVersion: v1\n").unwrap();
    let certified = rcgen::generate_simple_self_signed(vec!["tidegate".to_owned()]).unwrap();
    fs::write(secrets.join("tls.crt"), certified.cert.pem()).unwrap();
    fs::write(secrets.join("tls.key"), certified.signing_key.serialize_pem()).unwrap();
    fs::write(secrets.join("ca.crt"), certified.cert.pem()).unwrap();
    let listed = ["config", "config/try"].map(|name| fs::read_dir(root.join(name)).unwrap());
    let mut files: Vec<_> = listed.into_iter().flatten().map(|entry| entry.unwrap().path()).collect();
    files.retain(|file| file.extension().is_some_and(|extension| extension == "toml"));
    files.extend(["log-plane.yaml", "hub.yaml", "relay.yaml"].map(|name| root.join("deploy/kubernetes").join(name)));
    assert!(files.len() >= 7, "{files:?}");
    for file in files {
        let mut text = fs::read_to_string(&file).unwrap();
        if file.extension().is_some_and(|extension| extension == "yaml") {
            text = block(&text, "tidegate.toml: |");
        }
        let copy = directory.path().join("copy.toml");
        fs::write(&copy, text.replace("/etc/tidegate/secrets", secrets.to_str().unwrap())).unwrap();
        let (code, stdout, stderr) = check(&copy);
        assert_eq!(code, Some(0), "{}: {stderr}", file.display());
        assert!(["[log]", "[discovery]", "[control]"].iter().any(|plane| stdout.contains(plane)), "{}", file.display());
    }
}

/// The literal block under a key of a YAML file.
fn block(yaml: &str, key: &str) -> String {
    let mut lines = yaml.lines().skip_while(|line| !line.trim_start().starts_with(key));
    let indent = |line: &str| line.len() - line.trim_start().len();
    let outer = indent(lines.next().unwrap());
    let inside = lines.take_while(|line| line.trim().is_empty() || indent(line) > outer);
    inside.map(|line| line.strip_prefix(&" ".repeat(outer + 2)).unwrap_or("").to_owned() + "\n").collect()
}
