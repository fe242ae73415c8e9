//! What a route adds to its records: who sent them, from where, when. Put together once for a connection's key, so that a
//! record costs a copy.
//!
//! [`facts`] names what is known; the form then decides how it is written: as Kafka headers, or into the record itself by
//! [`fields`], which never changes what the sender wrote.

mod facts;
mod fields;

pub use facts::Facts;

use super::config::{EnrichAs, EnrichConfig};
use super::headers::{Headers, HeadersBuf};
use super::sink::{HEADER_COST, Record};
use fields::Fields;

/// What differs from record to record.
#[derive(Clone, Copy, Debug)]
pub struct Moment<'a> {
    /// The record's own id, stable through replays.
    pub id: &'a str,
    /// When it came, in RFC 3339.
    pub received: &'a str,
    /// The same in Unix milliseconds.
    pub received_ms: i64,
}

/// What is added to every record of one connection, key and route.
#[derive(Clone, Debug)]
pub struct Enrichment {
    id: bool,
    received: bool,
    form: Form,
}

#[derive(Clone, Debug)]
enum Form {
    Headers(HeadersBuf),
    Fields(Fields),
}

/// Memory for one record at a time.
#[derive(Debug, Default)]
pub struct Scratch {
    value: Vec<u8>,
    headers: HeadersBuf,
}

// === impl Enrichment ===

impl Enrichment {
    /// Puts together what `config` asks for.
    pub fn new(config: &EnrichConfig, facts: &Facts<'_>) -> Self {
        let named = facts.named(config);
        let form = match config.form {
            EnrichAs::Headers => {
                let mut headers = HeadersBuf::default();
                named.iter().for_each(|(name, value)| headers.push(&header_name(name), value.as_bytes()));
                Form::Headers(headers)
            }
            EnrichAs::Fields => Form::Fields(Fields::plain(&named)),
            EnrichAs::Gelf => Form::Fields(Fields::gelf(&named, facts.host())),
        };
        Self { id: config.id, received: config.received, form }
    }

    /// About what a record takes more from the byte budget.
    pub fn cost(&self) -> usize {
        const MOMENT: usize = 160;
        match &self.form {
            Form::Headers(headers) => HEADER_COST * (headers.as_headers().as_bytes().len() + MOMENT),
            Form::Fields(fields) => fields.len() + MOMENT,
        }
    }

    /// True where the record itself is written to.
    pub fn writes_value(&self) -> bool {
        matches!(self.form, Form::Fields(_))
    }

    /// The record with what is added, and whether there was anything to add to: a record that is no JSON object stays as it
    /// is. `carried`: what goes with it in any case.
    pub fn apply<'a>(
        &self,
        value: &'a [u8],
        carried: Headers<'a>,
        moment: &Moment<'_>,
        scratch: &'a mut Scratch,
    ) -> (Record<'a>, bool) {
        let own = |id, received| {
            let own = [(id, self.id, moment.id), (received, self.received, moment.received)];
            own.into_iter().filter(|(_, wanted, _)| *wanted).map(|(name, _, value)| (name, value))
        };
        match &self.form {
            Form::Headers(added) => {
                scratch.headers.restart(carried);
                scratch.headers.extend(added.as_headers());
                // As `header_name` has them, without putting them together for each record.
                let own = own("tidegate-id", "tidegate-received");
                own.for_each(|(name, value)| scratch.headers.push(name, value.as_bytes()));
                (Record { headers: scratch.headers.as_headers(), ..Record::plain(value) }, true)
            }
            Form::Fields(fields) => {
                let done = fields.splice(value, own("id", "received"), moment.received_ms, &mut scratch.value);
                let value = if done { &scratch.value } else { value };
                (Record { headers: carried, ..Record::plain(value) }, done)
            }
        }
    }
}

/// `pod_name` → `tidegate-pod-name`; a label's own name stays as it is.
fn header_name(name: &str) -> String {
    match name.strip_prefix(facts::LABEL) {
        Some(label) => format!("tidegate-pod-label-{label}"),
        None => format!("tidegate-{}", name.replace('_', "-")),
    }
}

#[cfg(test)]
mod tests;
