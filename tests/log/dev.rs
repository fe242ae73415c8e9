//! `tidegate dev` as a newcomer meets it. (`tests/terminal.rs` has its addresses, its end, and `tidegate tail`.)

use crate::bed::process::Process;
use crate::bed::{Reply, RespClient, WorkDir, http, wait_for, wait_until};
use crate::support::SOON;
use std::net::SocketAddr;
use std::process::Command;
use std::time::{Duration, Instant};

fn lines(process: &Process) -> Vec<String> {
    String::from_utf8_lossy(&process.stdout()).lines().map(str::to_owned).collect()
}

/// The rest of the line that begins so.
fn line<'l>(lines: &'l [String], start: &str) -> &'l str {
    let found = lines.iter().find_map(|line| line.strip_prefix(start));
    found.unwrap_or_else(|| panic!("no line begins with {start:?}: {lines:?}"))
}

#[test]
fn the_printed_lines_work_as_pasted_and_the_live_view_shows_the_record() {
    crate::bed::require();
    let directory = WorkDir::new("dev");
    let mut command = Command::new(env!("CARGO_BIN_EXE_tidegate"));
    command.arg("dev");
    let begun = Instant::now();
    let mut dev = Process::start(&command, directory.path(), "dev");
    let printed =
        wait_for(SOON, "ready", || Some(lines(&dev)).filter(|lines| lines.iter().any(|line| line == "ready")));
    let took = begun.elapsed();
    assert!(took < Duration::from_secs(2), "ready after {took:?}");
    let redis: SocketAddr = line(&printed, "redis  redis://").parse().unwrap();
    let admin: SocketAddr = line(&printed, "admin  http://").parse().unwrap();
    let _: SocketAddr = line(&printed, "kafka  ").parse().unwrap();

    let paste = printed.iter().find(|line| line.starts_with("redis-cli ")).expect("a line to paste");
    let output = Command::new("sh").args(["-c", paste]).output().unwrap();
    assert_eq!((output.status.code(), output.stdout.as_slice()), (Some(0), b"1\n".as_slice()), "{output:?}");
    wait_until(SOON, "the record in the live view", || {
        lines(&dev).iter().any(|line| line.contains("logs.app-demo/") && line.ends_with(r#" {"msg":"hello"}"#))
    });
    assert!(printed.iter().any(|line| line.contains("config/try/README.md")), "{printed:?}");
    let mut client = RespClient::connect(redis);
    assert_eq!(client.command(["LPUSH", "another", "line two"]), Reply::Integer(1));
    wait_until(SOON, "the second record", || lines(&dev).iter().any(|line| line.ends_with(" line two")));
    wait_until(SOON, "readiness", || http::get(admin, "/readyz").is_ok_and(|answer| answer.status == 200));

    let pools: SocketAddr = line(&printed, "pools  http://").parse().unwrap();
    assert!(printed.contains(&format!("curl http://{pools}/v1/pools/demo")), "{printed:?}");
    let demo: serde_json::Value = serde_json::from_slice(&http::get(pools, "/v1/pools/demo").unwrap().body).unwrap();
    let endpoints = demo["endpoints"].as_array().unwrap();
    assert_eq!(endpoints.len(), 2, "{demo}");
    for endpoint in endpoints {
        let address = format!("{}:{}", endpoint["address"].as_str().unwrap(), endpoint["port"]);
        let answer = http::get(address.parse().unwrap(), "/").unwrap();
        assert!(answer.text().starts_with("back end "), "{}", answer.text());
    }

    let begun = Instant::now();
    dev.signal("INT");
    let status = dev.wait(SOON);
    assert_eq!(status.code(), Some(0), "{}", dev.stderr());
    assert!(begun.elapsed() < Duration::from_secs(1), "{:?}", begun.elapsed());
    client.expect_close();
    assert!(!dev.stderr().contains("ERROR"), "{}", dev.stderr());
}
