//! `tidegate hook`.

use clap::Subcommand;
use serde::de::DeserializeOwned;

use crate::control::resource::hooks::{Hook, Offline};
use crate::hook::{self, HookError, Request, Serving};

/// Examples of hooks, for `--help`.
pub const EXAMPLES: &str = "Hooks are JSON, as in spec.hooks of an App. Examples:
  tidegate hook run '{\"command\": [\"migrate\", \"--once\"], \"timeoutSeconds\": 300}'
  tidegate hook serve --app-port 8080 --before-online '{\"http\": {\"url\": \"http://127.0.0.1:8080/warm\"}}'
  tidegate hook offline";

/// What is asked for.
#[derive(Debug, Subcommand)]
pub enum HookCommand {
    /// Run a hook until it ends well: an init container's command
    Run {
        /// The hook: {"http": {"method", "url"}} or {"command": […]}, and "timeoutSeconds"
        #[arg(value_name = "JSON", value_parser = json::<Hook>)]
        hook: Hook,
    },
    /// Serve GET /online and /offline beside an application: a sidecar's command
    ///
    /// It listens on POD_IP, where that is set, or on 127.0.0.1. GET /online is 200 once the application's port accepts
    /// connections and the hook before it is online has ended well; where that fails, this ends with exit code 1.
    /// GET /offline is answered when `tidegate hook offline` has come and is done. SIGTERM ends it.
    Serve {
        /// The port at which it is asked
        #[arg(long, value_name = "PORT", default_value_t = 9911)]
        port: u16,
        /// The application's port, which is waited for
        #[arg(long, value_name = "PORT")]
        app_port: Option<u16>,
        /// What must end well before the pod is online: as of `run`
        #[arg(long, value_name = "JSON", value_parser = json::<Hook>)]
        before_online: Option<Hook>,
        /// What is done before the pod is offline: {"eureka": {"urls", "app", "instance"}}, or as of `run`, and
        /// "refreshSeconds", twice of which is waited afterwards
        #[arg(long, value_name = "JSON", value_parser = json::<Offline>)]
        before_offline: Option<Offline>,
    },
    /// Tell the sidecar that its pod is to go, and wait until it has done what there is to do: its preStop
    Offline {
        /// The sidecar's port
        #[arg(long, value_name = "PORT", default_value_t = 9911)]
        port: u16,
    },
}

fn json<T: DeserializeOwned>(text: &str) -> Result<T, String> {
    serde_json::from_str(text).map_err(|error| error.to_string())
}

// === impl HookCommand ===

impl HookCommand {
    /// Runs it to its end.
    ///
    /// # Errors
    /// What is to end well has not.
    pub fn run(self) -> Result<(), HookError> {
        hook::run(match self {
            Self::Run { hook } => Request::Run(hook),
            Self::Serve { port, app_port, before_online: online, before_offline: offline } => {
                Request::Serve(Serving { port, app_port, online, offline })
            }
            Self::Offline { port } => Request::Offline { port },
        })
    }
}
