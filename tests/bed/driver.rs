//! Runs the client drivers of `tests/clients`.

use super::process::Process;
use super::workdir::WorkDir;
use std::ffi::OsString;
use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

/// How a driver sends its records.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// One LPUSH per record, each awaited.
    Single,
    /// The library's pipeline.
    Pipeline,
    /// Ten values per LPUSH.
    Variadic,
    /// MULTI, five LPUSH, EXEC.
    Multi,
}

impl Mode {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Single, Self::Pipeline, Self::Variadic, Self::Multi];

    fn name(self) -> &'static str {
        match self {
            Self::Single => "single",
            Self::Pipeline => "pipeline",
            Self::Variadic => "variadic",
            Self::Multi => "multi",
        }
    }
}

/// The record with this number that a driver sends for this key.
pub fn record(key: &str, seq: usize) -> Vec<u8> {
    let text = format!(r#"{{"app":"{key}","seq":{seq},"msg":"line é \"q\" \\ end"}}"#);
    let tail: &[u8] = if seq % 7 == 3 { b"\r\n\0" } else { b"" };
    [text.as_bytes(), tail].concat()
}

/// A client library's driver.
#[derive(Clone, Debug)]
pub struct Driver {
    /// The library's name, for messages.
    pub name: &'static str,
    command: Vec<OsString>,
}

/// What a driver's run came to.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// Its exit code; `None` if a signal ended it.
    pub code: Option<i32>,
    /// What it wrote to standard output.
    pub stdout: String,
    /// What it wrote to standard error.
    pub stderr: String,
}

impl Outcome {
    /// Panics with the driver's own words unless it was content with every reply.
    pub fn expect_ok(&self, count: usize) {
        let content = self.code == Some(0) && self.stdout.trim() == format!("ok {count}");
        assert!(content, "not `ok {count}`: {self:?}");
    }
}

impl Driver {
    /// The newest redis-py.
    pub fn redis_py_newest() -> Self {
        let python = super::require().home("python").join("venv/bin/python");
        Self::new("redis-py (newest)", [python.into(), python_driver()])
    }

    /// Debian's redis-py.
    pub fn redis_py_debian() -> Self {
        super::require();
        let python = "/usr/bin/python3".into();
        Self::new("redis-py (Debian)", [python, python_driver()])
    }

    /// The newest go-redis.
    pub fn go_redis() -> Self {
        let driver = super::require().home("go").join("driver");
        Self::new("go-redis", [driver.into()])
    }

    /// The newest Jedis.
    pub fn jedis() -> Self {
        let home = super::require().home("java");
        let classes = [home.join("classes"), home.join("lib").join("*")];
        let class_path = classes.map(|path| path.display().to_string()).join(":");
        // C1 alone and a serial collector: half the start-up time, which is most of a short run.
        let flags = ["-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-cp"];
        let mut command: Vec<OsString> = vec!["java".into()];
        command.extend(flags.map(OsString::from));
        command.extend([class_path.into(), "Driver".into()]);
        Self::new("Jedis", command)
    }

    /// The newest ioredis.
    pub fn ioredis() -> Self {
        let driver = super::require().home("node").join("driver.js");
        Self::new("ioredis", ["node".into(), driver.into()])
    }

    /// All of them.
    pub fn all() -> [Self; 5] {
        [Self::redis_py_newest(), Self::redis_py_debian(), Self::go_redis(), Self::jedis(), Self::ioredis()]
    }

    /// Lets it push `count` records under `key` and waits for its end; panics after the deadline.
    pub fn run(
        &self,
        server: SocketAddr,
        key: &str,
        count: usize,
        mode: Mode,
        login: Option<(&str, &str)>,
        deadline: Duration,
    ) -> Outcome {
        let directory = WorkDir::new("driver");
        let mut process = self.start(directory.path(), server, key, count, mode, login);
        let code = process.wait(deadline).code();
        Outcome { code, stdout: String::from_utf8_lossy(&process.stdout()).into_owned(), stderr: process.stderr() }
    }

    /// Starts it and leaves it running, for tests that disturb what it talks to meanwhile.
    pub fn start(
        &self,
        directory: &Path,
        server: SocketAddr,
        key: &str,
        count: usize,
        mode: Mode,
        login: Option<(&str, &str)>,
    ) -> Process {
        let (program, fixed) = self.command.split_first().expect("a program");
        let mut command = Command::new(program);
        command.args(fixed);
        command.args([server.ip().to_string(), server.port().to_string()]);
        command.args([key, &count.to_string(), mode.name()]);
        if let Some((user, password)) = login {
            command.args([user, password]);
        }
        Process::start(&command, directory, "driver")
    }

    fn new(name: &'static str, command: impl Into<Vec<OsString>>) -> Self {
        Self { name, command: command.into() }
    }
}

fn python_driver() -> OsString {
    super::source("clients/python/driver.py").into()
}
