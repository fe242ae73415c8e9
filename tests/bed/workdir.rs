//! Temporary directories that speak when a test fails.

use super::process::Guard;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Mutex;

/// How many lines of each log file a failing test prints.
const TAIL: usize = 40;

/// Directories that live as long as the process and are used by many tests (the shared broker's): a failing test
/// prints their logs too.
static SHARED: Mutex<Vec<PathBuf>> = Mutex::new(Vec::new());

/// A temporary directory. If the test fails it is kept, and its path and the tails of its `*.log` files are printed;
/// otherwise it is removed. A test process that is killed leaves none.
pub struct WorkDir(PathBuf);

impl WorkDir {
    /// A new empty directory; `name` makes it recognisable.
    pub fn new(name: &str) -> Self {
        let path = tempfile::Builder::new()
            .prefix(&format!("tidegate-test-{name}-"))
            .tempdir()
            .expect("a temporary directory")
            .keep();
        Guard::get().add_directory(&path);
        Self(path)
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.0
    }

    /// Writes a file into it and says where the file is.
    pub fn write(&self, name: &str, content: impl AsRef<[u8]>) -> PathBuf {
        let path = self.0.join(name);
        fs::write(&path, content).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        path
    }

    /// From now on any failing test prints the logs of this directory as well.
    pub fn share(&self) {
        SHARED.lock().expect("not poisoned").push(self.0.clone());
    }
}

impl Drop for WorkDir {
    fn drop(&mut self) {
        if std::thread::panicking() {
            Guard::get().forget_directory(&self.0);
            eprintln!("the test's files are in {}", self.0.display());
            print_logs(&self.0);
            let shared = SHARED.lock().map(|shared| shared.clone()).unwrap_or_default();
            shared.iter().for_each(|directory| print_logs(directory));
        } else {
            // A process that is being killed may still be writing; the guard tries again when this process ends.
            if fs::remove_dir_all(&self.0).is_ok() {
                Guard::get().forget_directory(&self.0);
            }
        }
    }
}

fn print_logs(directory: &Path) {
    for path in log_files(directory) {
        let tail = tail(&path, TAIL);
        if !tail.is_empty() {
            eprintln!("--- {}\n{tail}", path.display());
        }
    }
}

fn log_files(directory: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
        let path = entry.path();
        if path.is_dir() {
            found.extend(log_files(&path));
        } else if is_log(&path) {
            found.push(path);
        }
    }
    found.sort();
    found
}

/// Kafka's data files end in `.log` as well, but their names are numbers.
fn is_log(path: &Path) -> bool {
    let stem = path.file_stem().unwrap_or_default().to_string_lossy();
    path.extension().is_some_and(|extension| extension == "log") && !stem.bytes().all(|byte| byte.is_ascii_digit())
}

/// The last lines of a file; empty if it cannot be read.
pub fn tail(path: &Path, lines: usize) -> String {
    let content = fs::read(path).unwrap_or_default();
    let text = String::from_utf8_lossy(&content);
    let all: Vec<&str> = text.lines().collect();
    all.get(all.len().saturating_sub(lines)..).unwrap_or_default().join("\n")
}
