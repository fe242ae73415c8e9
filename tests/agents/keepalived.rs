//! keepalived's own check of what is rendered; and what is said where the kernel has no IPVS.

use std::net::SocketAddr;
use std::process::Command;

use crate::bed::{Tidegate, WorkDir, poll, require_gateways, wait_until};
use crate::support::{Origin, SOON, sample, tidegate};

const POOL: &str = "vm/shop";

fn at(last: u8) -> SocketAddr {
    SocketAddr::from(([10, 0, 0, last], 80))
}

fn agent_file(files: &WorkDir, server: SocketAddr, drain_seconds: u32) -> String {
    let directory = files.path().display().to_string();
    let text = sample(
        "keepalived/agent.toml",
        &[
            ("http://127.0.0.1:8500", &format!("http://{server}")),
            ("/etc/keepalived", &directory),
            ("/var/lib/tidegate", &directory),
            (
                "[\"systemctl\", \"reload\", \"keepalived\"]",
                &format!("[\"sh\", \"-c\", \"echo reload >> {directory}/reloads\"]"),
            ),
            ("drain_seconds = 30", &format!("drain_seconds = {drain_seconds}")),
            ("east/shop/checkout/http", POOL),
        ],
    );
    // A second one, without a sorry server.
    let second = format!("\n[[virtual_server]]\naddress = \"10.9.9.8\"\nport = 80\npool = \"{POOL}\"\n");
    files.write("agent.toml", text + &second).display().to_string()
}

/// The weight of a real server in the file; `None` without it.
fn weight(text: &str, real: SocketAddr) -> Option<u32> {
    let block = text.split_once(&format!("real_server {} {} {{", real.ip(), real.port()))?.1;
    block.lines().find_map(|line| line.trim().strip_prefix("weight ")?.parse().ok())
}

#[test]
fn keepalived_takes_what_is_rendered_and_a_server_that_is_gone_has_no_weight_before_it_goes() {
    require_gateways();
    let origin = Origin::start(&[(POOL, vec![at(1), at(2)])]);
    let files = WorkDir::new("keepalived");
    let _agent = tidegate(&["sync", "keepalived", "--config", &agent_file(&files, origin.address, 3)], &files, "agent");
    let path = files.path().join("tidegate.conf");
    let text = || std::fs::read_to_string(&path).unwrap_or_default();
    let wait = |what: &str, condition: &dyn Fn(&str) -> bool| {
        let found = poll(SOON, || Some(text()).filter(|text| condition(text)));
        found.unwrap_or_else(|| panic!("no {what} in\n{}", text()))
    };
    wait("two real servers", &|text| weight(text, at(1)) == Some(256) && weight(text, at(2)) == Some(256));
    origin.wait_served("lvs-1", POOL, 2);
    origin.set(&[(POOL, vec![at(1)])]);
    wait("weight 0", &|text| weight(text, at(2)) == Some(0));
    wait("removal", &|text| weight(text, at(2)).is_none() && weight(text, at(1)) == Some(256));
    origin.set(&[(POOL, vec![])]);
    // The last one finishes what it has, beside the sorry server.
    wait("the sorry server", &|text| weight(text, at(1)) == Some(0) && weight(text, at(9)) == Some(1));
    wait("an empty pool", &|text| weight(text, at(1)).is_none() && weight(text, at(9)) == Some(1));
    assert!(text().contains("192.0.2.255"), "without a sorry server nobody is there:\n{}", text());
    origin.wait_served("lvs-1", POOL, 0);
    let check = |path: &std::path::Path| Command::new("keepalived").arg("-t").arg("-f").arg(path).output().unwrap();
    let checked = check(&path);
    assert!(checked.status.success(), "{}", String::from_utf8_lossy(&checked.stderr));
    // The check is one: keepalived refuses what is no configuration.
    let bad = files.write("bad.conf", text().replace("real_server", "reel_server"));
    assert!(!check(&bad).status.success());
    let reloads = std::fs::read_to_string(files.path().join("reloads")).unwrap();
    assert!((4..=6).contains(&reloads.lines().count()), "{reloads}");
}

#[test]
fn without_ipvs_in_the_kernel_it_is_said_with_the_remedy() {
    let loaded = std::path::Path::new("/proc/net/ip_vs").exists();
    let origin = Origin::start(&[(POOL, vec![at(1)])]);
    let files = WorkDir::new("ipvs");
    let config = agent_file(&files, origin.address, 3);
    if loaded {
        // Where there is one, it is left alone: this machine's virtual servers are somebody's.
        return assert!(Tidegate::run_to_end(&["sync", "ipvs", "--help"]).status.success());
    }
    let output = Tidegate::run_to_end(&["sync", "ipvs", "--config", &config]);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.code() == Some(1) && said.contains("modprobe ip_vs"), "{said}");
    wait_until(SOON, "no gateway that fed nothing", || origin.gateway("lvs-1").is_null());
}
