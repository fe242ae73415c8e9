//! A real browser: WebSocket, and requests to another origin, which it lets a page make only where the answers allow them.

use std::process::Command;

use crate::backend::Backend;
use crate::bed::process::Process;
use crate::bed::{WorkDir, poll};
use crate::support::{Gateway, SOON, Setup};

/// What the page does; it tells each result by a request of its own.
const PAGE: &str = r#"<script>
const told = what => fetch('/told/' + what);
const socket = new WebSocket('ws://' + location.host + '/ws', 'echo');
socket.onopen = () => socket.send('over the socket');
socket.onmessage = message => { told(message.data === 'over the socket' ? 'socket' : 'socket-changed'); socket.close(1000); };
socket.onclose = closed => told(closed.wasClean ? 'socket-closed' : 'socket-cut');
const other = 'http://localhost:' + location.port;
const ask = (path, what) => fetch(other + path, { method: 'PUT', headers: { 'X-Page': '1' }, body: 'x' })
  .then(answer => told(what + '-' + answer.status), () => told(what + '-refused'));
ask('/open/x', 'open');
ask('/closed/x', 'closed');
</script>"#;

/// Opens a page in a browser without a window; it is ended when the value goes.
fn open(gateway: &Gateway, directory: &WorkDir) -> Process {
    let mut command = Command::new("chromium");
    command.args(["--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run"]);
    command.arg(format!("--user-data-dir={}", directory.path().display()));
    // The page's name says where it listens; the other origin is the same gateway by another name.
    command.arg(gateway.url("/page"));
    Process::start(&command, directory.path(), "chromium")
}

#[test]
fn a_browser_speaks_websocket_and_asks_another_origin_where_it_may() {
    let backends = Backend::several(1);
    let setup = Setup::over(&backends);
    let address = setup.address();
    let gateway = setup
        .route(&format!("name = \"page\"\npath = \"/page\"\nrespond = {{ body = '''{PAGE}''', content_type = \"text/html\" }}"))
        .route(&format!("name = \"open\"\npath_prefix = \"/open\"\npool = \"web\"\ncors = {{ allow_origins = [\"http://{address}\"], allow_methods = [\"PUT\"] }}"))
        .route("name = \"closed\"\npath_prefix = \"/closed\"\npool = \"web\"\ncors = { allow_origins = [\"https://shop.example\"], allow_methods = [\"PUT\"] }")
        .route("name = \"rest\"\npool = \"web\"")
        .start();
    let directory = WorkDir::new("chromium");
    let browser = open(&gateway, &directory);
    let wanted = ["/told/socket", "/told/socket-closed", "/told/open-200", "/told/closed-refused"];
    let mut seen = serde_json::Value::Null;
    let told = poll(SOON, || {
        seen = backends[0].statistics()["by_path"].clone();
        wanted.iter().all(|path| seen[*path] == 1).then_some(())
    });
    assert!(told.is_some(), "{seen}\n{}\n{}", browser.stderr(), gateway.tidegate.log());
    assert_eq!(seen["/closed/x"], serde_json::Value::Null, "a request that no preflight allowed reached the back end");
}
