//! The kernel's IPVS over a netlink socket.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, Read as _, Write as _};
use std::time::Duration;

use socket2::{Domain, Protocol, Socket, Type};

use super::desired::Balanced;
use super::ipvs::{self, FAMILY, Key, Service};
use super::netlink::{Message, REQUEST, Received, attributes, find, messages, number16};

/// `AF_NETLINK` and `NETLINK_GENERIC`.
const NETLINK: i32 = 16;
/// The family that knows the others by name: its number, the command that asks, name and number as attributes.
const CONTROL: u16 = 0x10;
const GET_FAMILY: u8 = 3;
const FAMILY_ID: u16 = 1;
const FAMILY_NAME: u16 = 2;
/// The kernel answers at once.
const PATIENCE: Duration = Duration::from_secs(5);

/// Why the kernel does not do as asked.
#[derive(Debug, thiserror::Error)]
pub enum KernelError {
    /// There is no IPVS.
    #[error("this kernel has no IPVS: load it with `modprobe ip_vs`, or use keepalived on a machine that has it")]
    Missing,
    /// The system call, or what the kernel answers.
    #[error("IPVS: {what}: {cause}")]
    Failed {
        /// What was asked.
        what: String,
        /// What came of it.
        cause: io::Error,
    },
}

/// The kernel's IPVS.
pub(super) struct Kernel {
    socket: Socket,
    family: u16,
    sequence: u32,
    /// Services that were made by this process: they go when they are wanted no longer.
    owned: BTreeSet<Key>,
}

// === impl Kernel ===

impl Kernel {
    /// Looks for it.
    ///
    /// # Errors
    /// There is none.
    pub(super) fn open() -> Result<Self, KernelError> {
        let failed = |cause| KernelError::Failed { what: "a netlink socket".to_owned(), cause };
        let socket = Socket::new(Domain::from(NETLINK), Type::RAW, Some(Protocol::from(NETLINK))).map_err(failed)?;
        socket.set_read_timeout(Some(PATIENCE)).map_err(failed)?;
        let kernel = Self { socket, family: CONTROL, sequence: 0, owned: BTreeSet::new() };
        let name: Vec<u8> = FAMILY.bytes().chain([0]).collect();
        let asked = Message::new(CONTROL, REQUEST, 1, GET_FAMILY, 1).put(FAMILY_NAME, &name).finish();
        let mut family = None;
        let found = kernel.exchange("looking for it", &asked, false, |body| {
            family = find(&attributes(body), FAMILY_ID).and_then(|id| number16(id, 0));
        });
        match (found, family) {
            (Ok(()), Some(family)) => Ok(Self { family, ..kernel }),
            (Err(KernelError::Failed { cause, .. }), _) if cause.kind() != io::ErrorKind::NotFound => {
                Err(KernelError::Failed { what: "looking for it".to_owned(), cause })
            }
            _ => Err(KernelError::Missing),
        }
    }

    /// Makes of what is there what should be. The services of others stay.
    ///
    /// # Errors
    /// The kernel refuses something; what was done before stays done.
    pub(super) fn apply(&mut self, wanted: &[Balanced]) -> Result<(), KernelError> {
        let has = self.read()?;
        let wanted_keys: BTreeSet<Key> = wanted.iter().map(|it| ipvs::key(&it.virtual_server)).collect();
        let surplus: Vec<Key> = self.owned.difference(&wanted_keys).copied().collect();
        for change in ipvs::plan(&has, wanted, &surplus) {
            self.sequence = self.sequence.wrapping_add(1);
            let message = change.message(self.family, self.sequence);
            self.exchange(&format!("{change:?}"), &message, true, |_| {})?;
        }
        self.owned = wanted_keys;
        Ok(())
    }

    fn read(&mut self) -> Result<BTreeMap<Key, Service>, KernelError> {
        self.sequence = self.sequence.wrapping_add(1);
        let mut services = BTreeMap::new();
        let asked = ipvs::get_services(self.family, self.sequence);
        self.exchange("reading services", &asked, true, |body| services.extend(ipvs::read_service(body)))?;
        for (key, service) in &mut services {
            self.sequence = self.sequence.wrapping_add(1);
            let asked = ipvs::get_dests(self.family, self.sequence, key);
            self.exchange("reading real servers", &asked, true, |body| {
                service.real.extend(ipvs::read_dest(body, key))
            })?;
        }
        Ok(services)
    }

    /// Sends a message and takes what comes in answer; `until_end` waits for the acknowledgement or the end of a dump.
    fn exchange(
        &self,
        what: &str,
        message: &[u8],
        until_end: bool,
        mut take: impl FnMut(&[u8]),
    ) -> Result<(), KernelError> {
        let failed = |cause| KernelError::Failed { what: what.to_owned(), cause };
        (&self.socket).write_all(message).map_err(failed)?;
        let mut buffer = vec![0; 64 << 10];
        loop {
            let length = (&self.socket).read(&mut buffer).map_err(failed)?;
            for message in messages(buffer.get(..length).unwrap_or_default()) {
                match message {
                    Received::Status(0) | Received::Done => return Ok(()),
                    Received::Status(number) => return Err(failed(io::Error::from_raw_os_error(number))),
                    Received::Data(body) => take(body),
                }
            }
            if !until_end {
                return Ok(());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Whether there is one or not: the kernel's own family of families answers, so that the socket and the messages are real.
    #[test]
    fn the_kernel_says_whether_it_has_ipvs() {
        match Kernel::open() {
            Ok(kernel) => assert!(kernel.family > CONTROL),
            Err(error) => assert!(matches!(error, KernelError::Missing), "{error}"),
        }
    }
}
