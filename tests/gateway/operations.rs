//! What operators do and see: reload, shutdown, access log, metrics, readiness, refused configurations.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::time::Duration;

use serde_json::{Value, json};

use crate::backend::{Backend, Load};
use crate::bed::{Kafka, Tidegate, consume_at_least, free_port, http, unique, wait_until};
use crate::support::{SOON, Setup, endpoint};

#[test]
fn a_reload_changes_routes_and_drops_no_connection() {
    let backends = Backend::several(2);
    let mut gateway = Setup::new()
        .pool("one", &backends[..1])
        .pool("two", &backends[1..])
        .route("name = \"it\"\npool = \"one\"")
        .start();
    let url = gateway.url("");
    let kinds = ["mix", "-url", &url, "-connections", "20", "-seconds", "60", "-kinds", "get,post,stream,ws"];
    let mut load = Load::start(&kinds);
    wait_until(SOON, "load", || backends[0].requests() > 100);
    let pools = ["one", "two"];
    for turn in 0..6 {
        let (from, to) = (pools[turn % 2], pools[(turn + 1) % 2]);
        let before = backends[(turn + 1) % 2].requests();
        gateway.reload(&format!("name = \"it\"\npool = \"{from}\""), &format!("name = \"it\"\npool = \"{to}\""));
        wait_until(SOON, "requests at the other pool", || backends[(turn + 1) % 2].requests() > before + 20);
    }
    load.stop();
    let outcome = load.result(SOON);
    for (kind, result) in outcome.as_object().unwrap() {
        assert_eq!(result["failed"], 0, "{kind}: {outcome}");
    }
}

#[test]
fn a_reload_that_is_none_changes_nothing_and_says_why() {
    let backends = Backend::several(1);
    let mut gateway = Setup::over(&backends).route("name = \"it\"\npool = \"web\"").start();
    gateway.reload("pool = \"web\"", "pool = \"web\"\nno_such_key = 1");
    wait_until(SOON, "the refusal in the log", || gateway.tidegate.log().contains("no_such_key"));
    assert_eq!(gateway.curl("/", &[]).status, 200);
}

#[test]
fn a_reload_by_the_admin_address_holds_when_it_is_answered_or_says_why_not() {
    let backends = Backend::several(2);
    let mut gateway = Setup::new()
        .pool("one", &backends[..1])
        .pool("two", &backends[1..])
        .route("name = \"it\"\npool = \"one\"")
        .start();
    assert_eq!(gateway.curl("/", &[]).status, 200);
    let (status, said) = gateway.reload_now("pool = \"one\"", "pool = \"two\"");
    assert_eq!((status, &said), (200, &json!({"result": "applied", "needs_restart": []})));
    let before = backends[1].requests();
    assert_eq!(gateway.curl("/", &[]).status, 200);
    assert_eq!(backends[1].requests(), before + 1, "the very next request goes by it");
    let (status, said) = gateway.reload_now("pool = \"two\"", "pool = \"two\"\nno_such_key = 1");
    let reason = said["reason"].as_str().unwrap();
    assert!(status == 422 && said["result"] == "refused" && reason.contains("no_such_key"), "{status} {said}");
    assert_eq!(gateway.curl("/", &[]).status, 200);
    assert_eq!(backends[1].requests(), before + 2, "the one before goes on");
    let (status, said) = gateway.reload_now("\nno_such_key = 1", "");
    assert_eq!((status, &said["result"]), (200, &json!("applied")));
    let (status, said) = gateway.reload_now("threads = 1", "threads = 2");
    assert_eq!((status, &said["needs_restart"]), (200, &json!(["gateway.threads"])));
    // Whoever could be led there from elsewhere is not heard.
    let admin = gateway.tidegate.admin_addr();
    let asked = |headers: &str| http::request(admin, "POST", "/v1/reload", headers, "").unwrap().status;
    assert_eq!(asked("origin: http://evil.example\r\n"), 403);
    assert_eq!(gateway.tidegate.get("/v1/reload").status, 405);
}

