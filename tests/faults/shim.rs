//! The shim that is preloaded into Tidegate: see `shim/shim.c`.

use crate::bed::{WorkDir, source};
use std::fs::{File, OpenOptions};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

/// Bytes of the control file: words, then the trace.
const SIZE: u64 = 1 << 20;
const TRACE_AT: u64 = 4096;
const TRACE_ENTRY: usize = 128;
const TRACE_ENTRIES: u64 = (SIZE - TRACE_AT) / TRACE_ENTRY as u64;

/// The control file of one Tidegate's shim.
pub(crate) struct Shim {
    control: File,
    path: PathBuf,
}

/// A kind of operation on the disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Write,
    Sync,
    Create,
    Rename,
    Remove,
    Truncate,
    MakeDirectory,
}

/// What happens to an operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Action {
    /// The process is killed before it.
    KillBefore,
    /// After half of a write; before anything else.
    KillWithin,
    /// After it.
    KillAfter,
    /// A write writes half and says so.
    WriteHalf,
    /// It fails with this error number.
    Fail(i32),
}

/// Everything that changes the disk.
pub(crate) const ALL: &[Kind] =
    &[Kind::Write, Kind::Sync, Kind::Create, Kind::Rename, Kind::Remove, Kind::Truncate, Kind::MakeDirectory];

/// The words of the control file, as `shim.c` has them.
#[derive(Clone, Copy)]
enum Word {
    Clock,
    Action,
    Kinds,
    Number,
    Times,
    Matched,
    Fired,
    Total,
}

impl Shim {
    /// A control file in this directory; nothing is changed yet.
    pub(crate) fn new(directory: &WorkDir) -> Self {
        let path = directory.path().join("shim");
        let control =
            OpenOptions::new().read(true).write(true).create(true).truncate(true).open(&path).expect("a file");
        control.set_len(SIZE).expect("a file's size");
        Self { control, path }
    }

    /// What Tidegate's environment needs. Operations under `directory` are counted.
    pub(crate) fn environment(&self, directory: &Path) -> Vec<(String, String)> {
        let text = |path: &Path| path.to_str().expect("a path of ours").to_owned();
        vec![
            ("LD_PRELOAD".to_owned(), text(library())),
            ("TIDEGATE_SHIM_CONTROL".to_owned(), text(&self.path)),
            ("TIDEGATE_SHIM_DIRECTORY".to_owned(), text(directory)),
        ]
    }

    /// Moves Tidegate's wall clock so far from the true time.
    pub(crate) fn set_clock(&self, seconds: i64) {
        self.write(Word::Clock, seconds);
    }

    /// From now on, what is meant is the `number`th operation (from 1) of these kinds and, of those after it, so many that
    /// there are `times` in all (`None`: for ever).
    pub(crate) fn arm(&self, action: Action, kinds: &[Kind], number: u64, times: Option<u64>) {
        self.disarm();
        self.write(Word::Matched, 0);
        self.write(Word::Fired, 0);
        self.write(Word::Kinds, kinds.iter().fold(0, |bits, kind| bits | 1 << *kind as i64));
        self.write(Word::Number, number.cast_signed());
        self.write(Word::Times, times.map_or(-1, u64::cast_signed));
        let action = match action {
            Action::KillBefore => 1,
            Action::KillWithin => 2,
            Action::KillAfter => 3,
            Action::WriteHalf => 4,
            Action::Fail(error) => 100 + i64::from(error),
        };
        self.write(Word::Action, action);
    }

    /// Nothing goes wrong from now on.
    pub(crate) fn disarm(&self) {
        self.write(Word::Action, 0);
    }

    /// How many operations went wrong since it was armed.
    pub(crate) fn fired(&self) -> u64 {
        self.read(Word::Fired).cast_unsigned()
    }

    /// Every operation so far, each as `kind path`; the earliest are forgotten when there are thousands.
    pub(crate) fn trace(&self) -> Vec<String> {
        let total = self.read(Word::Total).cast_unsigned();
        let places = total.saturating_sub(TRACE_ENTRIES)..total;
        let entry = |place: u64| {
            let mut bytes = [0; TRACE_ENTRY];
            let at = TRACE_AT + place % TRACE_ENTRIES * TRACE_ENTRY as u64;
            self.control.read_exact_at(&mut bytes, at).expect("the control file");
            let end = bytes.iter().position(|byte| *byte == 0).unwrap_or(TRACE_ENTRY);
            String::from_utf8_lossy(&bytes[..end]).into_owned()
        };
        places.map(entry).collect()
    }

    fn write(&self, word: Word, value: i64) {
        self.control.write_all_at(&value.to_ne_bytes(), word as u64 * 8).expect("the control file");
    }

    fn read(&self, word: Word) -> i64 {
        let mut bytes = [0; 8];
        self.control.read_exact_at(&mut bytes, word as u64 * 8).expect("the control file");
        i64::from_ne_bytes(bytes)
    }
}

/// The compiled shim, made once per process.
fn library() -> &'static Path {
    static LIBRARY: OnceLock<PathBuf> = OnceLock::new();
    LIBRARY.get_or_init(|| {
        let library = Path::new(env!("CARGO_TARGET_TMPDIR")).join("shim.so");
        // Another run may be loading the last one: it is replaced in one step.
        let new = library.with_extension(std::process::id().to_string());
        let output = Command::new("cc")
            .args(["-shared", "-fPIC", "-O1", "-Wall", "-Wextra", "-Werror", "-o"])
            .arg(&new)
            .arg(source("faults/shim/shim.c"))
            .arg("-ldl")
            .output()
            .expect("cc starts");
        assert!(output.status.success(), "cc: {}", String::from_utf8_lossy(&output.stderr));
        std::fs::rename(&new, &library).expect("the compiled shim");
        library
    })
}
