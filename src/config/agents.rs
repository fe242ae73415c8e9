//! The file of an agent beside a gateway: `tidegate render`, `tidegate sync …`. `[pull]` says where pools come from; each
//! agent reads its own sections, so that one file can serve several.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use toml::Value;
use toml::de::DeTable;

use super::discovery::read_shown;
use super::discovery_remote::{node_name, read_credentials, read_urls};
use super::files::Files;
use super::report::Report;
use super::section::Section;
use super::{ConfigError, admin};
use crate::admin::config::AdminConfig;
use crate::endpoints::pool::PoolId;
use crate::lvs::{Check, Forwarding, KeepalivedConfig, LvsConfig, Transport, VirtualServer};
use crate::pull::{Filter, PullConfig};
use crate::render::{RenderConfig, TemplateConfig};

/// What an agent is told.
#[derive(Clone, Debug)]
pub struct AgentConfig {
    /// `[admin]`: health and metrics.
    pub admin: Option<AdminConfig>,
    /// `[pull]`: where pools come from.
    pub pull: PullConfig,
    /// `[render]` and `[[template]]`: files to keep.
    pub render: RenderConfig,
    /// `[haproxy]`.
    pub haproxy: Option<HaproxySection>,
    /// `[keepalived]`: the file and its commands.
    pub keepalived: Option<KeepalivedConfig>,
    /// `[lvs]` and `[[virtual_server]]`.
    pub lvs: LvsConfig,
}

/// `[haproxy]`.
#[derive(Clone, Debug)]
pub struct HaproxySection {
    /// The stats socket.
    pub socket: PathBuf,
    /// Words for each new server.
    pub server_options: String,
    /// Backends of other names than their pools', by pool id.
    pub backends: BTreeMap<String, String>,
    /// How often HAProxy is looked at.
    pub poll: Duration,
}

const SECTIONS: [&str; 7] = ["admin", "pull", "render", "template", "haproxy", "keepalived", "lvs"];
const DEFAULT_COMMAND_SECONDS: u64 = 30;

/// Reads, parses and validates an agent's file.
///
/// # Errors
/// It cannot be read, or has problems, each with its line.
pub fn load(path: &Path) -> Result<AgentConfig, ConfigError> {
    let text = std::fs::read_to_string(path).map_err(|cause| ConfigError::Read { path: path.to_owned(), cause })?;
    parse(&path.display().to_string(), &text)
}

/// As [`load`], of a text; `file` is its name in messages.
///
/// # Errors
/// It has problems, each with its line.
pub fn parse(file: &str, text: &str) -> Result<AgentConfig, ConfigError> {
    let report = Report::new(file, text, Files::default());
    let (root, errors) = DeTable::parse_recoverable(text);
    for error in &errors {
        let start = error.span().unwrap_or_default().start;
        report.problem(start, "syntax".to_owned(), error.message().replace('\n', ", "));
    }
    // What follows a syntax error may be read wrongly: its other problems would mislead.
    let config = match errors.is_empty() {
        true => {
            let mut section = Section::root(&report, root.get_ref());
            let config = read(&mut section);
            section.finish();
            config
        }
        false => None,
    };
    match config.filter(|_| report.is_good()) {
        Some(config) => Ok(config),
        None => Err(ConfigError::Invalid(report.into_problems())),
    }
}

fn read(root: &mut Section<'_>) -> Option<AgentConfig> {
    let admin = root.table("admin").map(admin::read);
    let pull = match root.table("pull") {
        Some(section) => read_pull(section),
        None => {
            let known = SECTIONS.join(", ");
            root.problem("pull", format!("missing: say where pools come from, as [pull] url = \"http://127.0.0.1:8500\"; sections are {known} and virtual_server"));
            return None;
        }
    };
    let mut timing = root.table("render");
    let mut number =
        |key, range, default| timing.as_mut().map_or(default, |section| section.number(key, range, default));
    let quiet = Duration::from_millis(number("quiet_ms", 0..=60_000, 100));
    let apart = Duration::from_millis(number("apart_ms", 0..=600_000, 2_000));
    let retry = Duration::from_secs(number("retry_seconds", 1..=86_400, 30));
    if let Some(section) = timing {
        section.finish();
    }
    let templates = root.tables("template").into_iter().filter_map(read_template).collect();
    let render = RenderConfig { pull: pull.clone(), templates, quiet, apart, retry };
    let haproxy = root.table("haproxy").and_then(read_haproxy);
    let keepalived = root.table("keepalived").and_then(read_keepalived);
    let lvs = read_lvs(root);
    Some(AgentConfig { admin, pull, render, haproxy, keepalived, lvs })
}

