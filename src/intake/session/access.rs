//! Who a session is: by certificate, after a reload, and when a login failed.

use std::time::Instant;

use super::{Flow, Session};
use crate::intake::commands;
use crate::intake::commands::table::Spec;
use crate::intake::policy::Policy;
use crate::intake::push::Desk;
use crate::intake::shared::Shared;
use crate::resp::decode::OwnedArgs;

// === impl Session ===

impl Session {
    /// TLS is agreed upon: the client's certificate says who it is.
    pub(in crate::intake) fn identify(&mut self, policy: &Policy, shared: &Shared) {
        self.client.identify(self.stream.peer_names(), &policy.users);
        shared.enlist(&self.client);
    }

    /// Follows a reload: its route is looked up anew, its user has the rights of now, and a transaction with a command
    /// that is no longer allowed cannot be carried out.
    #[cold]
    pub(super) fn look_again<S>(&mut self, desk: &Desk<'_, S>) {
        self.policy = desk.policy.version;
        self.bound = None;
        self.client.follow(&desk.policy.users);
        if let Some(transaction) = &mut self.transaction {
            let allowed = |(spec, args): &(&'static Spec, OwnedArgs)| {
                commands::check(spec, &args.as_args().to_vec(), &self.client).is_ok()
            };
            transaction.failed |= !transaction.commands.iter().all(allowed);
        }
        desk.shared.enlist(&self.client);
    }

    /// Logins failed since there were `before`: the answer waits, and so does whatever comes behind it.
    #[cold]
    pub(super) fn slow_down<S>(&mut self, before: u32, desk: &Desk<'_, S>) {
        for _ in before..self.client.failed_logins {
            desk.shared.metrics.failed_logins.increment(1);
            let wait = desk.shared.logins.failed(&self.client.address, desk.millis);
            self.slow_until = Some(self.slow_until.map_or(desk.now, |until| until.max(desk.now)) + wait);
        }
    }

    /// Ends the wait for a failed login, if its time has come: true while it has not.
    pub(in crate::intake) fn is_slowed(&mut self, now: Instant) -> bool {
        if self.flow == Flow::Slowed && self.slow_until.is_none_or(|until| now >= until) {
            self.slow_until = None;
            // Goes on as one whose replies were read.
            self.flow = Flow::Full;
        }
        self.flow == Flow::Slowed
    }
}
