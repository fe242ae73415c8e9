//! Commands beside gateways: files that are rendered, balancers that are fed, real servers, who lags.

use std::net::IpAddr;
use std::path::PathBuf;

use clap::{Args, Subcommand};

use super::ServerArguments;
use crate::app::agents::{self, Kind, Source};
use crate::config::agents::parse;
use crate::lvs::realserver::{self, RealServerConfig};
use crate::render::Mode;
use crate::show::{GatewaysOptions, gateways};

/// What runs beside a gateway.
#[derive(Debug, Subcommand)]
pub enum AgentCommand {
    /// Keep files of programs: template, check, rename, reload
    ///
    /// Without --config, one file by --template and --output. A file that the check refuses, or with which the reload fails, is
    /// not used: the old one stays or comes back. What templates see is listed in deploy/nginx-render/README.md. SIGHUP reads
    /// file and templates again, SIGTERM ends it; the files stay.
    #[command(after_help = RENDER_EXAMPLES)]
    Render(RenderArguments),
    /// Feed a balancer with pools as they change
    ///
    /// SIGHUP reads the agent's file again; a bad one is refused and changes nothing. SIGTERM ends the agent, and the balancer
    /// keeps what it has.
    #[command(subcommand)]
    Sync(SyncCommand),
    /// On a real server behind direct routing: the virtual address on lo, quiet ARP, routes; undone at the end
    ///
    /// SIGTERM or Ctrl-C undoes what this run added. Started again after it was killed, it takes over what is there.
    #[command(after_help = "Example:\n  tidegate lvs-realserver 10.9.9.9 --route '10.9.9.0/24 dev eth1 table 100'")]
    LvsRealserver(RealServerArguments),
    /// Show which gateways serve what is published, and who lags and why
    ///
    /// Exit code 1 where one lags.
    #[command(
        after_help = "Examples:\n  tidegate gateways\n  tidegate gateways --lagging --server http://127.0.0.1:8500\n  tidegate gateways --pool app/shop/web/http"
    )]
    Gateways(GatewaysArguments),
}

const RENDER_EXAMPLES: &str = "Examples:
  tidegate render --config /etc/tidegate/agent.toml
  tidegate render --config /etc/tidegate/agent.toml --dry-run
  tidegate render --template up.j2 --output /etc/nginx/conf.d/up.conf --check nginx,-t --reload nginx,-s,reload";

/// What is fed.
#[derive(Debug, Subcommand)]
pub enum SyncCommand {
    /// HAProxy over its runtime socket: no reload for members
    ///
    /// Backends are named as their pools, with _ in place of / and :. Needs `stats socket PATH level admin` and HAProxy 2.6 or
    /// newer. Templates of the file are kept as well: with them the configuration has the last known servers at every start.
    #[command(
        after_help = "Examples:\n  tidegate sync haproxy --config /etc/tidegate/agent.toml\n  tidegate sync haproxy --socket /run/haproxy/admin.sock --server http://127.0.0.1:8500"
    )]
    Haproxy(HaproxyArguments),
    /// keepalived by a file of virtual servers
    #[command(after_help = "Example:\n  tidegate sync keepalived --config /etc/tidegate/agent.toml")]
    Keepalived(ConfigArguments),
    /// The kernel's IPVS by netlink
    #[command(after_help = "Example:\n  tidegate sync ipvs --config /etc/tidegate/agent.toml")]
    Ipvs(ConfigArguments),
}

/// The agent's file.
#[derive(Args, Debug)]
pub struct ConfigArguments {
    /// The agent's file (TOML); deploy/ has one for each gateway
    #[arg(long, value_name = "FILE")]
    pub config: PathBuf,
}

/// Where pools come from, in place of a file.
#[derive(Args, Debug)]
pub struct PullArguments {
    /// The agent's file (TOML)
    #[arg(long, value_name = "FILE", conflicts_with_all = ["server", "token_file", "name", "state_file"])]
    pub config: Option<PathBuf>,
    /// Where to pull from; several times for several Tidegates
    #[arg(long, value_name = "URL", default_value = "http://127.0.0.1:8500")]
    pub server: Vec<String>,
    /// A file with the token to send
    #[arg(long, value_name = "FILE")]
    pub token_file: Option<PathBuf>,
    /// The gateway's name; else the machine's
    #[arg(long, value_name = "NAME")]
    pub name: Option<String>,
    /// Where the last known pools are kept, for a start with every Tidegate away
    #[arg(long, value_name = "FILE")]
    pub state_file: Option<PathBuf>,
}

/// What `render` is told.
#[derive(Args, Debug)]
pub struct RenderArguments {
    /// Where pools come from
    #[command(flatten)]
    pub pull: PullArguments,
    /// The template
    #[arg(
        long,
        value_name = "FILE",
        conflicts_with = "config",
        required_unless_present = "config",
        requires = "output"
    )]
    pub template: Option<PathBuf>,
    /// The file that is made
    #[arg(long, value_name = "FILE", requires = "template")]
    pub output: Option<PathBuf>,
    /// A command that checks the file, its words divided by commas; {file} is a new file that is not in its place yet
    #[arg(long, value_name = "COMMAND", value_delimiter = ',', requires = "template", allow_hyphen_values = true)]
    pub check: Vec<String>,
    /// A command that makes the program read the file, its words divided by commas
    #[arg(long, value_name = "COMMAND", value_delimiter = ',', requires = "template", allow_hyphen_values = true)]
    pub reload: Vec<String>,
    /// One round, then end
    #[arg(long, conflicts_with = "dry_run")]
    pub once: bool,
    /// Show what would change, and change nothing
    #[arg(long)]
    pub dry_run: bool,
}

