//! How much replay holds in memory: one bound on what was read and is not settled, and a smaller one beside it for groups
//! that their brokers do not answer, so that these never keep the others from going on. Decides, does nothing.

/// The most of what was read and not settled, overhead included, in bytes.
const LIMIT: usize = 16 << 20;
/// The most of that in groups that are late.
const LATE_LIMIT: usize = 16 << 20;
/// The most of one lane that is read ahead: one that is slow must not fill the window.
const LANE: usize = LIMIT / 3;

/// What is held now, in bytes.
#[derive(Debug, Default)]
pub(super) struct Window {
    held: usize,
    late: usize,
}

// === impl Window ===

impl Window {
    /// Bytes that may still be read.
    pub(super) fn room(&self) -> usize {
        LIMIT.saturating_sub(self.held)
    }

    /// True where a lane that holds so much may be read on.
    pub(super) fn has_room_for_lane(held: usize) -> bool {
        held < LANE
    }

    /// True where a broker that does not answer may be asked by one more lane.
    pub(super) fn has_room_for_late(&self) -> bool {
        self.late < LATE_LIMIT
    }

    pub(super) fn take(&mut self, cost: usize) {
        self.held += cost;
    }

    pub(super) fn give_back(&mut self, cost: usize, late: bool) {
        let from = if late { &mut self.late } else { &mut self.held };
        *from = from.saturating_sub(cost);
    }

    /// A group of so many bytes became late.
    pub(super) fn set_late(&mut self, cost: usize) {
        self.held = self.held.saturating_sub(cost);
        self.late += cost;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_late_makes_room_for_others_up_to_a_bound() {
        let mut window = Window::default();
        window.take(LIMIT);
        assert_eq!(window.room(), 0);
        window.set_late(LIMIT / 2);
        assert_eq!(window.room(), LIMIT / 2);
        assert!(window.has_room_for_late());
        window.set_late(LIMIT / 2);
        assert!(!window.has_room_for_late());
        window.give_back(LIMIT, true);
        assert_eq!((window.held, window.late), (0, 0));
    }
}
