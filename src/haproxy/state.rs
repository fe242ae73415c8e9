//! What HAProxy has, as it says it.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};

/// Who answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Info {
    /// The process; another one after a reload.
    pub(super) pid: u32,
    /// It lets its connections end and takes no new ones.
    pub(super) stopping: bool,
    pub(super) version: String,
}

/// All backends by name.
pub(super) type Backends = BTreeMap<String, Backend>;

/// A backend's servers by name: those that are Tidegate's. Others are not its affair.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Backend {
    pub(super) servers: BTreeMap<String, Server>,
}

/// A server as it stands in HAProxy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Server {
    pub(super) weight: u32,
    pub(super) state: Admin,
}

/// A server's administrative state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Admin {
    Ready,
    Drain,
    Maint,
}

/// The name of the server at an address.
pub(super) fn server_name(address: IpAddr, port: u16) -> String {
    format!("{address}_{port}")
}

/// The address that a server's name says it has; `None` for names that are not Tidegate's.
pub(super) fn address_of(name: &str) -> Option<SocketAddr> {
    let (address, port) = name.rsplit_once('_')?;
    Some(SocketAddr::new(address.parse().ok()?, port.parse().ok()?))
}

/// Reads `show info`.
pub(super) fn info(text: &str) -> Option<Info> {
    let field = |name: &str| {
        let mut lines = text.lines().filter_map(|line| line.split_once(": "));
        lines.find(|(key, _)| *key == name).map(|(_, value)| value)
    };
    Some(Info {
        pid: field("Pid")?.parse().ok()?,
        stopping: field("Stopping").is_some_and(|value| value != "0"),
        version: field("Version").unwrap_or_default().to_owned(),
    })
}

/// Reads `show backend` and `show servers state`: backends without a server stand in the first alone.
pub(super) fn backends(names: &str, servers: &str) -> Result<Backends, String> {
    let mut backends: Backends = names
        .lines()
        .filter(|line| !line.starts_with('#') && !line.is_empty())
        .map(|name| (name.to_owned(), Backend::default()))
        .collect();
    let mut lines = servers.lines();
    match lines.next() {
        Some("1") => {}
        other => return Err(format!("show servers state: format {other:?}, and 1 is known")),
    }
    for line in lines.filter(|line| !line.starts_with('#') && !line.is_empty()) {
        let fields: Vec<&str> = line.split_ascii_whitespace().collect();
        let field = |at: usize| fields.get(at).copied().ok_or_else(|| format!("show servers state: {line:?}"));
        let number = |at: usize| field(at)?.parse::<u32>().map_err(|_| format!("show servers state: {line:?}"));
        let (backend, name) = (field(1)?, field(3)?);
        let Some(named) = address_of(name) else { continue };
        let there = (field(4)?.parse().ok(), number(18)?);
        if there != (Some(named.ip()), u32::from(named.port())) {
            // It has the name, and is something else: a person's.
            continue;
        }
        // Bits: 1, 2, 4, 0x20 are of maintenance, 8 and 0x10 of draining.
        let admin = number(6)?;
        let state = match (admin & 0x27 != 0, admin & 0x18 != 0) {
            (true, _) => Admin::Maint,
            (false, true) => Admin::Drain,
            (false, false) => Admin::Ready,
        };
        let server = Server { weight: number(7)?, state };
        backends.entry(backend.to_owned()).or_default().servers.insert(name.to_owned(), server);
    }
    Ok(backends)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn servers_with_tidegate_s_names_are_known_as_they_stand() {
        let servers = "1\n# be_id be_name …\n\
            3 b_x 1 127.0.0.1_9090 127.0.0.1 2 0 5 5 0 1 0 0 6 0 0 0 - 9090 - 0 0 - - 0\n\
            3 b_x 2 fd00::1_80 fd00::1 0 8 256 256 0 1 0 0 0 0 0 0 - 80 - 0 0 - - 0\n\
            3 b_x 3 10.0.0.3_80 10.0.0.3 0 1 256 256 0 1 0 0 0 0 0 0 - 80 - 0 0 - - 0\n\
            4 b_y 1 sorry 127.0.0.1 2 0 10 10 1 1 0 2 0 0 0 0 - 9 - 0 0 - - 0\n\
            4 b_y 2 10.0.0.9_80 127.0.0.1 2 0 10 10 1 1 0 2 0 0 0 0 - 9 - 0 0 - - 0\n";
        let found = backends("# name\nb_x\nb_y\nb_z\n", servers).unwrap();
        assert_eq!(found.keys().map(String::as_str).collect::<Vec<_>>(), ["b_x", "b_y", "b_z"]);
        let server = |weight, state| Server { weight, state };
        assert_eq!(
            found["b_x"].servers,
            [
                ("10.0.0.3_80".to_owned(), server(256, Admin::Maint)),
                ("127.0.0.1_9090".to_owned(), server(5, Admin::Ready)),
                ("fd00::1_80".to_owned(), server(256, Admin::Drain)),
            ]
            .into()
        );
        assert!(found["b_y"].servers.is_empty(), "a person's servers, one of them with a name like ours");
        for bad in
            ["", "2\n", "1\n3 b_x 1 127.0.0.1_9090 127.0.0.1", "1\n3 b 1 1.2.3.4_5 1.2.3.4 2 x 5 5 0 1 0 0 6 0 0 0 - 5"]
        {
            assert!(backends("", bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn the_process_that_answers_is_known() {
        let text = "Name: HAProxy\nVersion: 2.6.12\nPid: 29856\nUptime_sec: 0\nStopping: 1\n";
        assert_eq!(info(text), Some(Info { pid: 29856, stopping: true, version: "2.6.12".into() }));
        assert_eq!(info("Unknown command"), None);
    }
}
