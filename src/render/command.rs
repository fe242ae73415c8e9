//! Running an operator's commands: without a shell, bounded in time, with what they say.

use std::fs::File;
use std::io::{Read as _, Seek as _, SeekFrom};
use std::os::unix::process::CommandExt as _;
use std::process::{Command, Stdio};
use std::time::Duration;

use rustix::fs::{MemfdFlags, memfd_create};
use rustix::process::{Pid, Signal, kill_process_group};
use tokio::sync::oneshot;

/// As much of what a command says as is told, in bytes.
const MAX_OUTPUT: i64 = 4 << 10;

/// Why a command did not succeed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CommandError {
    /// It cannot be started.
    #[error("{command} cannot be started: {cause}")]
    Start {
        /// The command.
        command: String,
        /// What the system said.
        cause: String,
    },
    /// It did not end in time, and was killed.
    #[error("{command} did not end within {} s and was killed", timeout.as_secs())]
    Timeout {
        /// The command.
        command: String,
        /// How long it had.
        timeout: Duration,
    },
    /// It ended with another status than 0.
    #[error("{command} failed, {status}: {said}")]
    Failed {
        /// The command.
        command: String,
        /// Its status.
        status: String,
        /// The end of what it said.
        said: String,
    },
}

/// Runs a command.
///
/// # Errors
/// It cannot be started, does not end in time, or ends with another status than 0.
pub async fn run_command(words: &[String], timeout: Duration) -> Result<(), CommandError> {
    run(words, "", timeout).await
}

/// Runs a command; `{file}` in an argument is replaced.
pub(super) async fn run(words: &[String], file: &str, timeout: Duration) -> Result<(), CommandError> {
    let words: Vec<String> = words.iter().map(|word| word.replace("{file}", file)).collect();
    let Some((program, arguments)) = words.split_first() else { return Ok(()) };
    let command = words.join(" ");
    let start = |error: std::io::Error| CommandError::Start { command: command.clone(), cause: error.to_string() };
    // A file in memory, and no pipe: a daemon that the command leaves behind may keep it open.
    let said: File = memfd_create("output", MemfdFlags::CLOEXEC).map_err(|error| start(error.into()))?.into();
    let mut child = Command::new(program)
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(said.try_clone().map_err(start)?)
        .stderr(said.try_clone().map_err(start)?)
        // What it starts ends with it: a check that hangs must not leave its children behind.
        .process_group(0)
        .spawn()
        .map_err(start)?;
    let group = i32::try_from(child.id()).ok().and_then(Pid::from_raw);
    let (ended, end) = oneshot::channel();
    // Not of the runtime's threads: those are waited for at the end of the process.
    std::thread::spawn(move || {
        // Nobody may be left to hear it.
        let _ = ended.send(child.wait());
    });
    let status = match tokio::time::timeout(timeout, end).await {
        Ok(Ok(status)) => status.map_err(start)?,
        Ok(Err(_)) => return Err(start(std::io::Error::other("nobody waited for it"))),
        Err(_) => {
            if let Some(group) = group {
                // It may have ended just now.
                let _ = kill_process_group(group, Signal::KILL);
            }
            return Err(CommandError::Timeout { command, timeout });
        }
    };
    match status.success() {
        true => Ok(()),
        false => {
            Err(CommandError::Failed { command, status: status.to_string(), said: last(said).unwrap_or_default() })
        }
    }
}

/// The end of what was said.
fn last(mut said: File) -> std::io::Result<String> {
    let length = i64::try_from(said.metadata()?.len()).unwrap_or(i64::MAX);
    said.seek(SeekFrom::End(-length.min(MAX_OUTPUT)))?;
    let mut bytes = Vec::new();
    said.read_to_end(&mut bytes)?;
    let text = String::from_utf8_lossy(&bytes);
    Ok(text.lines().map(str::trim).filter(|line| !line.is_empty()).collect::<Vec<_>>().join(" | "))
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn sh(script: &str) -> Result<(), CommandError> {
        let words = ["sh", "-c", script, "sh", "{file}"].map(str::to_owned);
        run(&words, "/tmp/x", Duration::from_millis(700)).await
    }

    #[tokio::test]
    async fn a_command_is_its_status_and_what_it_says() {
        assert_eq!(sh("test $1 = /tmp/x").await, Ok(()));
        let failed = sh("echo out; echo 'line 7: bad' >&2; exit 3").await.unwrap_err().to_string();
        assert!(failed.contains("exit status: 3") && failed.contains("out | line 7: bad"), "{failed}");
        let much = sh("yes | head -c 200000 >&2; echo end >&2; exit 1").await.unwrap_err().to_string();
        assert!(much.len() < 10_000 && much.ends_with("end"), "{}", much.len());
        assert!(matches!(
            run(&["/no/such".to_owned()], "", Duration::from_secs(1)).await,
            Err(CommandError::Start { .. })
        ));
    }

    #[tokio::test]
    async fn a_command_that_hangs_is_killed_with_what_it_started() {
        let directory = tempfile::tempdir().unwrap();
        let mark = directory.path().join("pid");
        let failed = sh(&format!("sleep 60 & echo $! > {}; wait", mark.display())).await.unwrap_err();
        assert!(matches!(failed, CommandError::Timeout { .. }), "{failed}");
        let child = std::fs::read_to_string(mark).unwrap();
        let state = || std::fs::read_to_string(format!("/proc/{}/stat", child.trim()));
        for _ in 0..200 {
            // A zombie that nobody has collected yet is dead as well.
            if state().map_or(true, |stat| stat.contains(") Z ")) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("the child of the command is still there: {:?}", state());
    }

    #[tokio::test]
    async fn a_daemon_that_a_command_leaves_behind_is_not_waited_for() {
        assert_eq!(sh("sleep 5 & exit 0").await, Ok(()));
    }
}
