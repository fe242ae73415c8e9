//! How a list or a watch ends, and what follows from it.

use crate::net::fetch::flat;

/// Why a list or a watch ended.
#[derive(Debug)]
pub(super) enum End {
    /// At its time.
    Closed,
    /// The version is forgotten: list again.
    Gone,
    /// The server cannot stream a list.
    CannotStream,
    /// The kind of object is not known, or not for us.
    Absent(String),
    /// Nobody listens any more.
    Deaf,
    /// Anything else, which may go away.
    Failed(String),
}

/// What was asked when something was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Asked {
    StreamedList,
    List,
    /// A watch from a version of which all is known.
    Watch,
}

// === impl End ===

impl End {
    pub(super) fn of(error: kube::Error, asked: Asked) -> Self {
        match error {
            kube::Error::Api(status) => Self::of_status(status.code, &status.message, asked),
            error => Self::Failed(flat(&error)),
        }
    }

    pub(super) fn of_status(code: u16, message: &str, asked: Asked) -> Self {
        match code {
            // The initial events are refused as an invalid field where they are not known.
            400 | 422 if asked == Asked::StreamedList => Self::CannotStream,
            // What was for us is so again when the API server has read its rules, or whoever changed them has seen it.
            403 if asked == Asked::Watch => Self::Failed(format!("the API server says {code}: {message}")),
            403 | 404 => Self::Absent(format!("the API server says {code}: {message}")),
            410 => Self::Gone,
            _ => Self::Failed(format!("the API server says {code}: {message}")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_api_server_says_decides_what_comes_next() {
        use Asked::{List, StreamedList, Watch};
        assert!(matches!(End::of_status(410, "", Watch), End::Gone));
        assert!(matches!(End::of_status(404, "", Watch), End::Absent(_)));
        assert!(matches!(End::of_status(403, "", StreamedList), End::Absent(_)));
        assert!(matches!(End::of_status(403, "", List), End::Absent(_)));
        assert!(matches!(End::of_status(403, "", Watch), End::Failed(_)), "it was for us a moment ago");
        assert!(matches!(End::of_status(422, "sendInitialEvents is forbidden", StreamedList), End::CannotStream));
        assert!(matches!(End::of_status(422, "", Watch), End::Failed(_)));
        assert!(matches!(End::of_status(429, "", StreamedList), End::Failed(_)));
    }
}
