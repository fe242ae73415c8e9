//! The shim that is preloaded into Tidegate: see `shim/shim.c`.

use crate::bed::{WorkDir, source};
use std::fs::{File, OpenOptions};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

/// Bytes of the control file: words, then the trace.
const SIZE: u64 = 1 << 20;

/// The control file of one Tidegate's shim.
pub(crate) struct Shim {
    control: File,
    path: PathBuf,
}

/// The words of the control file, as `shim.c` has them.
#[derive(Clone, Copy)]
enum Word {
    Clock = 0,
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

    fn write(&self, word: Word, value: i64) {
        self.control.write_all_at(&value.to_ne_bytes(), word as u64 * 8).expect("the control file");
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
