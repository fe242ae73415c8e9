//! Files with secrets. Their content appears in no message.

use std::path::Path;

/// A secret file's text without the newline at its end. The error names the file and is ready for a problem's text.
pub(super) fn read(path: &str) -> Result<String, String> {
    let bytes = std::fs::read(Path::new(path)).map_err(|error| format!("{path}: cannot be read: {error}"))?;
    let text = String::from_utf8(bytes).map_err(|_| format!("{path}: is not UTF-8 text"))?;
    let text = text.strip_suffix('\n').unwrap_or(&text);
    let text = text.strip_suffix('\r').unwrap_or(text);
    if text.is_empty() {
        return Err(format!("{path}: is empty: write the secret into it"));
    }
    Ok(text.to_owned())
}
