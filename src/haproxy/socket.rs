//! HAProxy's runtime API: commands over its stats socket, many on one connection.
//!
//! With `prompt`, the socket answers each line with its output, an empty line and `> `, so that the end of an answer is known.

use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::UnixStream;

/// For one answer. HAProxy does nothing else while it makes one.
const PATIENCE: Duration = Duration::from_secs(20);
/// The largest answer: the state of half a million servers.
const MAX_ANSWER: usize = 128 << 20;
/// Commands that are sent before an answer is awaited.
pub(super) const AT_ONCE: usize = 64;

const PROMPT: &[u8] = b"\n> ";

/// Why a command has no answer. Another try may help.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}: {cause}", path.display())]
pub(super) struct SocketError {
    /// The socket.
    pub(super) path: PathBuf,
    /// What happened.
    pub(super) cause: String,
}

/// A connection. The process at its other end stays the same, also when another one takes its place at the path.
pub(super) struct Connection {
    path: PathBuf,
    stream: UnixStream,
    buffer: Vec<u8>,
}

// === impl Connection ===

impl Connection {
    /// Connects.
    pub(super) async fn open(path: &Path) -> Result<Self, SocketError> {
        let failed = |cause: String| SocketError { path: path.to_owned(), cause };
        let connected = tokio::time::timeout(PATIENCE, UnixStream::connect(path)).await;
        let stream = connected.map_err(|_| failed("does not accept".to_owned()))?;
        let stream = stream.map_err(|error| {
            failed(format!("{error}: is HAProxy running, with `stats socket {} level admin`?", path.display()))
        })?;
        let mut connection = Self { path: path.to_owned(), stream, buffer: Vec::new() };
        connection.write("prompt\n").await?;
        connection.answer().await?;
        Ok(connection)
    }

    /// One command and its answer.
    pub(super) async fn ask(&mut self, command: &str) -> Result<String, SocketError> {
        self.write(&format!("{command}\n")).await?;
        self.answer().await
    }

    /// Several commands, at most [`AT_ONCE`], and their answers in order.
    pub(super) async fn ask_all(&mut self, commands: &[String]) -> Result<Vec<String>, SocketError> {
        self.write(&commands.iter().map(|command| format!("{command}\n")).collect::<String>()).await?;
        let mut answers = Vec::with_capacity(commands.len());
        for _ in commands {
            answers.push(self.answer().await?);
        }
        Ok(answers)
    }

    async fn write(&mut self, text: &str) -> Result<(), SocketError> {
        let written = tokio::time::timeout(PATIENCE, self.stream.write_all(text.as_bytes())).await;
        written.map_err(|_| self.failed("does not read"))?.map_err(|error| self.failed(&error.to_string()))
    }

    async fn answer(&mut self) -> Result<String, SocketError> {
        let mut searched = 0;
        loop {
            let from = searched;
            if let Some(at) = find(self.buffer.get(from..).unwrap_or_default(), PROMPT) {
                let rest = self.buffer.split_off(from + at + PROMPT.len());
                let mut answer = std::mem::replace(&mut self.buffer, rest);
                answer.truncate(from + at);
                return Ok(String::from_utf8_lossy(&answer).trim().to_owned());
            }
            searched = self.buffer.len().saturating_sub(PROMPT.len());
            if self.buffer.len() > MAX_ANSWER {
                return Err(self.failed("an answer without an end"));
            }
            let read = tokio::time::timeout(PATIENCE, self.stream.read_buf(&mut self.buffer)).await;
            match read.map_err(|_| self.failed("does not answer"))? {
                Ok(0) => return Err(self.failed("closed the connection")),
                Ok(_) => {}
                Err(error) => return Err(self.failed(&error.to_string())),
            }
        }
    }

    fn failed(&self, cause: &str) -> SocketError {
        SocketError { path: self.path.clone(), cause: cause.to_owned() }
    }
}

fn find(haystack: &[u8], needle: &[u8]) -> Option<usize> {
    haystack.windows(needle.len()).position(|window| window == needle)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A server that answers everything it is sent in pieces of a few bytes.
    async fn serve(path: &Path, answers: &'static str) {
        let listener = tokio::net::UnixListener::bind(path).unwrap();
        tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            for piece in answers.as_bytes().chunks(3) {
                stream.write_all(piece).await.unwrap();
                tokio::task::yield_now().await;
            }
        });
    }

    #[tokio::test]
    async fn answers_are_told_apart_however_they_arrive() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("s");
        serve(&path, "\n> New server registered.\n\n> \n> No such server.\n\n> a: 1\nb: 2\n\n> ").await;
        let mut connection = Connection::open(&path).await.unwrap();
        let commands = ["add", "enable", "set"].map(str::to_owned);
        assert_eq!(connection.ask_all(&commands).await.unwrap(), ["New server registered.", "", "No such server."]);
        assert_eq!(connection.ask("show info").await.unwrap(), "a: 1\nb: 2");
        let error = connection.ask("more").await.unwrap_err();
        let ended = ["closed the connection", "pipe", "reset"];
        assert!(ended.iter().any(|it| error.cause.contains(it)), "{error}");
        let error = Connection::open(&directory.path().join("none")).await.map(|_| ()).unwrap_err().to_string();
        assert!(error.contains("stats socket"), "{error}");
    }
}
