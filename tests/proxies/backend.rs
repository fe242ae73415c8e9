//! Back ends: a process each, which a test can end gracefully or kill, and which writes down every request before it
//! answers.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use crate::bed::process::Process;
use crate::bed::{WorkDir, wait_until};

/// A single nginx process that answers each request after a few milliseconds with its name and the length of the body.
pub(crate) struct Backend {
    pub(crate) address: SocketAddr,
    process: Process,
    begun: PathBuf,
    ended: PathBuf,
    _directory: WorkDir,
}

const CONFIG: &str = r#"
load_module /usr/lib/nginx/modules/ndk_http_module.so;
load_module /usr/lib/nginx/modules/ngx_http_lua_module.so;
user root; daemon off; master_process off; pid DIRECTORY/pid; error_log DIRECTORY/error.log warn;
events { worker_connections 2048; }
http {
    access_log off; client_body_temp_path DIRECTORY/body; proxy_temp_path DIRECTORY/p; fastcgi_temp_path DIRECTORY/f;
    uwsgi_temp_path DIRECTORY/u; scgi_temp_path DIRECTORY/s; keepalive_requests 1000000; client_body_buffer_size 64k;
    lua_package_path "/usr/share/lua/5.1/?.lua;;";
    init_worker_by_lua_block {
        begun = io.open("DIRECTORY/begun", "a"); begun:setvbuf("no")
        ended = io.open("DIRECTORY/ended", "a"); ended:setvbuf("no")
    }
    server {
        listen ADDRESS;
        location / {
            content_by_lua_block {
                local id = ngx.req.get_headers()["x-request"] or "-"
                begun:write(id .. "\n")
                ngx.req.read_body()
                ngx.sleep(0.004)
                ended:write(id .. "\n")
                local text = "ADDRESS " .. #(ngx.req.get_body_data() or "")
                ngx.header["Content-Length"] = #text
                ngx.print(text)
            }
        }
    }
}
"#;

impl Backend {
    /// Starts one and waits until it accepts.
    pub(crate) fn start(address: impl Into<IpAddr>, port: u16) -> Self {
        let mut backend = Self::spawn(address, port);
        backend.wait();
        backend
    }

    fn spawn(address: impl Into<IpAddr>, port: u16) -> Self {
        let address = SocketAddr::new(address.into(), port);
        let directory = WorkDir::new("backend");
        let home = directory.path().to_str().unwrap();
        let text = CONFIG.replace("DIRECTORY", home).replace("ADDRESS", &address.to_string());
        let config = directory.write("nginx.conf", text);
        let mut command = Command::new("nginx");
        command.arg("-c").arg(&config).arg("-e").arg(directory.path().join("error.log"));
        let process = Process::start(&command, directory.path(), "backend");
        let (begun, ended) = (directory.path().join("begun"), directory.path().join("ended"));
        Self { address, process, begun, ended, _directory: directory }
    }

    fn wait(&mut self) {
        let (process, address) = (&mut self.process, self.address);
        wait_until(Duration::from_secs(20), "a back end", || {
            assert!(process.exited().is_none(), "the back end ended: {}", process.stderr());
            TcpStream::connect(address).is_ok()
        });
    }

    /// What it calls itself in its answers.
    pub(crate) fn name(&self) -> String {
        self.address.to_string()
    }

    /// The requests that reached it, by the header `X-Request`, each as often as it came.
    pub(crate) fn begun(&self) -> Vec<String> {
        lines(&self.begun)
    }

    /// Ends it as a pod ends that finishes what it has: no new connections, idle ones closed, answers given.
    pub(crate) fn quit(mut self) {
        self.process.signal("QUIT");
        self.process.wait(Duration::from_secs(20));
    }

    /// Kills it. Gives the requests that had reached it and were not answered.
    pub(crate) fn kill9(&mut self) -> BTreeSet<String> {
        self.process.kill9();
        let mut begun: BTreeSet<String> = lines(&self.begun).into_iter().collect();
        // The last ones may have been written down as ended and not have been sent.
        let ended = lines(&self.ended);
        let sent = ended.len().saturating_sub(64);
        ended.iter().take(sent).for_each(|id| {
            begun.remove(id);
        });
        begun
    }
}

fn lines(path: &Path) -> Vec<String> {
    std::fs::read_to_string(path).unwrap_or_default().lines().map(str::to_owned).collect()
}