/// What `sync haproxy` is told.
#[derive(Args, Debug)]
pub struct HaproxyArguments {
    /// Where pools come from
    #[command(flatten)]
    pub pull: PullArguments,
    /// HAProxy's stats socket, of the level admin
    #[arg(long, value_name = "PATH", conflicts_with = "config", required_unless_present = "config")]
    pub socket: Option<PathBuf>,
    /// Words for each new server, as 'check inter 2s'
    #[arg(long, value_name = "WORDS", requires = "socket", default_value = "")]
    pub server_options: String,
}

/// What `lvs-realserver` is told.
#[derive(Args, Debug)]
pub struct RealServerArguments {
    /// Virtual addresses
    #[arg(value_name = "ADDRESS", required = true)]
    pub addresses: Vec<IpAddr>,
    /// A route for as long as it runs, as the words of `ip route add`; may stand several times
    #[arg(long = "route", value_name = "WORDS")]
    pub routes: Vec<String>,
    /// Where it is kept what is to be undone
    #[arg(long, value_name = "FILE", default_value = "/run/tidegate-realserver.json")]
    pub state_file: PathBuf,
}

/// What `gateways` is told.
#[derive(Args, Debug)]
pub struct GatewaysArguments {
    /// Whom to ask
    #[command(flatten)]
    pub server: ServerArguments,
    /// Only those that lag
    #[arg(long)]
    pub lagging: bool,
    /// Only those that have asked for this pool or serve it, and of them this pool alone; can be given again
    #[arg(long = "pool", value_name = "ID")]
    pub pools: Vec<String>,
}

// === impl AgentCommand ===

impl AgentCommand {
    /// Runs it to its end.
    ///
    /// # Errors
    /// The configuration is bad, or what was asked for failed.
    pub fn run(self) -> anyhow::Result<()> {
        match self {
            Self::Render(arguments) => arguments.run(),
            Self::Sync(SyncCommand::Haproxy(arguments)) => agents::run(arguments.source()?, Kind::Haproxy),
            Self::Sync(SyncCommand::Keepalived(ConfigArguments { config })) => {
                agents::run(Source::File(config), Kind::Keepalived)
            }
            Self::Sync(SyncCommand::Ipvs(ConfigArguments { config })) => agents::run(Source::File(config), Kind::Ipvs),
            Self::LvsRealserver(RealServerArguments { addresses, routes, state_file }) => {
                let config = RealServerConfig { addresses, routes, state_file };
                agents::until_asked(|drain| async {
                    let ready = || println!("ready");
                    Ok(realserver::run(config, drain, ready).await?)
                })
            }
            Self::Gateways(GatewaysArguments { server, lagging, pools }) => {
                Ok(gateways::run(&GatewaysOptions { server: server.into(), lagging, pools })?)
            }
        }
    }
}

// === impl PullArguments ===

impl PullArguments {
    /// The file, or one as these arguments would be.
    fn source(&self, further: toml::Table) -> anyhow::Result<Source> {
        if let Some(path) = &self.config {
            return Ok(Source::File(path.clone()));
        }
        let mut pull = toml::Table::new();
        pull.insert("url".to_owned(), self.server.clone().into());
        let text = |path: &PathBuf| path.display().to_string();
        let named = [
            ("token_file", self.token_file.as_ref().map(text)),
            ("state_file", self.state_file.as_ref().map(text)),
            ("name", self.name.clone()),
        ];
        pull.extend(named.into_iter().filter_map(|(key, value)| Some((key.to_owned(), value?.into()))));
        let mut root = further;
        root.insert("pull".to_owned(), pull.into());
        Ok(Source::Arguments(Box::new(parse("command line", &root.to_string())?)))
    }
}

// === impl RenderArguments ===

impl RenderArguments {
    fn run(self) -> anyhow::Result<()> {
        let mut further = toml::Table::new();
        if let (Some(template), Some(output)) = (&self.template, &self.output) {
            let mut table = toml::Table::new();
            table.insert("template".to_owned(), template.display().to_string().into());
            table.insert("output".to_owned(), output.display().to_string().into());
            table.insert("check".to_owned(), self.check.clone().into());
            table.insert("reload".to_owned(), self.reload.clone().into());
            further.insert("template".to_owned(), vec![toml::Value::Table(table)].into());
        }
        let source = self.pull.source(further)?;
        let mode = match (self.once, self.dry_run) {
            (_, true) => Mode::DryRun,
            (true, false) => Mode::Once,
            (false, false) => Mode::Daemon,
        };
        agents::run(source, Kind::Render(mode))
    }
}

// === impl HaproxyArguments ===

impl HaproxyArguments {
    fn source(&self) -> anyhow::Result<Source> {
        let mut further = toml::Table::new();
        if let Some(socket) = &self.socket {
            let mut table = toml::Table::new();
            table.insert("socket".to_owned(), socket.display().to_string().into());
            if !self.server_options.is_empty() {
                table.insert("server_options".to_owned(), self.server_options.clone().into());
            }
            further.insert("haproxy".to_owned(), table.into());
        }
        self.pull.source(further)
    }
}
