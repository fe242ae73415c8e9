//! What comes out of reading a file: its problems with their lines, or the effective configuration.

use std::cell::RefCell;
use std::fmt;
use std::path::Path;

use super::files::Files;

/// One thing that is wrong, written `FILE:LINE: key: what is wrong and the remedy`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// The file's name as it was given.
    pub file: String,
    /// Line of the value, or of the section where the key is missing; the first is 1.
    pub line: usize,
    /// Dotted path (`log.route[1].hold_ms`), or `syntax` where the file is not TOML.
    pub key: String,
    /// What is wrong and the remedy.
    pub text: String,
}

/// All problems of a file in the order of their lines, at least one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problems(pub Vec<Problem>);

/// Collects while a file is read. Shared by its sections, hence the cells.
pub(super) struct Report<'a> {
    file: &'a str,
    text: &'a str,
    problems: RefCell<Vec<Problem>>,
    effective: RefCell<Vec<EffectiveSection>>,
    files: RefCell<Files>,
}

struct EffectiveSection {
    /// `[log]`; empty for what stands before the first header.
    header: String,
    lines: Vec<String>,
}

// === impl Report ===

impl<'a> Report<'a> {
    /// For a file of this name and text; `files` are those that were read for it already.
    pub(super) fn new(file: &'a str, text: &'a str, files: Files) -> Self {
        Self { file, text, problems: RefCell::default(), effective: RefCell::default(), files: RefCell::new(files) }
    }

    /// Notes a problem at a byte offset of the file.
    pub(super) fn problem(&self, offset: usize, key: String, text: String) {
        let line = 1 + self.text.bytes().take(offset).filter(|byte| *byte == b'\n').count();
        self.problems.borrow_mut().push(Problem { file: self.file.to_owned(), line, key, text });
    }

    /// Opens a section of the effective configuration and returns its place.
    pub(super) fn open(&self, header: String) -> usize {
        let mut effective = self.effective.borrow_mut();
        effective.push(EffectiveSection { header, lines: Vec::new() });
        effective.len() - 1
    }

    /// Writes a value into an open section.
    pub(super) fn show(&self, place: usize, key: &str, value: &toml::Value) {
        if let Some(section) = self.effective.borrow_mut().get_mut(place) {
            section.lines.push(format!("{key} = {value}"));
        }
    }

    /// Notes a file that was read, or should have been.
    pub(super) fn note_file(&self, key: &str, path: &Path, content: Option<&[u8]>) {
        self.files.borrow_mut().note(key, path, content);
    }

    /// The files noted so far.
    pub(super) fn files(&self) -> Files {
        self.files.borrow().clone()
    }

    pub(super) fn is_good(&self) -> bool {
        self.problems.borrow().is_empty()
    }

    pub(super) fn into_problems(self) -> Problems {
        let mut problems = self.problems.into_inner();
        problems.sort_by_key(|problem| problem.line);
        Problems(problems)
    }

    pub(super) fn into_effective(self) -> String {
        let sections = self.effective.into_inner().into_iter().filter(|section| !section.lines.is_empty());
        sections
            .map(|section| format!("{}\n{}\n", section.header, section.lines.join("\n")))
            .collect::<Vec<_>>()
            .join("\n")
    }
}

// === impl Problem ===

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: {}: {}", self.file, self.line, self.key, self.text)
    }
}

// === impl Problems ===

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let lines: Vec<_> = self.0.iter().map(Problem::to_string).collect();
        f.write_str(&lines.join("\n"))
    }
}
