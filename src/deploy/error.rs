//! Why a command did not do what was asked for, and the exit code by which CI tells.

use std::io;

/// Why.
#[derive(Debug, thiserror::Error)]
pub enum DeployError {
    /// The kubeconfig.
    #[error(
        "the cluster cannot be reached: {0}; name a kubeconfig by --kubeconfig or KUBECONFIG, and a context by --context"
    )]
    Access(String),
    /// The API server was not reached, or did not answer.
    #[error("{what}: {cause}")]
    Unreachable {
        /// What was asked of it.
        what: String,
        /// What happened.
        cause: String,
    },
    /// The API server does not let this user.
    #[error("{what}: {cause}; the rights that these commands need are in deploy/kubernetes/control-users.yaml")]
    Forbidden {
        /// What was asked of it.
        what: String,
        /// Its word.
        cause: String,
    },
    /// The API server refuses it.
    #[error("{what}: {cause}")]
    Refused {
        /// What was asked of it.
        what: String,
        /// Its word.
        cause: String,
    },
    /// The cluster does not know the resources.
    #[error("the cluster knows no {0} of tidegate.dev: tidegate crd | kubectl apply -f -")]
    NotInstalled(&'static str),
    /// What was named is not there.
    #[error("{0}")]
    Unknown(String),
    /// It makes no sense as things are.
    #[error("{0}")]
    Useless(String),
    /// A release has stopped because something failed, and waits for people.
    #[error("{0}")]
    Stopped(String),
    /// A release has ended otherwise than was asked for.
    #[error("{0}")]
    EndedOtherwise(String),
    /// Another release took its place.
    #[error("{0}")]
    Superseded(String),
    /// It has not ended in time; it goes on.
    #[error("{0}")]
    Late(String),
    /// Standard output or the runtime.
    #[error(transparent)]
    Io(#[from] io::Error),
}

/// The exit codes of commands that wait, for `--help`.
pub const EXIT_CODES: &str = "Exit codes:
  0  done; with --wait: it ended as was asked for
  1  it could not be done: the cluster, its word, or something that is not there
  2  a bad command line
  3  with --wait: it has stopped because its pods or its gate failed, and waits for a person
  4  with --wait: it ended otherwise: what it brought has no traffic (or, after abort and freeze, has all)
  5  with --wait: a newer release took its place
  6  with --wait: --timeout-seconds is over; the release goes on";

// === impl DeployError ===

impl DeployError {
    /// What the process ends with.
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Stopped(_) => 3,
            Self::EndedOtherwise(_) => 4,
            Self::Superseded(_) => 5,
            Self::Late(_) => 6,
            _ => 1,
        }
    }
}
