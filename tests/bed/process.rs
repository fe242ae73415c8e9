//! Child processes that cannot outlive the test process.
//!
//! `PR_SET_PDEATHSIG` would not do: it fires when the *thread* that started the child ends, and each test has a thread
//! of its own, while a shared broker serves many tests. So one guard process per test process reads a list of process
//! ids from a pipe; the kernel closes the pipe when the test process ends, be it by SIGKILL or Ctrl-C, and the guard
//! then kills whatever is still on the list and removes the temporary directories.
//!
//! A child starts as a shell that waits for a word on its standard input before it becomes the program, and the word
//! is sent after the guard knows the child. There is thus no moment at which a child runs unguarded.

use super::wait::{poll, wait_for};
use std::fs::File;
use std::io::Write as _;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::Duration;

/// Each child leads a process group of its own, so what it started ends with it. The wait lets the last writes of the
/// killed end before their directories go.
const GUARD: &str = r#"
trap '' INT TERM HUP QUIT
declare -A groups directories
while read -r verb what; do
  case $verb in
    +group) groups[$what]=1 ;;
    -group) unset 'groups[$what]' ;;
    +dir) directories[$what]=1 ;;
    -dir) unset 'directories[$what]' ;;
  esac
done
for group in "${!groups[@]}"; do kill -KILL -- "-$group"; done
for ((i = 0; i < 20; i++)); do
  alive=
  for group in "${!groups[@]}"; do if kill -0 -- "-$group"; then alive=1; fi; done
  [ "$alive" ] || break
  sleep 0.05
done
for directory in "${!directories[@]}"; do rm -rf -- "$directory"; done
"#;

/// The process that cleans up after this one.
pub struct Guard(Mutex<Child>);

impl Guard {
    /// The guard of this process, started at the first call.
    pub fn get() -> &'static Self {
        static GUARD_PROCESS: OnceLock<Guard> = OnceLock::new();
        GUARD_PROCESS.get_or_init(|| {
            let child = Command::new("bash")
                .args(["-c", GUARD])
                .stdin(Stdio::piped())
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                // Out of the terminal's group: Ctrl-C must end the tests, not their guard.
                .process_group(0)
                .spawn()
                .expect("bash starts");
            Self(Mutex::new(child))
        })
    }

    fn tell(&self, line: &str) {
        let mut guard = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let pipe = guard.stdin.as_mut().expect("a piped stdin");
        writeln!(pipe, "{line}").expect("the guard process lives as long as this one");
    }

    /// Removes this directory when the test process ends.
    pub fn add_directory(&self, path: &Path) {
        self.tell(&format!("+dir {}", path.display()));
    }

    /// Leaves this directory alone after all.
    pub fn forget_directory(&self, path: &Path) {
        self.tell(&format!("-dir {}", path.display()));
    }
}

/// A child process with its output in files. It is killed when this value goes.
pub struct Process {
    child: Child,
    name: String,
    stdout: PathBuf,
    stderr: PathBuf,
    status: Option<ExitStatus>,
}

impl Process {
    /// Starts the command (its program, arguments, environment and directory count; its streams do not). Its output
    /// goes to `NAME.out.log` and `NAME.log` (standard error) in `directory`, appended to what is there.
    pub fn start(command: &Command, directory: &Path, name: &str) -> Self {
        Self::start_with_input(command, directory, name, Path::new("/dev/null"))
    }

    /// As [`Process::start`], with a file as standard input.
    pub fn start_with_input(command: &Command, directory: &Path, name: &str, input: &Path) -> Self {
        let stdout = directory.join(format!("{name}.out.log"));
        let stderr = directory.join(format!("{name}.log"));
        let open = |path: &Path| {
            File::options().create(true).append(true).open(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
        };
        let mut shell = Command::new("sh");
        shell
            .args(["-c", r#"read -r _ || exit 125; input=$1; shift; exec "$@" <"$input""#])
            .arg("sh")
            .arg(input)
            .arg(command.get_program())
            .args(command.get_args());
        for (key, value) in command.get_envs() {
            match value {
                Some(value) => shell.env(key, value),
                None => shell.env_remove(key),
            };
        }
        if let Some(path) = command.get_current_dir() {
            shell.current_dir(path);
        }
        let mut child = shell
            .stdin(Stdio::piped())
            .stdout(open(&stdout))
            .stderr(open(&stderr))
            .process_group(0)
            .spawn()
            .unwrap_or_else(|e| panic!("{name} does not start: {e}"));
        Guard::get().tell(&format!("+group {}", child.id()));
        let mut go = child.stdin.take().expect("a piped stdin");
        writeln!(go, "go").unwrap_or_else(|e| panic!("{name} ended before its start: {e}"));
        Self { child, name: name.to_owned(), stdout, stderr, status: None }
    }

    /// The process id of the program itself.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// What it has written to standard output so far.
    pub fn stdout(&self) -> Vec<u8> {
        std::fs::read(&self.stdout).unwrap_or_default()
    }

    /// What it has written to standard error so far.
    pub fn stderr(&self) -> String {
        String::from_utf8_lossy(&std::fs::read(&self.stderr).unwrap_or_default()).into_owned()
    }

    /// Its status if it has ended.
    pub fn exited(&mut self) -> Option<ExitStatus> {
        if self.status.is_none() {
            self.status = self.child.try_wait().expect("a child can be waited for");
            if self.status.is_some() {
                Guard::get().tell(&format!("-group {}", self.child.id()));
            }
        }
        self.status
    }

    /// Its status once it has ended; panics after the deadline.
    pub fn wait(&mut self, deadline: Duration) -> ExitStatus {
        let what = format!("the end of {}", self.name);
        wait_for(deadline, &what, || self.exited())
    }

    /// Sends a signal by name (`TERM`, `STOP`, …) to the program. Nothing happens if it has ended.
    pub fn signal(&mut self, signal: &str) {
        if self.exited().is_none() {
            kill(signal, &self.child.id().to_string());
        }
    }

    /// Kills it and everything it started, and waits for its end.
    pub fn kill9(&mut self) {
        if self.exited().is_none() {
            kill("KILL", &format!("-{}", self.child.id()));
            self.wait(Duration::from_secs(10));
        }
    }

    /// Asks it to end and waits; kills it if it has not ended by the deadline. Says whether it ended by itself.
    pub fn terminate(&mut self, deadline: Duration) -> bool {
        self.signal("TERM");
        let ended = poll(deadline, || self.exited()).is_some();
        self.kill9();
        ended
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if self.exited().is_none() {
            kill("KILL", &format!("-{}", self.child.id()));
            // No panic here: this may run while a failing test unwinds.
            let _ = poll(Duration::from_secs(10), || self.exited());
        }
    }
}

/// The shell's own `kill`: std sends no other signal than SIGKILL, and no process group one.
fn kill(signal: &str, whom: &str) {
    let _ = Command::new("sh")
        .args(["-c", r#"kill -s "$1" -- "$2""#, "sh", signal, whom])
        .stdin(Stdio::null())
        .stderr(Stdio::null())
        .status();
}
