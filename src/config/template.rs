//! Checks of the small languages in a route: globs, topic templates, JSON pointers. `record` compiles them later; here
//! they are only proved to make sense together.

/// Kafka's longest topic name.
const MAX_TOPIC: usize = 249;

/// What a topic template asks for.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Needs {
    /// The highest `{N}`; 0 without one.
    pub(super) wildcards: usize,
    /// Whether there is a `{json:…}`.
    pub(super) json: bool,
}

/// Parses a topic template. The error is ready for a problem's text.
pub(super) fn check_topic(template: &str) -> Result<Needs, String> {
    let mut needs = Needs::default();
    let mut literal = String::new();
    let mut places = 0_usize;
    let mut rest = template;
    while let Some((before, after)) = rest.split_once('{') {
        literal.push_str(before);
        let Some((name, behind)) = after.split_once('}') else {
            return Err(format!("{template:?} has a {{ without its }}: close it"));
        };
        check_place(name, &mut needs)?;
        places += 1;
        rest = behind;
    }
    literal.push_str(rest);
    let allowed = |char: char| char.is_ascii_alphanumeric() || matches!(char, '.' | '_' | '-');
    if let Some(char) = literal.chars().find(|char| !allowed(*char)) {
        return Err(format!(
            "{template:?} has {char:?}, which no topic's name may have: use letters, digits, '.', '_' and '-'"
        ));
    }
    if literal.len() > MAX_TOPIC {
        return Err(format!("is longer than Kafka's {MAX_TOPIC} characters: shorten it"));
    }
    if places == 0 && matches!(literal.as_str(), "" | "." | "..") {
        return Err(format!("{template:?} is no topic's name: write one, as \"logs.{{key}}\""));
    }
    Ok(needs)
}

fn check_place(name: &str, needs: &mut Needs) -> Result<(), String> {
    if let Some(pointer) = name.strip_prefix("json:") {
        check_pointer(pointer)?;
        needs.json = true;
        return Ok(());
    }
    match (name, name.parse::<usize>()) {
        ("key" | "db" | "user", _) => Ok(()),
        (_, Ok(number)) if number > 0 => {
            needs.wildcards = needs.wildcards.max(number);
            Ok(())
        }
        _ => Err(format!("{{{name}}} is unknown: use {{key}}, {{1}}, {{db}}, {{user}} or {{json:/POINTER}}")),
    }
}

/// Checks a JSON pointer (RFC 6901) that names a member, not the whole document.
pub(super) fn check_pointer(pointer: &str) -> Result<(), String> {
    let escapes_are_good = pointer.split('~').skip(1).all(|after| after.starts_with(['0', '1']));
    if pointer.starts_with('/') && escapes_are_good {
        return Ok(());
    }
    Err(format!("{pointer:?} is no JSON pointer: begin with /, as /app/name, and write ~ as ~0"))
}

/// How many `*` a glob has outside of its classes.
pub(super) fn count_wildcards(glob: &str) -> usize {
    let mut count = 0;
    let mut in_class = false;
    let mut chars = glob.chars();
    while let Some(char) = chars.next() {
        match char {
            '\\' => drop(chars.next()),
            '[' => in_class = true,
            ']' => in_class = false,
            '*' if !in_class => count += 1,
            _ => {}
        }
    }
    count
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_template_says_what_it_needs() {
        assert_eq!(check_topic("logs.{key}"), Ok(Needs::default()));
        assert_eq!(check_topic("{2}-{1}.{user}.{db}"), Ok(Needs { wildcards: 2, json: false }));
        assert_eq!(check_topic("logs.{json:/app}"), Ok(Needs { wildcards: 0, json: true }));
    }

    #[test]
    fn stars_in_classes_are_no_wildcards() {
        for (glob, count) in [("app-*", 1), ("*-*-log", 2), ("a[*]b*", 1), ("a\\*b", 0), ("app", 0), ("a?", 0)] {
            assert_eq!(count_wildcards(glob), count, "{glob}");
        }
    }
}
