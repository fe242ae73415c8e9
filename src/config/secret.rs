//! Files with secrets. Their content appears in no message.

/// A secret's text, of the file's content without the newline at its end. The error is ready for a problem's text.
pub(super) fn text(path: &str, content: Vec<u8>) -> Result<String, String> {
    let text = String::from_utf8(content).map_err(|_| format!("{path}: is not UTF-8 text"))?;
    let text = text.strip_suffix('\n').unwrap_or(&text);
    let text = text.strip_suffix('\r').unwrap_or(text);
    if text.is_empty() {
        return Err(format!("{path}: is empty: write the secret into it"));
    }
    Ok(text.to_owned())
}
