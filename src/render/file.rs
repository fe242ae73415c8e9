//! Replacing a program's file: checked, in one step, and undone where the program does not take it.
//!
//! While a change is under way the file before it stands beside the new one as `.NAME.tidegate-old` (empty and
//! `.NAME.tidegate-none` where there was no file). A process that ends in between leaves that behind, by which the next one
//! knows that the file in place was never taken by the program.

use std::fs::{self, File, Permissions};
use std::io::{self, Write as _};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::TemplateConfig;
use super::command::{self, CommandError};

/// One file, and how a program takes it.
#[derive(Clone, Debug)]
pub struct Apply {
    output: PathBuf,
    check: Vec<String>,
    reload: Vec<String>,
    mode: u32,
    timeout: Duration,
}

/// What became of a new content.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It is what was there.
    Unchanged,
    /// It is in place; the program reads it when it starts next.
    Written,
    /// It is in place, and the program was told.
    Reloaded,
}

/// Why a new content is not in place.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    /// The file system.
    #[error("{}: {cause}", file.display())]
    Io {
        /// The file.
        file: PathBuf,
        /// What the system said.
        cause: io::Error,
    },
    /// The check refused it; nothing changed.
    #[error("{}: the check refuses it, and the old file stays: {cause}", file.display())]
    Check {
        /// The file.
        file: PathBuf,
        /// What the check said.
        cause: CommandError,
    },
    /// The program was not reloaded; the old file is back.
    #[error("{}: the reload failed, and the old file is back{again}: {cause}", file.display())]
    Reload {
        /// The file.
        file: PathBuf,
        /// What the command said.
        cause: CommandError,
        /// What came of the reload with the old file, where that failed too.
        again: String,
    },
}

// === impl Apply ===

impl Apply {
    /// As the configuration says.
    pub fn new(config: &TemplateConfig) -> Self {
        let TemplateConfig { output, check, reload, mode, command_timeout, .. } = config.clone();
        Self { output, check, reload, mode, timeout: command_timeout }
    }

    /// The file.
    pub fn output(&self) -> &Path {
        &self.output
    }

    /// The reload key of what the program was last told of; `None` where that is not known.
    pub fn key(&self) -> Option<String> {
        fs::read_to_string(self.beside("key")).ok().filter(|_| self.output.exists())
    }

    /// Keeps a reload key for the next process. Without it that one reloads once more, which does no harm.
    pub fn keep_key(&self, key: &str) {
        let new = self.beside("key-new");
        if let Err(error) = fs::write(&new, key).and_then(|()| fs::rename(&new, self.beside("key"))) {
            tracing::warn!(file = %self.output.display(), %error, "its reload key cannot be kept");
        }
    }

    /// How the content would change, for people to read; empty where it would not.
    pub fn diff(&self, new: &str) -> String {
        let old = fs::read_to_string(&self.output).unwrap_or_default();
        if old == new {
            return String::new();
        }
        let name = self.output.display().to_string();
        let diff = similar::TextDiff::from_lines(old.as_str(), new);
        diff.unified_diff().context_radius(3).header(&name, &format!("{name} (new)")).to_string()
    }

