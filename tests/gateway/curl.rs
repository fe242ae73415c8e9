//! curl, as the ordinary client.

use std::collections::BTreeMap;
use std::process::Command;

use serde_json::Value;

use crate::bed::require_gateway;

/// What curl got.
#[derive(Debug)]
pub(crate) struct Answer {
    /// curl's own exit code; 0 is a whole answer.
    pub(crate) exit: i32,
    /// The last answer's status; 0 without one.
    pub(crate) status: u16,
    /// `1.1` or `2`.
    pub(crate) version: String,
    /// All heads, interim ones and trailers included, a field a line.
    pub(crate) head: String,
    pub(crate) body: Vec<u8>,
    /// How long it took.
    pub(crate) seconds: f64,
    /// What curl said of an error.
    pub(crate) said: String,
}

/// Runs curl with these arguments, which name the URL.
pub(crate) fn curl(arguments: &[&str]) -> Answer {
    require_gateway();
    let directory = tempfile::tempdir().expect("a directory");
    let (head, body) = (directory.path().join("head"), directory.path().join("body"));
    let output = Command::new("curl")
        .args(["-sS", "--max-time", "30", "-w", "%{http_code} %{http_version} %{time_total}", "-D"])
        .arg(&head)
        .arg("-o")
        .arg(&body)
        .args(arguments)
        .output()
        .expect("curl starts");
    let written = String::from_utf8_lossy(&output.stdout).into_owned();
    let mut words = written.split(' ');
    let mut word = || words.next().unwrap_or_default().to_owned();
    let read = |path| std::fs::read(path).unwrap_or_default();
    Answer {
        exit: output.status.code().unwrap_or(-1),
        status: word().parse().unwrap_or(0),
        version: word(),
        seconds: word().parse().unwrap_or(0.0),
        head: String::from_utf8_lossy(&read(&head)).into_owned(),
        body: read(&body),
        said: String::from_utf8_lossy(&output.stderr).into_owned(),
    }
}

// === impl Answer ===

impl Answer {
    /// The body as text.
    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// The values of a field, by its name in whatever case.
    pub(crate) fn fields(&self, name: &str) -> Vec<&str> {
        let fields = self.head.lines().filter_map(|line| line.split_once(':'));
        fields.filter(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value.trim()).collect()
    }

    /// The first value of a field.
    pub(crate) fn field(&self, name: &str) -> Option<&str> {
        self.fields(name).first().copied()
    }

    /// The reason that the gateway gives.
    pub(crate) fn reason(&self) -> Option<&str> {
        self.field("tidegate-reason")
    }

    /// Who answered.
    pub(crate) fn instance(&self) -> &str {
        self.field("x-instance").unwrap_or("")
    }

    /// What arrived at a back end, from the body of its echo.
    pub(crate) fn echo(&self) -> Echo {
        assert_eq!((self.exit, self.status), (0, 200), "{self:?}");
        Echo(serde_json::from_slice(&self.body).unwrap_or_else(|e| panic!("{e}: {}", self.text())))
    }

    /// Panics unless it is this status with this reason.
    pub(crate) fn assert_refused(&self, status: u16, reason: &str) {
        assert_eq!((self.status, self.reason()), (status, Some(reason)), "{}: {self:?}", self.said);
    }
}

/// What arrived at a back end.
pub(crate) struct Echo(Value);

// === impl Echo ===

impl Echo {
    /// A text of the echo (`method`, `target`, `host`, `protocol`, `body_sha256`, `connection`).
    pub(crate) fn text(&self, name: &str) -> &str {
        self.0[name].as_str().unwrap_or_else(|| panic!("no text {name} in {}", self.0))
    }

    /// A number of the echo (`content_length`, `body_bytes`).
    pub(crate) fn number(&self, name: &str) -> i64 {
        self.0[name].as_i64().unwrap_or_else(|| panic!("no number {name} in {}", self.0))
    }

    /// The values of a header as it arrived.
    pub(crate) fn header(&self, name: &str) -> Vec<String> {
        list(&self.0["headers"], name)
    }

    /// All headers as they arrived.
    pub(crate) fn headers(&self) -> BTreeMap<String, Vec<String>> {
        serde_json::from_value(self.0["headers"].clone()).expect("headers")
    }
}

fn list(fields: &Value, name: &str) -> Vec<String> {
    let found = fields.as_object().and_then(|fields| fields.iter().find(|(key, _)| key.eq_ignore_ascii_case(name)));
    let values = found.and_then(|(_, values)| values.as_array()).into_iter().flatten();
    values.map(|value| value.as_str().expect("a text").to_owned()).collect()
}
