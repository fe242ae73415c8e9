//! `tidegate app render` and `tidegate app apply`.

use std::path::PathBuf;

use clap::{Args, Subcommand};

use super::deploy::AccessArguments;
use crate::deploy::{FromCatalogue, Request};

/// What is asked for beside looking.
#[derive(Debug, Subcommand)]
pub enum AppCommand {
    /// Print an App made of an AppTemplate's defaults and one's own values, as `apply` would apply it
    #[command(
        after_help = "Example:\n  tidegate app render web --template catalogue/web-service --values web.yaml | less"
    )]
    Render(FromArguments),
    /// Show what an App made like this would change, and apply it with --yes
    ///
    /// It starts no deploy: `tidegate deploy` does.
    #[command(after_help = "Examples:
  tidegate app apply web --template catalogue/web-service --values web.yaml --namespace shop
  tidegate app apply web --template catalogue/web-service --values web.yaml --namespace shop --yes")]
    Apply {
        /// Apply it
        #[arg(long)]
        yes: bool,
        /// What
        #[command(flatten)]
        from: FromArguments,
    },
}

/// Of what an App is made.
#[derive(Args, Debug)]
pub struct FromArguments {
    /// The App
    #[arg(value_name = "APP")]
    pub name: String,
    /// The AppTemplate whose defaults it begins with
    #[arg(long, value_name = "[NAMESPACE/]NAME")]
    pub template: Option<String>,
    /// YAML or JSON with fields of the App's spec, which come over the defaults: objects field by field (null takes one away),
    /// lists of items with names item by item, everything else as a whole
    #[arg(long, value_name = "FILE")]
    pub values: Option<PathBuf>,
    /// Where
    #[command(flatten)]
    pub access: AccessArguments,
}

// === impl AppCommand ===

impl AppCommand {
    /// What is asked for, and of which cluster.
    pub fn request(self) -> (AccessArguments, Request) {
        match self {
            Self::Render(from) => {
                let (access, from) = from.split();
                (access, Request::Render(from))
            }
            Self::Apply { yes: agreed, from } => {
                let (access, from) = from.split();
                (access, Request::Apply { from, agreed })
            }
        }
    }
}

// === impl FromArguments ===

impl FromArguments {
    fn split(self) -> (AccessArguments, FromCatalogue) {
        let Self { name, template, values, access } = self;
        (access, FromCatalogue { name, template, values })
    }
}
