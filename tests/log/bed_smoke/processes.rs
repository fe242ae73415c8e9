//! Child processes, directories, and the parts of running Tidegate that need no finished Tidegate.

use super::SOON;
use crate::bed::process::Process;
use crate::bed::{WorkDir, tidegate, wait_until};
use std::process::Command;

#[test]
fn metrics_are_parsed() {
    let text = "# HELP a b\n# TYPE a counter\na 3\nb{x=\"1 2\",y=\"z\"} 1e3\nc +Inf\n\n";
    let metrics = tidegate::parse_metrics(text);
    assert_eq!(metrics["a"], 3.0);
    assert_eq!(metrics[r#"b{x="1 2",y="z"}"#], 1000.0);
    assert!(metrics["c"].is_infinite());
}

#[test]
fn the_program_can_be_run_to_its_end() {
    let output = tidegate::Tidegate::run_to_end(&["--help"]);
    assert!(output.status.success(), "{output:?}");
}

/// Not a test by itself: what the next two start as a process of its own, and let end badly.
#[test]
fn victim() {
    let Ok(way) = std::env::var("TIDEGATE_BED_VICTIM") else {
        return;
    };
    let directory = WorkDir::new("victim");
    directory.write("some.log", "the last words");
    let mut command = Command::new("sh");
    command.args(["-c", "sleep 1000 & echo started; wait"]);
    let child = Process::start(&command, directory.path(), "sleeper");
    wait_until(SOON, "the sleeper", || !child.stdout().is_empty());
    println!(
        "child {} directory {}",
        child.id(),
        directory.path().display()
    );
    assert_ne!(way, "panic", "as told");
    wait_until(SOON * 6, "the end by SIGKILL", || false);
}

fn start_victim(way: &str, directory: &WorkDir) -> Process {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", "bed_smoke::processes::victim"]);
    if way == "kill" {
        // The harness would keep the output of a test that never ends.
        command.arg("--nocapture");
    }
    command.env("TIDEGATE_BED_VICTIM", way);
    Process::start(&command, directory.path(), "victim")
}

/// The victim's child (its process group) and directory.
fn victims(process: &Process) -> Option<(String, String)> {
    let output = String::from_utf8_lossy(&process.stdout()).into_owned();
    let (_, rest) = output.split_once("child ")?;
    let (child, rest) = rest.split_once(" directory ")?;
    let (directory, _) = rest.split_once('\n')?;
    Some((child.to_owned(), directory.to_owned()))
}

fn group_lives(group: &str) -> bool {
    std::fs::read_dir("/proc")
        .unwrap()
        .flatten()
        .any(|process| {
            let stat = std::fs::read_to_string(process.path().join("stat")).unwrap_or_default();
            let fields = stat.rsplit_once(')').map_or("", |(_, rest)| rest);
            let fields: Vec<&str> = fields.split_whitespace().collect();
            // A dead process that nobody has waited for is still listed.
            fields.get(2) == Some(&group) && fields.first() != Some(&"Z")
        })
}

#[test]
fn children_and_directories_go_with_a_killed_test_process() {
    let directory = WorkDir::new("killer");
    let mut victim = start_victim("kill", &directory);
    wait_until(SOON, "the victim's child", || victims(&victim).is_some());
    let (child, work) = victims(&victim).unwrap();
    assert!(group_lives(&child));
    assert!(std::path::Path::new(&work).exists());
    victim.kill9();
    wait_until(SOON, "the child's end", || !group_lives(&child));
    wait_until(SOON, "the directory's end", || {
        !std::path::Path::new(&work).exists()
    });
}

#[test]
fn a_failing_test_keeps_its_directory_and_prints_its_logs() {
    let directory = WorkDir::new("watcher");
    let mut victim = start_victim("panic", &directory);
    assert_eq!(victim.wait(SOON).code(), Some(101));
    let (child, work) = victims(&victim).unwrap();
    assert!(!group_lives(&child));
    let output = String::from_utf8_lossy(&victim.stdout()).into_owned();
    assert!(output.contains("the last words"), "{output}");
    assert!(output.contains(&work), "{output}");
    std::fs::remove_dir_all(&work).unwrap();
}
