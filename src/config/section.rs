//! One table of the file, read key by key.

use std::ops::RangeInclusive;
use std::path::Path;

use toml::de::{DeTable, DeValue};
use toml::{Spanned, Value};

use super::report::Report;
use super::secret;
use crate::base::units::ByteSize;

/// Reads a table. Every read takes the key's name, so that [`Section::finish`] knows which keys nobody asked for.
pub(super) struct Section<'a> {
    report: &'a Report<'a>,
    table: &'a DeTable<'a>,
    /// Dotted, empty for the root.
    path: String,
    /// Where the section begins, in bytes.
    offset: usize,
    /// Its place in the effective configuration; `None` for a table that its parent shows as one value.
    place: Option<usize>,
    known: Vec<&'static str>,
    /// Keys that are refused with a remedy of their own: known, and not to be recommended.
    refused: Vec<&'static str>,
}

/// One text of a list, with its own path and place in the file.
pub(super) struct Item<'a> {
    pub(super) text: &'a str,
    path: String,
    offset: usize,
}

// === impl Section ===

impl<'a> Section<'a> {
    pub(super) fn root(report: &'a Report<'a>, table: &'a DeTable<'a>) -> Self {
        Self { report, table, path: String::new(), offset: 0, place: None, known: Vec::new(), refused: Vec::new() }
    }

    /// Notes a problem with `key`, at its value's line, or at the section's where the key is missing.
    pub(super) fn problem(&self, key: &str, text: impl Into<String>) {
        let offset = self.table.get(key).map_or(self.offset, |value| value.span().start);
        self.report.problem(offset, self.path_of(key), text.into());
    }

    /// Notes a problem with one item of a list.
    pub(super) fn item_problem(&self, item: &Item<'_>, text: impl Into<String>) {
        self.report.problem(item.offset, item.path.clone(), text.into());
    }

    /// Writes a value into the effective configuration.
    pub(super) fn show(&self, key: &str, value: impl Into<Value>) {
        if let Some(place) = self.place {
            self.report.show(place, key, &value.into());
        }
    }

    /// Refuses a key that belongs to a later version: ignoring it would promise what is not done.
    pub(super) fn later(&mut self, key: &'static str) {
        self.refuse(key, "this version does not have it yet: remove the key");
    }

    /// Refuses a key that people try, with a remedy of its own.
    pub(super) fn refuse(&mut self, key: &'static str, remedy: &str) {
        self.refused.push(key);
        if self.has(key) {
            self.problem(key, remedy);
        }
    }

    pub(super) fn has(&self, key: &str) -> bool {
        self.table.contains_key(key)
    }

    pub(super) fn is_list(&self, key: &str) -> bool {
        self.table.get(key).is_some_and(|value| value.get_ref().is_array())
    }

    pub(super) fn is_table(&self, key: &str) -> bool {
        self.table.get(key).is_some_and(|value| value.get_ref().is_table())
    }

    pub(super) fn is_text(&self, key: &str) -> bool {
        self.table.get(key).is_some_and(|value| value.get_ref().as_str().is_some())
    }

    pub(super) fn is_number(&self, key: &str) -> bool {
        self.table.get(key).is_some_and(|value| value.get_ref().is_integer())
    }