#[test]
fn sigterm_finishes_what_is_under_way_and_takes_nothing_new() {
    let backends = Backend::several(1);
    let mut gateway = Setup::over(&backends).route("pool = \"web\"").start();
    let url = gateway.url("/delay/1500");
    let slow = Load::start(&["count", "-url", &url, "-n", "20", "-connections", "20"]);
    let mut idle = TcpStream::connect(gateway.address).unwrap();
    idle.set_read_timeout(Some(SOON)).unwrap();
    idle.write_all(b"GET / HTTP/1.1\r\nHost: t\r\n\r\n").unwrap();
    let mut first = [0; 16];
    idle.read_exact(&mut first).unwrap();
    wait_until(SOON, "twenty requests in flight", || backends[0].statistics()["in_flight"] == 20);
    gateway.tidegate.sigterm();
    // What is idle is closed; what is under way is answered.
    let mut rest = Vec::new();
    idle.read_to_end(&mut rest).unwrap();
    let result = slow.result(SOON);
    assert_eq!(result["statuses"]["200"].as_u64(), Some(20), "{result}");
    assert_eq!(gateway.tidegate.wait_exit(Duration::from_secs(30)).code(), Some(0));
    assert!(TcpStream::connect(gateway.address).is_err());
}

#[test]
fn what_hangs_is_cut_at_the_end_of_the_shutdowns_time() {
    let backends = Backend::several(1);
    let mut gateway =
        Setup::over(&backends).keys("shutdown_timeout_seconds = 1").route("pool = \"web\"\ntimeout_ms = 0").start();
    let url = gateway.url("/hang");
    let _hanging = Load::start(&["count", "-url", &url, "-n", "1", "-connections", "1"]);
    wait_until(SOON, "a request in flight", || backends[0].statistics()["in_flight"] == 1);
    gateway.tidegate.sigterm();
    assert_eq!(gateway.tidegate.wait_exit(SOON).code(), Some(0));
}

#[test]
fn readiness_waits_for_the_first_pools() {
    // A hub that is not there yet: nobody has told the pools.
    let hub = format!("[[discovery.source]]\nkind = \"hub\"\nurl = \"http://127.0.0.1:{}\"", free_port());
    let gateway = Setup::new().source(&hub).route("pool = \"web\"").start_unready();
    let answer = gateway.tidegate.get("/readyz/gateway");
    assert_eq!(answer.status, 503, "{}", answer.text());
    assert!(gateway.tidegate.get("/livez").status == 200);
}

#[test]
fn nobody_is_let_in_before_the_first_pools_and_another_instance_on_the_address_serves_meanwhile() {
    let backends = Backend::several(1);
    let hub_port = free_port();
    let hub = format!("[[discovery.source]]\nkind = \"hub\"\nurl = \"http://127.0.0.1:{hub_port}\"");
    let setup = || Setup::over(&backends).route("pool = \"web\"");
    let mut new = setup().source(&hub).start_unready();
    assert!(TcpStream::connect(new.address).is_err(), "the address is bound, and nobody listens");
    let old = setup().at(new.address).start();
    // Were the new one to listen as well, the system would give it about half of them.
    for _ in 0..40 {
        assert_eq!(old.curl("/", &[]).status, 200);
    }
    assert_eq!(new.tidegate.get("/readyz/gateway").status, 503);
    drop(old);
    assert!(TcpStream::connect(new.address).is_err(), "nobody is there any more");
    let _hub = Tidegate::spawn(&format!(
        "[admin]\nlisten = \"127.0.0.1:{}\"\n[discovery]\nlisten = \"127.0.0.1:{hub_port}\"\n[[discovery.pool]]\nid = \"other\"\nendpoints = []",
        free_port()
    ));
    new.wait_ready();
    assert_eq!(new.curl("/", &[]).status, 200);
}

