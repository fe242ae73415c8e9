//! New services without a hand edit, and whose a host is.

use std::time::Duration;

use serde_json::{Value, json};

use crate::backend::Backend;
use crate::bed::{http, poll, wait_until};
use crate::envoy::{self, Envoy, ask, wait_status};
use crate::gateway::Gateway;
use crate::kube::Cluster;
use crate::kube::objects::{service_path, slice};
use crate::nginx::Nginx;
use crate::plane::{Plane, SOON, pool_file};

fn service(namespace: &str, name: &str, hosts: &str) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Service",
        "metadata": {"name": name, "namespace": namespace, "labels": {"tidegate.dev/hosts": "true"},
            "annotations": {"tidegate.dev/hosts": hosts}},
        "spec": {"ports": [{"name": "http", "port": 80, "targetPort": "http"}]},
    })
}

/// A service with one back end at this address.
fn serve(namespace: &str, name: &str, hosts: &str, address: [u8; 4]) -> Backend {
    let backend = Backend::start(address, 8080);
    let ports = json!([{"name": "http", "port": 8080, "protocol": "TCP"}]);
    let client = Cluster::shared(0).client();
    client.create(&slice(namespace, name, name, &json!([{"addresses": [backend.address.ip()]}]), &ports));
    client.create(&service(namespace, name, hosts));
    backend
}

/// `HOST PATH POOL` of each host, and `HOST TAKEN_BY` of each conflict.
fn hosts(plane: &Plane) -> (Vec<String>, Vec<String>) {
    let body = plane.json("/v1/hosts");
    let text = |it: &Value| it.as_str().unwrap().to_owned();
    let host = |it: &Value| format!("{} {} {}", text(&it["host"]), text(&it["path_prefix"]), text(&it["pool"]));
    let conflict = |it: &Value| format!("{} {}", text(&it["host"]), text(&it["taken_by"]));
    let list = |name: &str| body[name].as_array().unwrap().clone();
    (list("hosts").iter().map(host).collect(), list("conflicts").iter().map(conflict).collect())
}

#[test]
fn a_new_service_with_hosts_is_reached_through_nginx_and_envoy_without_an_edit() {
    let cluster = Cluster::shared(0);
    let (shop, thief) = (cluster.namespace("shop"), cluster.namespace("thief"));
    let (keys, listener) = envoy::listener();
    let plane = Plane::over(cluster, &keys);
    let nginx = Nginx::start(&[plane.address]);
    let (delta, whole) = (Envoy::start(plane.address, listener, "DELTA_GRPC"), "GRPC");
    let both: [&dyn Gateway; 2] = [&nginx, &delta];
    both.iter().for_each(|gateway| wait_status(*gateway, "new.example", "/", 404));

    let web = serve(&shop, "web", "new.example *.new.example", [10, 244, 70, 1]);
    let api = serve(&shop, "api", "new.example/api", [10, 244, 70, 2]);
    for gateway in both {
        for (host, path, backend) in [
            ("new.example", "/", &web),
            ("NEW.example:8080", "/apix", &web),
            ("a.b.new.example", "/x", &web),
            ("new.example", "/api", &api),
            ("new.example", "/api/x?y", &api),
        ] {
            let mut last = None;
            let reached = poll(SOON, || {
                last = Some(ask(gateway, host, path));
                (last.as_ref()?.0 == 200 && last.as_ref()?.1.starts_with(&backend.name())).then_some(())
            });
            reached.unwrap_or_else(|| panic!("{host}{path}: {last:?}\n{}", gateway.log()));
        }
        assert_eq!(ask(gateway, "other.example", "/").0, 404);
    }

    // A host that is taken stays whose it is, and the conflict is to be seen.
    let _stolen = serve(&thief, "web", "new.example own.example", [10, 244, 70, 3]);
    both.iter().for_each(|gateway| wait_status(*gateway, "own.example", "/", 200));
    let (granted, conflicts) = hosts(&plane);
    assert!(granted.contains(&format!("new.example / east/{shop}/web/http")), "{granted:?}");
    assert!(conflicts.contains(&format!("new.example {shop}")), "{conflicts:?}");
    assert!(plane.tidegate.metric("tidegate_discovery_host_conflicts") >= 1.0);
    both.iter().for_each(|gateway| assert!(ask(*gateway, "new.example", "/").1.starts_with(&web.name())));

    // Given up, it goes to who waits for it; the service without hosts is reached no more.
    cluster.client().patch(&service_path(&shop, "web"), &json!({"metadata": {"labels": {"tidegate.dev/hosts": null}}}));
    cluster.client().delete(&service_path(&shop, "api"));
    for gateway in both {
        wait_status(gateway, "a.b.new.example", "/", 404);
        let mut last = None;
        let moved = poll(SOON, || {
            last = Some(ask(gateway, "new.example", "/api").1);
            last.as_ref()?.starts_with("10.244.70.3").then_some(())
        });
        moved.unwrap_or_else(|| panic!("{last:?}"));
    }
    assert_eq!((delta.stat("update_rejected"), delta.stat("listener_create_failure")), (0, 0), "{}", delta.log());
    let dump = delta.dump().to_string();
    assert!(dump.contains("\"ignore_port_in_host_matching\":true") && dump.contains("websocket"), "{dump}");
    assert!(dump.contains("previous_hosts") && dump.contains("\"use_remote_address\":true"), "{dump}");
    // The other protocol has the same. One Envoy at a time: there is one listener.
    drop(delta);
    let whole = Envoy::start(plane.address, listener, whole);
    whole.wait_status("own.example", "/", 200);
    whole.wait_status("a.b.new.example", "/", 404);
    assert_eq!(whole.stat("update_rejected"), 0, "{}", whole.log());
}

#[test]
fn hosts_are_waited_for_and_reach_a_relay_and_a_service_scaled_to_zero_is_unavailable_and_not_unknown() {
    crate::kube::enter();
    let backend = Backend::start([127, 0, 0, 1], crate::bed::free_port());
    let plane = Plane::over_file(&pool_file("vm/web", "web.example", &[&backend]), "");
    let first = http::get(plane.address, "/v1/hosts").unwrap();
    let tag = first.header("etag").unwrap().to_owned();
    let address = plane.address;
    let waiting = std::thread::spawn(move || {
        http::get_with(address, "/v1/hosts?wait=60s", &format!("If-None-Match: {tag}\r\n")).unwrap()
    });
    let hub = format!("[[discovery.source]]\nkind = \"hub\"\nurl = [\"http://{address}\"]\n");
    let relay = Plane::over_file("[[pool]]\nid = \"own\"\nendpoints = []\n", &hub);
    wait_until(SOON, "the hub's hosts", || hosts(&relay).0 == ["web.example / vm/web"]);
    let nginx = Nginx::start(&[relay.address]);
    wait_status(&nginx, "web.example", "/", 200);

    let empty = pool_file("vm/web", "web.example", &[]);
    plane.write(&format!("{empty}[[pool]]\nid = \"vm/b\"\nhosts = [\"b.example\"]\nendpoints = []\n"));
    wait_status(&nginx, "web.example", "/", 503);
    wait_status(&nginx, "b.example", "/", 503);
    wait_until(Duration::from_secs(30), "the answer of who waited", || waiting.is_finished());
    assert!(waiting.join().unwrap().text().contains("b.example"));
    assert_eq!(ask(&nginx, "c.example", "/").0, 404);
}
