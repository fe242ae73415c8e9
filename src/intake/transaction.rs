//! MULTI: commands kept until EXEC, which takes the records of all of them or of none.

use super::commands::table::Spec;
use crate::base::budget::Budget;
use crate::resp::decode::{Args, OwnedArgs};

/// What a queued command costs beside its bytes.
const OVERHEAD: usize = 128;

/// The queue between MULTI and EXEC. Its bytes are taken from the budget until it is dropped.
pub(super) struct Transaction {
    pub(super) commands: Vec<(&'static Spec, OwnedArgs)>,
    /// A command could not be queued: EXEC will refuse.
    pub(super) failed: bool,
    budget: Budget,
    taken: usize,
}

// === impl Transaction ===

impl Transaction {
    pub(super) fn new(budget: Budget) -> Self {
        Self { commands: Vec::new(), failed: false, budget, taken: 0 }
    }

    /// Queues a command; false where the budget has no room for it.
    #[must_use]
    pub(super) fn queue(&mut self, spec: &'static Spec, args: Args<'_>) -> bool {
        let args = args.to_owned();
        let cost = args.heap_bytes() + OVERHEAD;
        if !self.budget.try_take(cost) {
            return false;
        }
        self.taken += cost;
        self.commands.push((spec, args));
        true
    }
}

impl Drop for Transaction {
    fn drop(&mut self) {
        self.budget.give_back(self.taken);
    }
}
