//! `tidegate lvs-realserver`: what a real server behind direct routing needs for as long as this runs.
//!
//! It gets packets for the virtual address, so it must have that, on `lo`; and it must not answer when somebody asks the
//! link who has it, which the balancer does (`arp_ignore = 1`, `arp_announce = 2`, on `lo` and on all).
//!
//! What was there before is kept in a file and put back at the end: a run that was killed is undone by the next one, and a
//! second start changes nothing more. Only what this run added is taken away.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::base::drain::Drain;
use crate::render::{CommandError, run_command};

const PATIENCE: Duration = Duration::from_secs(10);
/// The settings, and what they are to be.
const SETTINGS: [(&str, &str); 4] =
    [("all/arp_ignore", "1"), ("all/arp_announce", "2"), ("lo/arp_ignore", "1"), ("lo/arp_announce", "2")];
const SETTINGS_AT: &str = "/proc/sys/net/ipv4/conf";

/// What a real server is told.
#[derive(Clone, Debug)]
pub struct RealServerConfig {
    /// The virtual addresses.
    pub addresses: Vec<IpAddr>,
    /// Routes for as long as it runs, as words of `ip route add`.
    pub routes: Vec<String>,
    /// Where it is kept what is to be undone.
    pub state_file: PathBuf,
}

/// Why it ended.
#[derive(Debug, thiserror::Error)]
pub enum RealServerError {
    /// A command of iproute2.
    #[error("{0}: it needs iproute2 and the right to change the network (CAP_NET_ADMIN)")]
    Command(#[from] CommandError),
    /// A file.
    #[error("{}: {cause}", path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// What the system said.
        cause: std::io::Error,
    },
}

/// What is to be undone.
#[derive(Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Undo {
    addresses: Vec<IpAddr>,
    routes: Vec<String>,
    /// Settings as they were.
    settings: BTreeMap<String, String>,
}

/// Puts everything in place, waits until it is asked to end, and undoes it.
///
/// # Errors
/// Something cannot be put in place (then what was is undone), or not be undone.
pub async fn run(config: RealServerConfig, drain: Drain, ready: impl FnOnce()) -> Result<(), RealServerError> {
    let mut undo = load(&config.state_file)?;
    let done = put_in_place(&config, &mut undo).await;
    if done.is_ok() {
        ready();
        drain.requested().await;
    }
    let undone = take_away(&config.state_file, undo).await;
    done.and(undone)
}

async fn put_in_place(config: &RealServerConfig, undo: &mut Undo) -> Result<(), RealServerError> {
    for (setting, wanted) in SETTINGS {
        let path = Path::new(SETTINGS_AT).join(setting);
        let now = read(&path)?;
        if now != wanted {
            undo.settings.entry(setting.to_owned()).or_insert(now);
            store(&config.state_file, undo)?;
            write(&path, wanted)?;
        }
    }
    for address in &config.addresses {
        if !is_there(*address).await {
            note(&mut undo.addresses, *address);
            store(&config.state_file, undo)?;
            ip(&["addr", "add", &prefix(*address), "dev", "lo", "scope", "host"]).await?;
        }
    }
    for route in &config.routes {
        let words: Vec<&str> = route.split_ascii_whitespace().collect();
        match ip(&[&["route", "add"][..], &words].concat()).await {
            Ok(()) => {
                note(&mut undo.routes, route.clone());
                store(&config.state_file, undo)?;
            }
            // It was there before, or since a run that was killed.
            Err(CommandError::Failed { said, .. }) if said.contains("File exists") => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

fn note<T: PartialEq>(list: &mut Vec<T>, it: T) {
    if !list.contains(&it) {
        list.push(it);
    }
}

/// Undoes what it can; the first error is told.
async fn take_away(state_file: &Path, undo: Undo) -> Result<(), RealServerError> {
    let mut first = Ok(());
    for route in &undo.routes {
        let words: Vec<&str> = route.split_ascii_whitespace().collect();
        first = first.and(gone(ip(&[&["route", "del"][..], &words].concat()).await));
    }
    // The address goes before the settings: in between nobody may be told who has it.
    for address in &undo.addresses {
        first = first.and(gone(ip(&["addr", "del", &prefix(*address), "dev", "lo"]).await));
    }
    for (setting, before) in &undo.settings {
        first = first.and(write(&Path::new(SETTINGS_AT).join(setting), before));
    }
    if first.is_ok() && state_file.exists() {
        let file = |cause| RealServerError::File { path: state_file.to_owned(), cause };
        std::fs::remove_file(state_file).map_err(file)?;
    }
    first
}

/// What is not there need not be taken away.
fn gone(outcome: Result<(), CommandError>) -> Result<(), RealServerError> {
    match outcome {
        Err(CommandError::Failed { said, .. })
            if said.contains("No such process")
                || said.contains("Cannot assign requested address")
                || said.contains("Address not found") =>
        {
            Ok(())
        }
        outcome => outcome.map_err(Into::into),
    }
}

async fn ip(words: &[&str]) -> Result<(), CommandError> {
    let words: Vec<String> = std::iter::once("ip").chain(words.iter().copied()).map(str::to_owned).collect();
    run_command(&words, PATIENCE).await
}

/// Whether `lo` has the address: the command's status says it.
async fn is_there(address: IpAddr) -> bool {
    let script = "ip -o addr show dev lo to \"$1\" | grep -q .";
    let words = ["sh", "-c", script, "sh", &prefix(address)].map(str::to_owned);
    run_command(&words, PATIENCE).await.is_ok()
}

fn prefix(address: IpAddr) -> String {
    format!("{address}/{}", if address.is_ipv4() { 32 } else { 128 })
}

fn read(path: &Path) -> Result<String, RealServerError> {
    let text = std::fs::read_to_string(path);
    text.map(|text| text.trim().to_owned()).map_err(|cause| RealServerError::File { path: path.to_owned(), cause })
}

fn write(path: &Path, text: &str) -> Result<(), RealServerError> {
    std::fs::write(path, text).map_err(|cause| RealServerError::File { path: path.to_owned(), cause })
}

fn load(path: &Path) -> Result<Undo, RealServerError> {
    let failed = |cause| RealServerError::File { path: path.to_owned(), cause };
    match std::fs::read(path) {
        Ok(bytes) => serde_json::from_slice(&bytes).map_err(|error| failed(std::io::Error::other(error))),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Undo::default()),
        Err(error) => Err(failed(error)),
    }
}

/// Before a thing is done it stands in the file: a run that is killed in between leaves nothing that nobody undoes.
fn store(path: &Path, undo: &Undo) -> Result<(), RealServerError> {
    let failed = |cause| RealServerError::File { path: path.to_owned(), cause };
    let new = path.with_extension("new");
    let bytes = serde_json::to_vec(undo).map_err(|error| failed(std::io::Error::other(error)))?;
    std::fs::write(&new, bytes).and_then(|()| std::fs::rename(&new, path)).map_err(failed)
}