#[test]
fn a_source_that_tells_nothing_holds_clients_up_for_a_bounded_time_alone() {
    let backends = Backend::several(1);
    let hub = format!("[[discovery.source]]\nkind = \"hub\"\nurl = \"http://127.0.0.1:{}\"", free_port());
    let gateway = Setup::over(&backends)
        .source(&hub)
        .keys("first_pools_timeout_seconds = 1")
        .route("pool = \"web\"")
        .start_unready();
    wait_until(SOON, "somebody listens", || TcpStream::connect(gateway.address).is_ok());
    assert_eq!(gateway.curl("/", &[]).status, 200, "what it knows is served");
    let answer = gateway.tidegate.get("/readyz/gateway");
    assert_eq!(answer.status, 503, "{}", answer.text());
    assert!(gateway.tidegate.log().contains("serves what it knows"), "{}", gateway.tidegate.log());
}

#[test]
fn an_address_that_is_taken_ends_the_start_at_once() {
    // Whoever has it does not share it.
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap();
    let files = crate::bed::WorkDir::new("taken");
    let config = format!(
        "[discovery]\nlisten = \"127.0.0.1:0\"\n[[discovery.source]]\nkind = \"hub\"\nurl = \"http://127.0.0.1:1\"\n\
         [gateway]\n[[gateway.listener]]\nlisten = \"{address}\"\n[[gateway.route]]\npool = \"web\"\n"
    );
    let path = files.write("tidegate.toml", config);
    let output = Tidegate::run_to_end(&["run", "--config", path.to_str().unwrap()]);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains(&address.to_string()), "{said}");
}

#[test]
fn every_request_is_a_record_of_the_access_log_in_kafka() {
    let kafka = Kafka::shared();
    let backends = Backend::several(1);
    let topic = unique("access");
    let gateway = Setup::over(&backends)
        .keys("access_log = { key = \"gateway-access\" }")
        .endpoints("empty", Vec::new())
        .route("name = \"none\"\npath = \"/none\"\npool = \"empty\"")
        .route("name = \"shop\"\npool = \"web\"")
        .section(&format!(
            "[log]\nlisten = [\"127.0.0.1:{}\"]\n[log.kafka]\nbrokers = [{:?}]\n[[log.route]]\nkey = \"gateway-access\"\ntopic = {topic:?}\n\
             create_topic = {{ partitions = 1, replication = 1 }}",
            free_port(),
            kafka.bootstrap(),
        ))
        .start();
    assert_eq!(gateway.curl("/a?b=1", &["-A", "the agent", "-d", "body"]).status, 200);
    gateway.curl("/none", &[]).assert_refused(503, "no_endpoint");
    assert_eq!(gateway.curl("/status/404", &["--http2-prior-knowledge"]).status, 404);
    let records = consume_at_least(&kafka.bootstrap(), &topic, 3, SOON);
    let records: Vec<Value> = records.iter().map(|it| serde_json::from_slice(&it.value).unwrap()).collect();
    let of =
        |path: &str| records.iter().find(|it| it["path"] == path).unwrap_or_else(|| panic!("no {path} in {records:?}"));
    let good = of("/a");
    assert_eq!(
        (&good["method"], &good["status"], &good["route"], &good["pool"], &good["protocol"], &good["user_agent"]),
        (&"POST".into(), &200.into(), &"shop".into(), &"web".into(), &"HTTP/1.1".into(), &"the agent".into())
    );
    assert_eq!(
        (&good["query"], &good["upstream"], &good["received_bytes"]),
        (&"b=1".into(), &backends[0].http.to_string().into(), &4.into())
    );
    assert!(good["duration_ms"].as_f64() > Some(0.0) && good["sent_bytes"].as_u64() > Some(100), "{good}");
    assert_eq!((&of("/none")["status"], &of("/none")["reason"]), (&503.into(), &"no_endpoint".into()));
    assert_eq!((&of("/status/404")["reason"], &of("/status/404")["protocol"]), (&"upstream".into(), &"HTTP/2".into()));
}

