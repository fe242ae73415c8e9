//! Which lines make one record: for applications that push a stack trace line by line.
//!
//! A line that matches `start` begins a record; each that does not continues the one before it, on the same connection and
//! key. What has a newline inside was put together by its sender and stays as it is, alone.

use std::time::Duration;

use regex::bytes::{Regex, RegexBuilder};

use super::config::JoinConfig;

/// A compiled `join_lines`.
#[derive(Clone, Debug)]
pub struct JoinRule {
    start: Regex,
    /// The most lines of a record.
    pub max_lines: usize,
    /// How long a record waits for its next line.
    pub max_wait: Duration,
}

/// What a line is to the one before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Line {
    /// It begins a record.
    Start,
    /// It continues one.
    Continuation,
    /// It is a record of several lines already.
    Whole,
}

// === impl JoinRule ===

impl JoinRule {
    /// Compiles the rule.
    ///
    /// # Errors
    /// `start` is no regular expression.
    pub fn compile(config: &JoinConfig) -> Result<Self, regex::Error> {
        let start = start_of_record(&config.start)?;
        Ok(Self { start, max_lines: config.max_lines, max_wait: config.max_wait })
    }

    /// What this line is.
    pub fn classify(&self, line: &[u8]) -> Line {
        // Some push a line with its end.
        let text = line.strip_suffix(b"\n").unwrap_or(line);
        if text.contains(&b'\n') {
            Line::Whole
        } else if self.start.is_match(text) {
            Line::Start
        } else {
            Line::Continuation
        }
    }
}

/// Compiles the pattern of a record's first line. It goes over bytes: a line need not be UTF-8.
///
/// # Errors
/// It is no regular expression, or asks for Unicode's classes.
pub fn start_of_record(pattern: &str) -> Result<Regex, regex::Error> {
    RegexBuilder::new(pattern).unicode(false).build()
}

/// Appends a line to a record in the making.
pub fn push_line(record: &mut Vec<u8>, line: &[u8]) {
    if record.last().is_some_and(|last| *last != b'\n') {
        record.push(b'\n');
    }
    record.extend_from_slice(line);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rule() -> JoinRule {
        let config = JoinConfig { start: r"^\S".into(), max_lines: 3, max_wait: Duration::from_millis(500) };
        JoinRule::compile(&config).unwrap()
    }

    #[test]
    fn a_line_begins_continues_or_is_whole() {
        let rule = rule();
        for (line, expected) in [
            (&b"java.lang.Error: x"[..], Line::Start),
            (b"java.lang.Error: x\n", Line::Start),
            (b"\tat a.b.C(D.java:1)", Line::Continuation),
            (b"", Line::Continuation),
            (b"a\nb", Line::Whole),
            (b"a\n\n", Line::Whole),
            (b"\xff\xfe", Line::Start),
        ] {
            assert_eq!(rule.classify(line), expected, "{line:?}");
        }
    }

    #[test]
    fn lines_are_joined_with_one_newline_each() {
        let mut record = Vec::new();
        [&b"one"[..], b" two\n", b" three"].iter().for_each(|line| push_line(&mut record, line));
        assert_eq!(record, b"one\n two\n three");
    }
}