fn read_pull(mut section: Section<'_>) -> PullConfig {
    let servers = read_urls(&mut section, "http://127.0.0.1:8500");
    if servers.is_empty() && !section.has("url") {
        section.problem("url", "missing: name at least one Tidegate, as \"http://127.0.0.1:8500\"");
    }
    let gateway: String = read_shown(&mut section, "name").unwrap_or_else(|| node_name().to_string());
    if gateway.is_empty() || !gateway.bytes().all(|byte| byte.is_ascii_graphic()) {
        section.problem("name", format!("{gateway:?} is no gateway's name: use visible ASCII characters"));
    }
    let credentials = read_credentials(&mut section, &servers);
    let state_file = read_shown::<String>(&mut section, "state_file").map(PathBuf::from);
    let items = section.texts("pools").unwrap_or_default();
    for item in &items {
        if let Err(error) = PoolId::parse(item.text) {
            section.item_problem(item, format!("{:?} {error}", item.text));
        }
    }
    if items.len() > 1_000 {
        section.problem(
            "pools",
            "names more than 1000: use prefix, cluster, namespace or labels, or leave it out for all",
        );
    }
    let ids = items.iter().map(|item| item.text.to_owned()).collect();
    let labels = section.texts("labels").unwrap_or_default().iter().map(|item| item.text.to_owned()).collect();
    let mut text = |key| read_shown::<String>(&mut section, key);
    let (prefix, cluster, namespace) = (text("prefix"), text("cluster"), text("namespace"));
    section.finish();
    let filter = Filter { ids, prefix, cluster, namespace, labels }.to_string();
    PullConfig { servers, credentials, gateway, filter, state_file }
}

fn read_template(mut section: Section<'_>) -> Option<TemplateConfig> {
    let template = required(&mut section, "template", "/etc/tidegate/upstreams.conf.j2");
    let output = required(&mut section, "output", "/etc/nginx/conf.d/upstreams.conf");
    let check = words(&mut section, "check");
    let reload = words(&mut section, "reload");
    let reload_key: Option<String> = read_shown(&mut section, "reload_key");
    let mode = read_mode(&mut section);
    let seconds = section.number("command_timeout_seconds", 1..=600, DEFAULT_COMMAND_SECONDS);
    section.finish();
    let command_timeout = Duration::from_secs(seconds);
    Some(TemplateConfig { template: template?, output: output?, check, reload, reload_key, mode, command_timeout })
}

fn read_mode(section: &mut Section<'_>) -> u32 {
    let Some(text) = read_shown::<String>(section, "mode") else { return 0o644 };
    match u32::from_str_radix(&text, 8) {
        Ok(mode) if mode <= 0o777 => mode,
        _ => {
            section.problem("mode", format!("{text:?} is no mode: write it in octal, as \"0640\""));
            0o644
        }
    }
}

fn required(section: &mut Section<'_>, key: &'static str, example: &str) -> Option<PathBuf> {
    let path = read_shown::<String>(section, key).map(PathBuf::from);
    if path.is_none() && !section.has(key) {
        section.problem(key, format!("missing: name the file, as {example:?}"));
    }
    path
}

/// A command, word by word: no shell reads it.
fn words(section: &mut Section<'_>, key: &'static str) -> Vec<String> {
    let words: Vec<String> = section.texts(key).unwrap_or_default().iter().map(|item| item.text.to_owned()).collect();
    if words.first().is_some_and(|program| program.is_empty()) {
        section.problem(key, "begins with an empty word: name the program first, as [\"nginx\", \"-t\"]");
    }
    section.show(key, words.clone());
    words
}

