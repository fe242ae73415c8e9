//! The table: program × version × mode × call, and whether it was the real program.

use std::fmt::Write as _;

/// The calls, in the order in which every program makes them.
pub(super) const CALLS: [&str; 5] = ["ordinary", "health", "pipeline", "transaction", "reconnect"];

/// Program, mode, call (or all) and reason of what goes wrong and is left so.
const KNOWN: &[(&str, &str, Option<&str>, &str)] = &[(
    "node-redis 5",
    "sentinel",
    Some("reconnect"),
    "it never comes back once all sentinels were gone at once, with Redis's own neither",
)];

/// What became of a call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Cell {
    /// The program was content, and its values are in Kafka.
    Good,
    /// It has no such call.
    Absent,
    /// What went wrong.
    Wrong(String),
    /// What goes wrong, why, and is left so.
    Known(&'static str),
}

/// A program in a mode.
#[derive(Clone, Debug)]
pub(super) struct Row {
    pub(super) program: String,
    pub(super) version: String,
    pub(super) mode: String,
    /// The program itself, or its bytes replayed.
    pub(super) real: bool,
    pub(super) cells: Vec<Cell>,
}

impl Row {
    /// From what a program printed.
    pub(super) fn real(program: &str, mode: &str, told: &str, errors: &str) -> Self {
        let after = |start: &str| told.lines().find_map(|line| line.strip_prefix(start)).map(str::trim);
        let cell = |call: &&str| match after(&format!("{call} ")) {
            Some("ok") => Cell::Good,
            Some("absent") => Cell::Absent,
            Some(error) => Cell::Wrong(error.to_owned()),
            None => {
                let why = after("start ").map(str::to_owned);
                let last = || errors.lines().rev().take(3).collect::<Vec<_>>().join(" ");
                Cell::Wrong(format!("never told: {}", why.unwrap_or_else(last)))
            }
        };
        Self {
            program: program.to_owned(),
            version: after("version ").unwrap_or("?").to_owned(),
            mode: mode.to_owned(),
            real: true,
            cells: CALLS.iter().map(cell).collect(),
        }
    }

    /// Marks what is known to go wrong in this mode; what does not go wrong any more is told as wrong.
    pub(super) fn excuse(&mut self) {
        for (program, mode, call, why) in KNOWN {
            if (*program, *mode) != (self.program.as_str(), self.mode.as_str()) {
                continue;
            }
            for (cell, name) in self.cells.iter_mut().zip(CALLS) {
                if call.is_none_or(|call| call == name) {
                    *cell = match cell {
                        Cell::Wrong(_) => Cell::Known(why),
                        _ => Cell::Wrong("goes well, and KNOWN says that it does not".to_owned()),
                    };
                }
            }
        }
    }

    /// Nothing of it went wrong.
    pub(super) fn is_good(&self) -> bool {
        self.cells.iter().all(|cell| !matches!(cell, Cell::Wrong(_)))
    }
}

/// As it stands in `tests/clients/MATRIX.md`.
pub(super) fn written(rows: &[Row]) -> String {
    let mut text = String::from(
        "# Client matrix\n\nWritten by `make matrix`; every value that a call sent was found in Kafka. \"–\": the program has no such \
         call, or no such call in that mode. \"replayed\": the program cannot be had here; what it sends, by its documentation and source, was \
         sent byte for byte.\n\n| program | version | mode | ",
    );
    text.push_str(&CALLS.join(" | "));
    text.push_str(" | |\n|---|---|---|---|---|---|---|---|---|\n");
    for row in rows {
        let cells: Vec<String> = row
            .cells
            .iter()
            .map(|cell| match cell {
                Cell::Good => "ok".to_owned(),
                Cell::Absent => "–".to_owned(),
                Cell::Known(why) => format!("no: {why}"),
                Cell::Wrong(why) => format!("FAILED: {}", why.replace('|', "/")),
            })
            .collect();
        let kind = if row.real { "real" } else { "replayed" };
        let _ = writeln!(text, "| {} | {} | {} | {} | {kind} |", row.program, row.version, row.mode, cells.join(" | "));
    }
    text
}