    /// Makes this the content; with `reload` the program is told.
    ///
    /// # Errors
    /// Then the content is what it was, and the program uses it.
    pub async fn apply(&self, new: &str, reload: bool) -> Result<Outcome, FileError> {
        let io = |cause: io::Error| FileError::Io { file: self.output.clone(), cause };
        let unfinished = self.unfinished();
        let same = fs::read(&self.output).is_ok_and(|old| old == new.as_bytes());
        if same && !unfinished {
            return Ok(Outcome::Unchanged);
        }
        let fresh = self.beside("new");
        self.write(&fresh, new).map_err(io)?;
        let checked_before = self.check.iter().any(|word| word.contains("{file}"));
        if checked_before {
            let checked = command::run(&self.check, &fresh.display().to_string(), self.timeout).await;
            if let Err(cause) = checked {
                // Nothing was changed; that the file stays behind does no harm.
                let _ = fs::remove_file(&fresh);
                return Err(FileError::Check { file: self.output.clone(), cause });
            }
        }
        if !unfinished {
            self.set_aside().map_err(io)?;
        }
        fs::rename(&fresh, &self.output).map_err(io)?;
        let place = self.output.display().to_string();
        if !checked_before && let Err(cause) = command::run(&self.check, &place, self.timeout).await {
            self.bring_back().map_err(io)?;
            return Err(FileError::Check { file: self.output.clone(), cause });
        }
        // One that another process left behind may have been read by no program.
        let reload = (reload || unfinished) && !self.reload.is_empty();
        if reload && let Err(cause) = command::run(&self.reload, &place, self.timeout).await {
            self.bring_back().map_err(io)?;
            let again = command::run(&self.reload, &place, self.timeout).await;
            let again = again.err().map(|error| format!(", which could not be reloaded either ({error})"));
            return Err(FileError::Reload { file: self.output.clone(), cause, again: again.unwrap_or_default() });
        }
        self.finish().map_err(io)?;
        Ok(if reload { Outcome::Reloaded } else { Outcome::Written })
    }

    fn write(&self, path: &Path, content: &str) -> io::Result<()> {
        let mut file = File::create(path)?;
        file.write_all(content.as_bytes())?;
        match fs::metadata(&self.output) {
            Ok(old) => {
                file.set_permissions(Permissions::from_mode(old.mode() & 0o7777))?;
                let own = file.metadata()?;
                if (own.uid(), own.gid()) != (old.uid(), old.gid()) {
                    std::os::unix::fs::fchown(&file, Some(old.uid()), Some(old.gid()))?;
                    // A change of owner takes bits away.
                    file.set_permissions(Permissions::from_mode(old.mode() & 0o7777))?;
                }
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                file.set_permissions(Permissions::from_mode(self.mode))?;
            }
            Err(error) => return Err(error),
        }
        file.sync_all()
    }

    fn unfinished(&self) -> bool {
        self.beside("old").exists() || self.beside("none").exists()
    }

