//! The table of features in `README.md` names tests that are there.

use std::path::Path;

/// The tests that stand in the table, `MODULE::FUNCTION`: the last cell of each row.
fn named(table: &str) -> Vec<&str> {
    let rows = table.lines().filter(|line| line.starts_with("| ") && !line.starts_with("| feature"));
    rows.map(|row| row.trim_end_matches(" |").rsplit(" | ").next().unwrap_or_default().trim_matches('`')).collect()
}

/// What is wrong with a name.
fn fault(name: &str, directory: &Path) -> Option<String> {
    let Some((module, function)) = name.split_once("::") else {
        return Some(format!("{name:?} is no MODULE::FUNCTION"));
    };
    let file = directory.join(format!("{module}.rs"));
    let Ok(text) = std::fs::read_to_string(&file) else {
        return Some(format!("{name}: there is no {}", file.display()));
    };
    let is_there = text.contains(&format!("#[test]\nfn {function}()"));
    (!is_there).then(|| format!("{name}: there is no such test"))
}

#[test]
fn every_test_that_the_table_of_features_names_is_there() {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/gateway");
    let table = std::fs::read_to_string(directory.join("README.md")).unwrap();
    let named = named(&table);
    assert!(named.len() > 50, "not a table any more: {named:?}");
    let faults: Vec<String> = named.iter().filter_map(|name| fault(name, &directory)).collect();
    assert!(faults.is_empty(), "{}", faults.join("\n"));
    for none in ["nothing", "nowhere::it", "table::none"] {
        assert!(fault(none, &directory).is_some(), "{none}");
    }
}