#[test]
fn the_gateway_never_waits_for_its_log() {
    // Kafka is nowhere, and there is room for ten records on the way to the log plane.
    let backends = Backend::several(1);
    let gateway = Setup::over(&backends)
        .keys("access_log = { key = \"gateway-access\", queue = 10 }")
        .route("pool = \"web\"")
        .section(&format!(
            "[log]\nlisten = [\"127.0.0.1:{}\"]\nmemory_limit = \"16MiB\"\n[log.kafka]\nbrokers = [\"127.0.0.1:{}\"]\n[[log.route]]\nkey = \"gateway-access\"\ntopic = \"access\"",
            free_port(),
            free_port(),
        ))
        .start();
    let url = gateway.url("/");
    let result = Load::start(&["count", "-url", &url, "-n", "3000", "-connections", "8"]).result(SOON);
    assert_eq!(result["statuses"]["200"].as_u64(), Some(3000), "{result}");
    let metric = |name: &str| gateway.tidegate.metric(&format!("tidegate_gateway_access_{name}_total"));
    wait_until(SOON, "every record is taken or dropped", || metric("records") + metric("dropped") >= 3000.0);
}

#[test]
fn debug_pools_says_what_the_gateway_thinks_how_fresh_it_is_and_why() {
    let backends = Backend::several(2);
    let gateway = Setup::over(&backends)
        .route("pool = \"web\"\nretries = 0")
        .section("[[gateway.pool]]\nid = \"web\"\noutlier = { consecutive_5xx = 1, base_ejection_time_ms = 60000, max_ejected_percent = 50 }")
        .start();
    backends[0].behave(r#"{"status": 500}"#);
    (0..6).for_each(|_| drop(gateway.curl("/", &[])));
    wait_until(SOON, "the ejection", || gateway.state_of("web", backends[0].http) == "ejected");
    assert_eq!(gateway.state_of("web", backends[1].http), "serving");
    let pool = gateway.debug_pool("web");
    let out = pool["endpoints"].as_array().unwrap().iter().find(|it| it["state"] == "ejected").unwrap();
    assert!(out["why"].as_str().is_some_and(|why| !why.is_empty()), "{pool}");
    assert_eq!(pool["sources"][0]["shards"][0]["fresh"], true, "{pool}");
}

#[test]
fn a_configuration_that_cannot_be_is_refused_with_its_line_and_the_remedy() {
    for (text, wanted) in [
        ("[[gateway.route]]\npool = \"web\"\nredirect = { scheme = \"https\" }", "pool"),
        ("[[gateway.route]]\npool = \"web\"\npath_regex = \"(\"", "path_regex"),
        ("[[gateway.route]]\npool = \"web\"\nbalancer = \"fastest\"", "balancer"),
        ("[[gateway.route]]\npool = \"web\"\nhost = \"a b\"", "host"),
        ("[[gateway.route]]\nsplit = []", "split"),
        ("[[gateway.route]]\npool = \"web\"\nunheard_of = 1", "unheard_of"),
        ("[[gateway.pool]]\nid = \"web\"\nprotocol = \"spdy\"\n[[gateway.route]]\npool = \"web\"", "protocol"),
    ] {
        let files = crate::bed::WorkDir::new("refused");
        let config = format!(
            "[discovery]\nlisten = \"127.0.0.1:0\"\n[gateway]\n[[gateway.listener]]\nlisten = \"127.0.0.1:0\"\n{text}\n"
        );
        let path = files.write("tidegate.toml", config);
        let output = Tidegate::run_to_end(&["check-config", path.to_str().unwrap()]);
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(2), "{text}: {said}");
        let named = said.lines().any(|line| line.contains(&format!("{}:", path.display())) && line.contains(wanted));
        assert!(named, "{text}: {said}");
    }
}

#[test]
fn codes_by_route_and_pool_stand_in_the_metrics() {
    let backends = Backend::several(1);
    let gateway = Setup::new()
        .endpoints("web", vec![endpoint(backends[0].http, "")])
        .route("name = \"shop\"\npool = \"web\"")
        .start();
    for code in [200, 201, 404, 500] {
        assert_eq!(gateway.curl(&format!("/status/{code}"), &[]).status, code);
    }
    for code in [200, 201, 404, 500] {
        let series = format!("tidegate_gateway_requests_total{{route=\"shop\",pool=\"web\",code=\"{code}\"}}");
        assert_eq!(
            gateway.tidegate.metrics().get(&series),
            Some(&1.0),
            "{series} in {:#?}",
            gateway.tidegate.metrics()
        );
    }
    assert_eq!(gateway.failures("upstream"), 2.0);
}