fn read_haproxy(mut section: Section<'_>) -> Option<HaproxySection> {
    let socket = required(&mut section, "socket", "/run/haproxy/admin.sock");
    let server_options: String = read_shown(&mut section, "server_options").unwrap_or_default();
    if server_options.bytes().any(|byte| byte.is_ascii_control() || byte == b';') {
        section.problem(
            "server_options",
            "has a line end or a semicolon: write words of a server line, as \"check inter 2s\"",
        );
    }
    let poll = Duration::from_millis(section.number("poll_ms", 20..=60_000, 200));
    let mut backends = BTreeMap::new();
    if let Some(mut table) = section.inline("backends") {
        for (pool, backend) in table.entries() {
            let named = |byte: u8| byte.is_ascii_alphanumeric() || b"_.-:".contains(&byte);
            if PoolId::parse(pool).is_err() || backend.is_empty() || !backend.bytes().all(named) {
                section.problem("backends", format!("{pool:?} = {backend:?}: write a pool's id and a backend's name"));
            }
            backends.insert(pool.to_owned(), backend);
        }
        section.show(
            "backends",
            backends.iter().map(|(id, name)| (id.clone(), Value::from(name.as_str()))).collect::<toml::Table>(),
        );
    }
    section.finish();
    Some(HaproxySection { socket: socket?, server_options, backends, poll })
}

fn read_keepalived(mut section: Section<'_>) -> Option<KeepalivedConfig> {
    let output = required(&mut section, "output", "/etc/keepalived/tidegate.conf");
    let check = match section.has("check") {
        true => words(&mut section, "check"),
        false => ["keepalived", "-t", "-f", "{file}"].map(str::to_owned).to_vec(),
    };
    let reload = words(&mut section, "reload");
    let seconds = section.number("command_timeout_seconds", 1..=600, DEFAULT_COMMAND_SECONDS);
    section.finish();
    Some(KeepalivedConfig { output: output?, check, reload, command_timeout: Duration::from_secs(seconds) })
}

fn read_lvs(root: &mut Section<'_>) -> LvsConfig {
    let mut section = root.table("lvs");
    let mut markers = true;
    let mut linger = 30;
    if let Some(section) = &mut section {
        markers = section.flag("services", true);
        linger = section.number("drain_seconds", 0..=3_600, 30);
    }
    let defaults = section.map(|section| read_virtual(section, None)).unwrap_or_default();
    let mut servers = Vec::new();
    for mut section in root.tables("virtual_server") {
        let address = read_shown::<String>(&mut section, "address").and_then(|text| {
            text.parse::<IpAddr>().map_err(|_| section.problem("address", format!("{text:?} is no IP address"))).ok()
        });
        let port = section.required_number("port", 1..=65_535);
        let pool: Option<String> = read_shown(&mut section, "pool");
        if let Some(Err(error)) = pool.as_deref().map(PoolId::parse) {
            section.problem("pool", error.to_string());
        }
        for (key, missing) in [("address", address.is_none()), ("pool", pool.is_none())] {
            if missing && !section.has(key) {
                section.problem(key, "missing: give the address, the port and the pool of the virtual server");
            }
        }
        let server = read_virtual(section, Some(&defaults));
        if let (Some(address), Some(pool)) = (address, pool) {
            servers.push(VirtualServer { address, port: u16::try_from(port).unwrap_or_default(), pool, ..server });
        }
    }
    LvsConfig { servers, markers: markers.then_some(defaults), linger: Duration::from_secs(linger) }
}

