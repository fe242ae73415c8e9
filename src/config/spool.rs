//! `[log.spool]`.

use std::path::PathBuf;
use std::time::Duration;

use super::section::Section;
use crate::base::units::ByteSize;
use crate::spool::SpoolConfig;

const MIB: u64 = 1 << 20;
const GIB: u64 = 1 << 30;

pub(super) fn read(mut section: Section<'_>) -> SpoolConfig {
    let directory = section.text("directory").unwrap_or_default().to_owned();
    if directory.is_empty() {
        section.problem("directory", "missing: name a directory on a disk that survives a restart");
    }
    section.show("directory", directory.as_str());
    let max_size = section.size("max_size", ByteSize(128 * MIB)..=ByteSize(1 << 50), ByteSize(10 * GIB));
    let spool_after = Duration::from_millis(section.number("spool_after_ms", 1..=600_000, 300));
    let rate = section.text("replay_rate").unwrap_or("unlimited");
    let replay_rate = match rate {
        "unlimited" => None,
        text => match text.parse::<ByteSize>() {
            Ok(ByteSize(rate)) if rate > 0 => Some(rate),
            _ => {
                section.problem("replay_rate", "must be \"unlimited\", or bytes a second as \"10MiB\"");
                None
            }
        },
    };
    section.show("replay_rate", rate);
    section.finish();
    SpoolConfig {
        directory: PathBuf::from(directory),
        max_size: u64::try_from(max_size).unwrap_or(u64::MAX),
        spool_after,
        replay_rate,
    }
}
