//! Folders of `src` import in one direction only, and files stay small. The compiler does not forbid cycles inside a crate.
#![allow(clippy::unwrap_used, clippy::string_slice, reason = "a test fails by panicking")]

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// From the lowest layer up. A folder imports from the layers before its own, not from its own layer's other folders.
const LAYERS: [&[&str]; 10] = [
    &["base"],
    &["telemetry"],
    &["net", "resp", "record", "kubernetes"],
    &["spool", "endpoints", "pods", "peers"],
    &["delivery", "intake", "discovery", "upstream", "control", "pull"],
    &["gateway", "admin", "tail", "render"],
    &["haproxy", "lvs"],
    &["config", "letters", "show", "deploy"],
    &["app", "lint"],
    &["dev", "hook"],
];
/// On top of all: the command line and the entry points.
const TOP: [&str; 3] = ["cli", "lib", "main"];

const MAX_LINES: usize = 450;
const MAX_MAIN_LINES: usize = 80;

/// The height of a folder; `None` for one that nobody has placed yet.
fn layer(folder: &str) -> Option<usize> {
    if TOP.contains(&folder) {
        return Some(LAYERS.len());
    }
    LAYERS.iter().position(|layer| layer.contains(&folder))
}

/// The folders that a source text names by `crate::folder`, braces included.
fn imports(source: &str) -> BTreeSet<String> {
    let code: String =
        source.lines().filter(|line| !line.trim_start().starts_with("//")).collect::<Vec<_>>().join("\n");
    let mut found = BTreeSet::new();
    for (at, root) in code.match_indices("crate::") {
        // `mycrate::` is something else.
        if code[..at].ends_with(|before: char| before.is_alphanumeric() || before == '_') {
            continue;
        }
        let rest = code[at + root.len()..].trim_start();
        match rest.strip_prefix('{') {
            Some(group) => found.extend(heads_of_group(group)),
            None => found.extend(head(rest)),
        }
    }
    found
}

/// The first names of `a::{b, c}, d::e}`: a and d.
fn heads_of_group(group: &str) -> Vec<String> {
    let mut depth = 1;
    let mut expect = true;
    let mut heads = Vec::new();
    for (at, char) in group.char_indices() {
        match char {
            '{' => depth += 1,
            '}' => depth -= 1,
            ',' if depth == 1 => expect = true,
            char if depth == 1 && expect && !char.is_whitespace() => {
                heads.extend(head(&group[at..]));
                expect = false;
            }
            _ => {}
        }
        if depth == 0 {
            break;
        }
    }
    heads
}

/// The module at the beginning of a path. Names with a capital are items of the crate's root, which has none.
fn head(path: &str) -> Option<String> {
    let name: String = path.chars().take_while(|char| char.is_alphanumeric() || *char == '_').collect();
    (!name.is_empty()).then_some(name)
}

/// What is wrong with one file's imports.
fn faults(folder: &str, source: &str) -> Vec<String> {
    let Some(own) = layer(folder) else { return vec![format!("folder {folder} has no layer: place it in LAYERS")] };
    let mut faults = Vec::new();
    for import in imports(source).into_iter().filter(|import| import != folder) {
        match layer(&import) {
            Some(height) if height < own || own == LAYERS.len() => {}
            Some(_) => faults.push(format!("{folder} imports {import}, which is not below it")),
            None => faults.push(format!("{folder} imports {import}, which has no layer")),
        }
    }
    faults
}

fn sources() -> Vec<(PathBuf, String)> {
    let mut files = Vec::new();
    let mut folders = vec![Path::new(env!("CARGO_MANIFEST_DIR")).join("src")];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let text = fs::read_to_string(&path).unwrap();
                files.push((path.strip_prefix(env!("CARGO_MANIFEST_DIR")).unwrap().to_owned(), text));
            }
        }
    }
    files
}

#[test]
fn folders_import_only_from_those_before_them() {
    let mut found = Vec::new();
    for (path, text) in sources() {
        let folder = path.components().nth(1).unwrap().as_os_str().to_str().unwrap().trim_end_matches(".rs").to_owned();
        found.extend(faults(&folder, &text).into_iter().map(|fault| format!("{}: {fault}", path.display())));
    }
    assert!(found.is_empty(), "{}", found.join("\n"));
}

#[test]
fn no_file_grows_beyond_what_one_reads_at_a_time() {
    let limit = |path: &Path| if path.ends_with("main.rs") { MAX_MAIN_LINES } else { MAX_LINES };
    let long = sources().into_iter().filter(|(path, text)| text.lines().count() > limit(path));
    let long: Vec<_> = long.map(|(path, text)| format!("{}: {} lines", path.display(), text.lines().count())).collect();
    assert!(long.is_empty(), "{}", long.join("\n"));
}

#[test]
fn imports_are_found_however_they_are_written() {
    let source = "
        use crate::base::{units, drain};
        use crate::{record::config::RouteConfig, resp::{self, decode}};
        pub(crate) use crate::admin;
        // use crate::control;
        fn f() -> crate::intake::Session { mycrate::gateway::x() }
        type T = Vec<crate::delivery::Producer>;
    ";
    let found: Vec<_> = imports(source).into_iter().collect();
    assert_eq!(found, ["admin", "base", "delivery", "intake", "record", "resp"]);
}

#[test]
fn an_upward_edge_and_one_between_neighbours_are_faults() {
    assert_eq!(faults("base", "use crate::telemetry::logging;"), ["base imports telemetry, which is not below it"]);
    assert_eq!(
        faults("intake", "use crate::{base::budget, delivery::config};"),
        ["intake imports delivery, which is not below it"]
    );
    assert_eq!(faults("intake", "use crate::intakes::x;"), ["intake imports intakes, which has no layer"]);
    assert_eq!(faults("new", ""), ["folder new has no layer: place it in LAYERS"]);
    assert_eq!(faults("config", "use crate::intake::config; use crate::config::x;"), [""; 0]);
}
