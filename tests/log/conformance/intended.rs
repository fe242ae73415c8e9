//! The differences that are meant: `intended.tsv`, a line each, its columns between tabs: a glob over the command, one over
//! what redis-server replies, one over what Tidegate replies, and the reason.

use std::collections::BTreeSet;
use std::sync::Mutex;
use tidegate::intake::commands::glob;

struct Line {
    command: String,
    redis: String,
    tidegate: String,
}

/// The lines, and which of them were needed.
pub(super) struct Intended {
    lines: Vec<Line>,
    used: Mutex<BTreeSet<usize>>,
}

impl Intended {
    /// Reads the file.
    pub(super) fn read() -> Self {
        let file = crate::bed::source("log/conformance/intended.tsv");
        let text = std::fs::read_to_string(&file).unwrap();
        let line = |line: &str| {
            let columns: Vec<&str> = line.split('\t').collect();
            let &[command, redis, tidegate, reason] = columns.as_slice() else { panic!("not four columns: {line}") };
            assert!(reason.len() > 10, "no reason: {line}");
            let [command, redis, tidegate] = [command, redis, tidegate].map(str::to_owned);
            Line { command, redis, tidegate }
        };
        let lines = text.lines().filter(|line| !line.is_empty() && !line.starts_with('#')).map(line).collect();
        Self { lines, used: Mutex::default() }
    }

    /// Whether the file has this difference.
    pub(super) fn has(&self, command: &str, redis: &str, tidegate: &str) -> bool {
        let fits = |pattern: &str, text: &str| glob::matches(pattern.as_bytes(), text.as_bytes());
        let found = self.lines.iter().position(|line| {
            fits(&line.command, command) && fits(&line.redis, redis) && fits(&line.tidegate, tidegate)
        });
        found.is_some_and(|place| {
            self.used.lock().unwrap().insert(place);
            true
        })
    }

    /// The lines that no difference needed.
    pub(super) fn unused(&self) -> Vec<String> {
        let used = self.used.lock().unwrap();
        let unused = self.lines.iter().enumerate().filter(|(place, _)| !used.contains(place));
        unused.map(|(_, line)| format!("{} | {} | {}", line.command, line.redis, line.tidegate)).collect()
    }
}