    /// The file before is kept by a second name, so that there is one in place at every moment.
    fn set_aside(&self) -> io::Result<()> {
        match fs::hard_link(&self.output, self.beside("old")) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => File::create(self.beside("none")).map(drop),
            outcome => outcome,
        }
    }

    fn bring_back(&self) -> io::Result<()> {
        let old = self.beside("old");
        if old.exists() {
            return fs::rename(old, &self.output);
        }
        fs::remove_file(&self.output)?;
        fs::remove_file(self.beside("none"))
    }

    fn finish(&self) -> io::Result<()> {
        for name in ["old", "none"] {
            match fs::remove_file(self.beside(name)) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
        Ok(())
    }

    fn beside(&self, what: &str) -> PathBuf {
        let name = self.output.file_name().unwrap_or_default().to_string_lossy();
        self.output.with_file_name(format!(".{name}.tidegate-{what}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Place {
        directory: tempfile::TempDir,
    }

    impl Place {
        fn new() -> Self {
            Self { directory: tempfile::tempdir().unwrap() }
        }

        fn path(&self, name: &str) -> PathBuf {
            self.directory.path().join(name)
        }

        fn read(&self, name: &str) -> String {
            fs::read_to_string(self.path(name)).unwrap_or_else(|_| "-".to_owned())
        }

        /// A program that takes files without "bad" for its check and without "worse" for its reload; each reload is noted.
        fn apply(&self, check: &str) -> Apply {
            let words = |script: String| vec!["sh".to_owned(), "-c".to_owned(), script];
            let (file, log) = (self.path("conf"), self.path("reloads"));
            let check = check.replace("PLACE", &file.display().to_string());
            Apply {
                output: file.clone(),
                check: words(check),
                reload: words(format!("cat {0} >> {1}; ! grep -q worse {0}", file.display(), log.display())),
                mode: 0o640,
                timeout: Duration::from_secs(5),
            }
        }

        /// The names that are there.
        fn names(&self) -> Vec<String> {
            let entries = fs::read_dir(self.directory.path()).unwrap();
            let mut names: Vec<_> = entries.map(|it| it.unwrap().file_name().to_string_lossy().into_owned()).collect();
            names.sort();
            names
        }
    }

    const BEFORE: &str = "! grep -q bad {file}";
    const IN_PLACE: &str = "! grep -q bad PLACE";

    #[tokio::test]
    async fn a_content_is_checked_put_in_place_and_told_once() {
        let place = Place::new();
        let apply = place.apply(BEFORE);
        assert_eq!(apply.apply("one\n", true).await.unwrap(), Outcome::Reloaded);
        assert_eq!(apply.apply("one\n", true).await.unwrap(), Outcome::Unchanged);
        assert_eq!(apply.apply("two\n", false).await.unwrap(), Outcome::Written);
        assert_eq!((place.read("conf"), place.read("reloads")), ("two\n".into(), "one\n".into()));
        assert_eq!(place.names(), ["conf", "reloads"]);
        assert_eq!(fs::metadata(place.path("conf")).unwrap().mode() & 0o777, 0o640);
        assert!(apply.diff("three\n").contains("-two\n+three\n"));
        assert_eq!(apply.diff("two\n"), "");
    }

    #[tokio::test]
    async fn what_the_check_refuses_changes_nothing_wherever_it_looks() {
        for check in [BEFORE, IN_PLACE] {
            let place = Place::new();
            let apply = place.apply(check);
            assert!(matches!(apply.apply("bad\n", true).await, Err(FileError::Check { .. })), "the first one");
            assert_eq!(place.names(), [""; 0], "{check}");
            apply.apply("good\n", true).await.unwrap();
            assert!(matches!(apply.apply("bad\n", true).await, Err(FileError::Check { .. })));
            assert_eq!((place.read("conf"), place.read("reloads")), ("good\n".into(), "good\n".into()), "{check}");
            assert_eq!(place.names(), ["conf", "reloads"]);
        }
    }

    #[tokio::test]
    async fn a_reload_that_fails_brings_the_old_file_back_and_reloads_that() {
        let place = Place::new();
        let apply = place.apply(BEFORE);
        assert!(matches!(apply.apply("worse\n", true).await, Err(FileError::Reload { .. })));
        assert_eq!(place.names(), ["reloads"], "there was no file before");
        apply.apply("good\n", true).await.unwrap();
        fs::write(place.path("reloads"), "").unwrap();
        let error = apply.apply("worse\n", true).await.unwrap_err();
        assert!(matches!(&error, FileError::Reload { again, .. } if again.is_empty()), "{error}");
        assert_eq!((place.read("conf"), place.read("reloads")), ("good\n".into(), "worse\ngood\n".into()));
        assert_eq!(place.names(), ["conf", "reloads"]);
    }

    #[tokio::test]
    async fn owner_and_mode_of_the_file_stay() {
        let place = Place::new();
        let apply = place.apply(BEFORE);
        fs::write(place.path("conf"), "old\n").unwrap();
        fs::set_permissions(place.path("conf"), Permissions::from_mode(0o604)).unwrap();
        let root = rustix::process::geteuid().is_root();
        if root {
            std::os::unix::fs::chown(place.path("conf"), Some(1234), Some(4321)).unwrap();
        }
        apply.apply("new\n", true).await.unwrap();
        let now = fs::metadata(place.path("conf")).unwrap();
        assert_eq!(now.mode() & 0o777, 0o604);
        assert!(!root || (now.uid(), now.gid()) == (1234, 4321));
    }

    #[tokio::test]
    async fn a_change_that_was_cut_off_is_told_to_the_program_by_the_next_process() {
        let place = Place::new();
        let apply = place.apply(BEFORE);
        apply.apply("one\n", true).await.unwrap();
        // As a process leaves it that is killed between the rename and the reload.
        fs::hard_link(place.path("conf"), place.path(".conf.tidegate-old")).unwrap();
        fs::write(place.path("next"), "two\n").unwrap();
        fs::rename(place.path("next"), place.path("conf")).unwrap();
        assert_eq!(apply.apply("two\n", false).await.unwrap(), Outcome::Reloaded);
        assert_eq!(place.read("reloads"), "one\ntwo\n");
        assert_eq!(place.names(), ["conf", "reloads"]);
    }
}