/// The keys that a virtual server and the defaults share.
fn read_virtual(mut section: Section<'_>, defaults: Option<&VirtualServer>) -> VirtualServer {
    let mut server = defaults.cloned().unwrap_or_default();
    if let Some(scheduler) = read_shown::<String>(&mut section, "scheduler") {
        if scheduler.is_empty() || scheduler.len() > 15 || !scheduler.bytes().all(|byte| byte.is_ascii_lowercase()) {
            section.problem("scheduler", format!("{scheduler:?} is none of IPVS: use wrr, wlc, rr, lc, sh, mh …"));
        }
        server.scheduler = scheduler;
    }
    if section.has("forwarding") {
        let others = [("masquerade", Forwarding::Masquerade), ("tunnel", Forwarding::Tunnel)];
        server.forwarding = section.choice("forwarding", ("direct", Forwarding::Direct), others, &[]);
    }
    if section.has("protocol") {
        server.transport = section.choice("protocol", ("tcp", Transport::Tcp), [("udp", Transport::Udp)], &[]);
    }
    if section.has("check") {
        server.check = section.choice("check", ("tcp", Check::Tcp), [("none", Check::None)], &[]);
    }
    if section.has("persistence_seconds") {
        server.persistence_seconds = u32::try_from(section.number("persistence_seconds", 0..=86_400, 0)).unwrap_or(0);
    }
    if let Some(text) = read_shown::<String>(&mut section, "sorry_server") {
        match text.parse::<SocketAddr>() {
            Ok(sorry) => server.sorry = Some(sorry),
            Err(_) => section.problem("sorry_server", format!("{text:?} is no address: write IP:PORT")),
        }
    }
    section.finish();
    server
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_agent_s_file_is_read() {
        let text = "[pull]\nurl = [\"http://a:8500\", \"http://b:8500\"]\nname = \"edge-1\"\nprefix = \"east/\"\n\
            [[template]]\ntemplate = \"/t\"\noutput = \"/o\"\ncheck = [\"nginx\", \"-t\"]\nmode = \"0600\"\n\
            [haproxy]\nsocket = \"/s\"\nserver_options = \"check\"\nbackends = { \"a/b\" = \"c\" }\n\
            [keepalived]\noutput = \"/k\"\n[lvs]\nscheduler = \"wlc\"\n\
            [[virtual_server]]\naddress = \"10.0.0.9\"\nport = 80\npool = \"a/b\"\nsorry_server = \"10.0.0.1:81\"\n";
        let config = parse("f", text).unwrap();
        assert_eq!((config.pull.servers.len(), config.pull.filter.as_str()), (2, "&prefix=east/"));
        assert_eq!(config.render.templates[0].mode, 0o600);
        assert_eq!(config.haproxy.unwrap().backends["a/b"], "c");
        assert_eq!(config.keepalived.unwrap().check[1], "-t");
        assert_eq!(config.lvs.servers[0].scheduler, "wlc");
        assert_eq!(config.lvs.markers.unwrap().scheduler, "wlc");
    }

    #[test]
    fn what_is_wrong_is_said_with_line_key_and_remedy() {
        for (text, said) in [
            ("", "f:1: pull: missing"),
            ("[pull]\n", "f:1: pull.url: missing"),
            ("[pull]\nurl = \"a:1\"", "f:2: pull.url"),
            ("[pull]\nurl = \"http://a:1\"\nurls = 1", "f:3: pull.urls: unknown key: did you mean url?"),
            ("[pull]\nurl = \"http://a:1\"\n[[template]]\noutput = \"/o\"", "template[0].template: missing"),
            (
                "[pull]\nurl = \"http://a:1\"\n[haproxy]\nsocket = \"/s\"\nserver_options = \"check; quit\"",
                "f:5: haproxy.server_options",
            ),
            (
                "[pull]\nurl = \"http://a:1\"\n[[virtual_server]]\naddress = \"x\"\nport = 1\npool = \"a\"",
                "f:4: virtual_server[0].address",
            ),
            ("[pull]\nurl = \"http://a:1\"\npools = [\"a b\"]", "pull.pools[0]"),
        ] {
            let error = parse("f", text).map(|_| ()).unwrap_err().to_string();
            assert!(error.contains(said), "{text:?}: {error}");
        }
    }
}