    /// A text as it stands; the caller shows it.
    pub(super) fn text(&mut self, key: &'static str) -> Option<&'a str> {
        let value = self.value(key)?;
        let text = value.as_str();
        if text.is_none() {
            self.problem(key, format!("must be a string, not {}", kind(value)));
        }
        text
    }

    /// A list of texts as it stands; the caller shows it.
    pub(super) fn texts(&mut self, key: &'static str) -> Option<Vec<Item<'a>>> {
        let value = self.value(key)?;
        let DeValue::Array(array) = value else {
            self.problem(key, format!("must be a list of strings, as [\"…\"], not {}", kind(value)));
            return None;
        };
        let mut items = Vec::new();
        for (index, value) in array.iter().enumerate() {
            let path = format!("{}[{index}]", self.path_of(key));
            match value.get_ref().as_str() {
                Some(text) => items.push(Item { text, path, offset: value.span().start }),
                None => self.report.problem(
                    value.span().start,
                    path,
                    format!("must be a string, not {}", kind(value.get_ref())),
                ),
            }
        }
        Some(items)
    }

    /// The content of a file that `key` names. The error names the file and is ready for a problem's text.
    pub(super) fn file(&self, key: &str, path: &str) -> Result<Vec<u8>, String> {
        let content = std::fs::read(path);
        self.report.note_file(&self.path_of(key), Path::new(path), content.as_deref().ok());
        content.map_err(|error| format!("{path}: cannot be read: {error}"))
    }

    /// The secret in a file that `key` names. The error names the file, and never shows the secret.
    pub(super) fn secret(&self, key: &str, path: &str) -> Result<String, String> {
        secret::text(path, self.file(key, path)?)
    }

    pub(super) fn flag(&mut self, key: &'static str, default: bool) -> bool {
        let flag = match self.value(key) {
            None => default,
            Some(DeValue::Boolean(flag)) => *flag,
            Some(value) => {
                self.problem(key, format!("must be true or false, not {}", kind(value)));
                default
            }
        };
        self.show(key, flag);
        flag
    }

    /// A whole number within a range.
    pub(super) fn number(&mut self, key: &'static str, range: RangeInclusive<u64>, default: u64) -> u64 {
        let number = self.number_unshown(key, range).unwrap_or(default);
        self.show(key, i64::try_from(number).unwrap_or(i64::MAX));
        number
    }

    /// A whole number that must be given; the caller shows it.
    pub(super) fn required_number(&mut self, key: &'static str, range: RangeInclusive<u64>) -> i32 {
        if !self.has(key) {
            self.problem(key, format!("missing: give a number from {} to {}", range.start(), range.end()));
        }
        let number = self.number_unshown(key, range).unwrap_or_default();
        i32::try_from(number).unwrap_or(i32::MAX)
    }

    /// A whole number within a range; the caller shows it.
    pub(super) fn number_unshown(&mut self, key: &'static str, range: RangeInclusive<u64>) -> Option<u64> {
        match self.value(key)? {
            DeValue::Integer(integer) => {
                let number = i128::from_str_radix(integer.as_str(), integer.radix()).unwrap_or(i128::MAX);
                let fits = u64::try_from(number).ok().filter(|number| range.contains(number));
                if fits.is_none() {
                    let (least, most) = range.into_inner();
                    self.problem(key, format!("{integer} is out of range: use a number from {least} to {most}"));
                }
                fits
            }
            value => {
                self.problem(key, format!("must be a whole number, not {}", kind(value)));
                None
            }
        }
    }

    /// A size in bytes within a range, a text with a unit or a bare number of bytes.
    pub(super) fn size(&mut self, key: &'static str, range: RangeInclusive<ByteSize>, default: ByteSize) -> usize {
        let size = self.size_unshown(key, range).unwrap_or(default);
        self.show(key, size.to_string());
        usize::try_from(size.0).unwrap_or(usize::MAX)
    }

    fn size_unshown(&mut self, key: &'static str, range: RangeInclusive<ByteSize>) -> Option<ByteSize> {
        let parsed = match self.value(key)? {
            DeValue::String(text) => text.parse::<ByteSize>().map_err(|error| format!("{text:?} {error}")),
            DeValue::Integer(integer) => {
                integer.as_str().parse().map(ByteSize).map_err(|_| format!("{integer} is out of range"))
            }
            value => Err(format!("must be a size, as \"256MiB\", not {}", kind(value))),
        };
        match parsed {
            Ok(size) if range.contains(&size) => Some(size),
            Ok(size) => {
                let (least, most) = range.into_inner();
                self.problem(key, format!("{size} is out of range: use a size from {least} to {most}"));
                None
            }
            Err(text) => {
                self.problem(key, text);
                None
            }
        }
    }

    /// One of a few words, the first of them the default; `later` are words of later versions.
    pub(super) fn choice<T: Copy, const N: usize>(
        &mut self,
        key: &'static str,
        default: (&'static str, T),
        others: [(&'static str, T); N],
        later: &[&str],
    ) -> T {
        let mut chosen = default;
        if let Some(text) = self.text(key) {
            let words = std::iter::once(default).chain(others);
            match words.clone().find(|(word, _)| *word == text) {
                Some(word) => chosen = word,
                None => {
                    let fault = if later.contains(&text) { "is not in this version yet" } else { "is unknown" };
                    let all: Vec<_> = words.map(|(word, _)| format!("{word:?}")).collect();
                    self.problem(key, format!("{text:?} {fault}: use {}", all.join(", ")));
                }
            }
        }
        self.show(key, chosen.0);
        chosen.1
    }

    /// A sub-section `[path.key]`.
    pub(super) fn table(&mut self, key: &'static str) -> Option<Section<'a>> {
        let path = self.path_of(key);
        let header = format!("[{path}]");
        let mut section = self.inline(key)?;
        section.place = Some(self.report.open(header));
        Some(section)
    }

    /// A table that the caller shows as one value.
    pub(super) fn inline(&mut self, key: &'static str) -> Option<Section<'a>> {
        match self.value(key)? {
            DeValue::Table(table) => Some(self.child(table, self.path_of(key), self.offset_of(key))),
            value => {
                self.problem(key, format!("must be a table, not {}", kind(value)));
                None
            }
        }
    }

    /// The sub-sections `[[path.key]]`; none where the key is absent.
    pub(super) fn tables(&mut self, key: &'static str) -> Vec<Section<'a>> {
        let header = format!("[[{}]]", self.path_of(key));
        let mut sections = self.inline_tables(key);
        for section in &mut sections {
            section.place = Some(self.report.open(header.clone()));
        }
        sections
    }

    /// The tables of a list that the caller shows as one value.
    pub(super) fn inline_tables(&mut self, key: &'static str) -> Vec<Section<'a>> {
        let path = self.path_of(key);
        let array = match self.value(key) {
            None => return Vec::new(),
            Some(DeValue::Array(array)) => array,
            Some(value) => {
                self.problem(key, format!("must be written [[{path}]], not as {}", kind(value)));
                return Vec::new();
            }
        };
        let mut sections = Vec::new();
        for (index, value) in array.iter().enumerate() {
            let item_path = format!("{path}[{index}]");
            match value.get_ref() {
                DeValue::Table(table) => sections.push(self.child(table, item_path, value.span().start)),
                other => {
                    self.report.problem(value.span().start, item_path, format!("must be a table, not {}", kind(other)))
                }
            }
        }
        sections
    }

    /// The entries of a table with free keys, each a scalar written as text; for `properties = { … }`.
    pub(super) fn entries(&mut self) -> Vec<(&'a str, String)> {
        let mut entries = Vec::new();
        for (key, value) in self.table {
            let key = key.get_ref().as_ref();
            match scalar_text(value.get_ref()) {
                Some(text) => entries.push((key, text)),
                None => {
                    self.problem(key, format!("must be a string, number or boolean, not {}", kind(value.get_ref())))
                }
            }
        }
        entries
    }

    /// Refuses the keys that nobody asked for.
    pub(super) fn finish(self) {
        for key in self.table.keys() {
            let name = key.get_ref().as_ref();
            if self.known.contains(&name) || self.refused.contains(&name) {
                continue;
            }
            let remedy = match nearest(name, &self.known) {
                Some(near) => format!("unknown key: did you mean {near}?"),
                None => format!("unknown key: remove it; known here are {}", self.known.join(", ")),
            };
            self.report.problem(key.span().start, self.path_of(name), remedy);
        }
    }

    fn child(&self, table: &'a DeTable<'a>, path: String, offset: usize) -> Section<'a> {
        Section { report: self.report, table, path, offset, place: None, known: Vec::new(), refused: Vec::new() }
    }

    fn value(&mut self, key: &'static str) -> Option<&'a DeValue<'a>> {
        self.known.push(key);
        self.table.get(key).map(Spanned::get_ref)
    }

    fn offset_of(&self, key: &str) -> usize {
        self.table.get(key).map_or(self.offset, |value| value.span().start)
    }

    fn path_of(&self, key: &str) -> String {
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-';
        let key = if key.bytes().all(plain) { key.to_owned() } else { format!("{key:?}") };
        if self.path.is_empty() { key } else { format!("{}.{key}", self.path) }
    }
}

fn kind(value: &DeValue<'_>) -> &'static str {
    match value {
        DeValue::String(_) => "a string",
        DeValue::Integer(_) => "an integer",
        DeValue::Float(_) => "a fraction",
        DeValue::Boolean(_) => "a boolean",
        DeValue::Datetime(_) => "a date",
        DeValue::Array(_) => "a list",
        DeValue::Table(_) => "a table",
    }
}

fn scalar_text(value: &DeValue<'_>) -> Option<String> {
    match value {
        DeValue::String(text) => Some(text.to_string()),
        DeValue::Integer(integer) => Some(integer.to_string()),
        DeValue::Float(float) => Some(float.to_string()),
        DeValue::Boolean(flag) => Some(flag.to_string()),
        DeValue::Datetime(_) | DeValue::Array(_) | DeValue::Table(_) => None,
    }
}

/// The known key that is at most a third of the name away.
fn nearest<'k>(name: &str, known: &[&'k str]) -> Option<&'k str> {
    let close =
        known.iter().map(|key| (distance(name, key), *key)).filter(|(distance, _)| *distance <= name.len().max(3) / 3);
    close.min_by_key(|(distance, _)| *distance).map(|(_, key)| key)
}

/// Levenshtein's distance in bytes.
fn distance(left: &str, right: &str) -> usize {
    let mut row: Vec<usize> = (0..=right.len()).collect();
    for (i, a) in left.bytes().enumerate() {
        let mut diagonal = i;
        let mut before = i + 1;
        for (cell, b) in row.iter_mut().skip(1).zip(right.bytes()) {
            let substituted = diagonal + usize::from(a != b);
            diagonal = *cell;
            *cell = substituted.min(before + 1).min(diagonal + 1);
            before = *cell;
        }
        if let Some(first) = row.first_mut() {
            *first = i + 1;
        }
    }
    row.last().copied().unwrap_or(left.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distance_counts_edits() {
        for (left, right, edits) in [
            ("", "", 0),
            ("abc", "abc", 0),
            ("abc", "abd", 1),
            ("abc", "ab", 1),
            ("", "abc", 3),
            ("kitten", "sitting", 3),
        ] {
            assert_eq!(distance(left, right), edits, "{left} {right}");
        }
    }

    #[test]
    fn a_far_name_is_near_to_nothing() {
        assert_eq!(nearest("memory_limt", &["listen", "memory_limit"]), Some("memory_limit"));
        assert_eq!(nearest("colour", &["listen", "memory_limit"]), None);
    }
}
