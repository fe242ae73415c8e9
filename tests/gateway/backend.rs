//! Back ends: instances of the Go program in `backend/`, and its load commands.

use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpStream};
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use serde_json::Value;

use crate::bed::process::Process;
use crate::bed::{WorkDir, free_port, http, require_gateway, wait_until};

/// How long a start, or an orderly end, may take.
const PATIENCE: Duration = Duration::from_secs(20);

/// One running instance; it is killed when this value goes.
pub(crate) struct Backend {
    pub(crate) name: String,
    /// HTTP/1.1 and h2c.
    pub(crate) http: SocketAddr,
    /// gRPC.
    pub(crate) grpc: SocketAddr,
    admin: SocketAddr,
    arguments: Vec<String>,
    process: Process,
    directory: WorkDir,
}

impl Backend {
    /// An instance on loopback.
    pub(crate) fn start(name: &str) -> Self {
        Self::start_with(name, Ipv4Addr::LOCALHOST.into(), &[])
    }

    /// An instance on an address of its own, with further arguments.
    pub(crate) fn start_with(name: &str, address: IpAddr, arguments: &[&str]) -> Self {
        let [http, grpc, admin] = [(); 3].map(|()| SocketAddr::new(address, free_port()));
        Self::start_on(name, [http, grpc, admin], arguments)
    }

    /// An instance on these addresses: HTTP, gRPC, admin.
    pub(crate) fn start_on(name: &str, [http, grpc, admin]: [SocketAddr; 3], further: &[&str]) -> Self {
        let directory = WorkDir::new("backend");
        let addresses = [("-http", http), ("-grpc", grpc), ("-admin", admin)];
        let mut arguments = vec!["serve".to_owned(), "-name".to_owned(), name.to_owned()];
        arguments.extend(addresses.iter().flat_map(|(flag, address)| [(*flag).to_owned(), address.to_string()]));
        arguments.extend(further.iter().map(|argument| (*argument).to_owned()));
        let process = launch(&arguments, &directory, name);
        let mut it = Self { name: name.to_owned(), http, grpc, admin, arguments, process, directory };
        it.wait_listening();
        it
    }

    /// Several, named `b0` and so on.
    pub(crate) fn several(count: usize) -> Vec<Self> {
        (0..count).map(|number| Self::start(&format!("b{number}"))).collect()
    }

    /// Starts it again after its end, on the same addresses.
    pub(crate) fn restart(&mut self) {
        assert!(self.process.exited().is_some(), "{} is running", self.name);
        self.process = launch(&self.arguments, &self.directory, &self.name);
        self.wait_listening();
    }

    /// Kills it.
    pub(crate) fn kill9(&mut self) {
        self.process.kill9();
    }

    /// Lets it finish what it has, and waits for its end.
    pub(crate) fn terminate(&mut self) {
        assert!(self.process.terminate(PATIENCE), "{} did not end by itself", self.name);
    }

    /// What it does from now on, as its `behaviour` in JSON; `{}` is to serve.
    pub(crate) fn behave(&self, how: &str) {
        let answer = http::request(self.admin, "POST", "/behave", "", how).expect("its admin port answers");
        assert_eq!(answer.status, 200, "{}", answer.text());
    }

    /// What it has counted.
    pub(crate) fn statistics(&self) -> Value {
        let answer = http::get(self.admin, "/stats").expect("its admin port answers");
        serde_json::from_slice(&answer.body).expect("JSON")
    }

    /// How many requests it has had, health checks left out.
    pub(crate) fn requests(&self) -> u64 {
        self.statistics()["requests"].as_u64().expect("a number")
    }

    fn wait_listening(&mut self) {
        let addresses = [self.http, self.grpc, self.admin];
        let (process, name) = (&mut self.process, &self.name);
        wait_until(PATIENCE, name, || {
            assert!(process.exited().is_none(), "{name} ended: {}", process.stderr());
            addresses.iter().all(|address| TcpStream::connect(address).is_ok())
        });
    }
}

fn program() -> PathBuf {
    require_gateway().join("backend")
}

fn launch(arguments: &[String], directory: &WorkDir, name: &str) -> Process {
    let mut command = Command::new(program());
    command.args(arguments);
    Process::start(&command, directory.path(), name)
}

/// A load command of the Go program that runs beside the test.
pub(crate) struct Load {
    process: Process,
    _directory: WorkDir,
}

impl Load {
    /// Starts `backend ARGUMENTS…`.
    pub(crate) fn start(arguments: &[&str]) -> Self {
        let directory = WorkDir::new("load");
        let mut command = Command::new(program());
        command.args(arguments);
        Self { process: Process::start(&command, directory.path(), "load"), _directory: directory }
    }

    /// Ends it in an orderly way: what has begun is finished.
    pub(crate) fn stop(&mut self) {
        self.process.signal("TERM");
    }

    /// Its result once it has ended.
    pub(crate) fn result(mut self, deadline: Duration) -> Value {
        let status = self.process.wait(deadline);
        assert!(status.success(), "the load failed: {}", self.process.stderr());
        serde_json::from_slice(&self.process.stdout()).expect("JSON")
    }
}

/// Who answered so many requests, and how: the result of `backend count`.
pub(crate) fn count(arguments: &[&str]) -> Value {
    Load::start(&[&["count"], arguments].concat()).result(Duration::from_secs(120))
}
