//! How records look on standard output.

use std::fmt::Write as _;
use std::io::{self, BufWriter, IsTerminal, Stdout, Write};

use super::follow::Record;

const DIM: &str = "\x1b[2m";
const CYAN: &str = "\x1b[36m";
const PLAIN: &str = "\x1b[0m";

/// Writes records, one a line.
pub struct Printer {
    output: BufWriter<Stdout>,
    look: Look,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Look {
    /// The value as it is, byte for byte, and a newline.
    Value,
    /// `time topic/partition@offset value`.
    Line { colour: bool, escape: bool },
}

// === impl Printer ===

impl Printer {
    /// Piped: values alone, for the next program. On a terminal: lines for people.
    pub fn values() -> Self {
        let look = if io::stdout().is_terminal() { Look::for_people() } else { Look::Value };
        Self { output: BufWriter::new(io::stdout()), look }
    }

    /// Lines for people, piped or not.
    pub fn lines() -> Self {
        Self { output: BufWriter::new(io::stdout()), look: Look::for_people() }
    }

    /// Writes one record. It may stay in a buffer until [`Printer::flush`].
    pub fn print(&mut self, record: &Record) -> io::Result<()> {
        self.output.write_all(&render(record, self.look))
    }

    /// Writes one record that is followed live, under its Redis key.
    pub fn print_live(&mut self, key: &str, value: &[u8]) -> io::Result<()> {
        self.output.write_all(&render_live(key, value, self.look))
    }

    /// Shows what was written: to be called whenever no record is waiting.
    pub fn flush(&mut self) -> io::Result<()> {
        self.output.flush()
    }
}

// === impl Look ===

impl Look {
    fn for_people() -> Self {
        let terminal = io::stdout().is_terminal();
        // https://no-color.org
        let colour = terminal && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
        Self::Line { colour, escape: terminal }
    }
}

fn render(record: &Record, look: Look) -> Vec<u8> {
    let mut line = Vec::with_capacity(record.value.len() + 64);
    let mut escape_value = false;
    if let Look::Line { colour, escape } = look {
        let (dim, cyan, plain) = if colour { (DIM, CYAN, PLAIN) } else { ("", "", "") };
        let time = record.timestamp_ms.map_or_else(|| "-".to_owned(), clock);
        let Record { topic, partition, offset, .. } = record;
        line.extend(format!("{dim}{time}{plain} {cyan}{topic}{plain}{dim}/{partition}@{offset}{plain} ").as_bytes());
        escape_value = escape;
    }
    if escape_value {
        line.extend(visible(&record.value).as_bytes());
    } else {
        line.extend(&record.value);
    }
    line.push(b'\n');
    line
}

/// `key value`; piped, the value alone.
fn render_live(key: &str, value: &[u8], look: Look) -> Vec<u8> {
    let mut line = match look {
        Look::Value => value.to_vec(),
        Look::Line { colour, escape } => {
            let (cyan, plain) = if colour { (CYAN, PLAIN) } else { ("", "") };
            let value = if escape { visible(value).into_bytes() } else { value.to_vec() };
            [format!("{cyan}{}{plain} ", visible(key.as_bytes())).into_bytes(), value].concat()
        }
    };
    line.push(b'\n');
    line
}

/// Text in which no record can move the cursor or change the terminal.
fn visible(value: &[u8]) -> String {
    let mut text = String::with_capacity(value.len());
    for char in String::from_utf8_lossy(value).chars() {
        match char {
            '\t' => text.push('\t'),
            control if control.is_control() => {
                // Writing to a String cannot fail.
                let _ = write!(text, "\\x{:02x}", u32::from(control));
            }
            char => text.push(char),
        }
    }
    text
}

/// The time of day in UTC, `12:34:56.789Z`.
fn clock(timestamp_ms: i64) -> String {
    let of_day = timestamp_ms.rem_euclid(86_400_000);
    let (seconds, millis) = (of_day / 1000, of_day % 1000);
    format!("{:02}:{:02}:{:02}.{millis:03}Z", seconds / 3600, seconds / 60 % 60, seconds % 60)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(value: &[u8]) -> Record {
        Record {
            topic: "logs.a".into(),
            partition: 3,
            offset: 7,
            timestamp_ms: Some(1_700_000_000_123),
            value: value.into(),
        }
    }

    #[test]
    fn a_piped_value_is_what_was_sent_byte_for_byte() {
        assert_eq!(render(&record(b"\xff\x1b[2J\0"), Look::Value), b"\xff\x1b[2J\0\n");
    }

    #[test]
    fn a_line_says_when_and_where() {
        let line = render(&record(b"hello"), Look::Line { colour: false, escape: false });
        assert_eq!(String::from_utf8(line).unwrap(), "22:13:20.123Z logs.a/3@7 hello\n");
    }

    #[test]
    fn a_live_record_is_shown_with_its_key_or_as_it_is() {
        assert_eq!(render_live("k", b"a\x1b\xff", Look::Value), b"a\x1b\xff\n");
        assert_eq!(render_live("k", b"a\x1b", Look::Line { colour: false, escape: true }), b"k a\\x1b\n");
    }

    #[test]
    fn a_record_cannot_command_the_terminal() {
        let line = render(&record(b"a\x1b[2Jb\r\nc\td"), Look::Line { colour: true, escape: true });
        assert!(String::from_utf8(line).unwrap().ends_with(" a\\x1b[2Jb\\x0d\\x0ac\td\n"));
    }
}
