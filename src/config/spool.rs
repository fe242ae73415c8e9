//! `[log.spool]`.

use std::path::PathBuf;
use std::time::Duration;

use super::section::Section;
use crate::base::units::ByteSize;
use crate::spool::SpoolConfig;

const MIB: u64 = 1 << 20;
const GIB: u64 = 1 << 30;
const TIB: u64 = 1 << 40;

/// Four segments of a few of the largest records each; below, one burst would be all that it keeps.
const LEAST: ByteSize = ByteSize(8 * MIB);
/// What an operator means by a replay rate lets a backlog shrink within days.
const SLOWEST_REPLAY: u64 = 1 << 10;

pub(super) fn read(mut section: Section<'_>) -> SpoolConfig {
    let directory = read_directory(&mut section);
    let max_size = section.size("max_size", LEAST..=ByteSize(1024 * TIB), ByteSize(10 * GIB));
    let spool_after = Duration::from_millis(section.number("spool_after_ms", 1..=600_000, 300));
    let replay_rate = read_replay_rate(&mut section);
    section.finish();
    SpoolConfig { directory, max_size: u64::try_from(max_size).unwrap_or(u64::MAX), spool_after, replay_rate }
}

fn read_directory(section: &mut Section<'_>) -> PathBuf {
    let given = section.has("directory");
    let directory = section.text("directory").unwrap_or_default();
    match directory {
        "" if given && section.is_text("directory") => {
            section.problem("directory", "is empty: name a directory on a disk that survives a restart");
        }
        "" if !given => {
            section.problem("directory", "missing: name a directory on a disk that survives a restart");
        }
        "/" => section.problem("directory", "is the root of all files: name a directory for the spool alone"),
        directory => section.show("directory", directory),
    }
    PathBuf::from(directory)
}

fn read_replay_rate(section: &mut Section<'_>) -> Option<u64> {
    let text = section.text("replay_rate").unwrap_or("unlimited");
    section.show("replay_rate", text);
    if text == "unlimited" {
        return None;
    }
    match text.parse() {
        Ok(ByteSize(rate)) if rate >= SLOWEST_REPLAY => return Some(rate),
        Ok(rate) => {
            let fault = format!("{rate} a second is too slow: use at least {}", ByteSize(SLOWEST_REPLAY));
            section.problem("replay_rate", format!("{fault}, or \"unlimited\""));
        }
        Err(_) => section
            .problem("replay_rate", format!("{text:?} is no rate: use \"unlimited\", or bytes a second, as \"20MiB\"")),
    }
    None
}
