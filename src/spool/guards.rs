//! Guards: copies of records whose outcome at Kafka's client is not known yet.

use slab::Slab;

use super::marks::{Delivered, Marks};
use super::position::FrameId;

/// The guards that are unresolved, or whose frames are not all written.
#[derive(Debug, Default)]
pub(super) struct Guards {
    guards: Slab<State>,
}

#[derive(Debug)]
struct State {
    lane: usize,
    /// Frames that are neither written nor failed.
    pending: usize,
    written: Vec<Written>,
    resolved: Option<Delivered>,
}

#[derive(Debug)]
struct Written {
    id: FrameId,
    first: u32,
    count: u32,
}

// === impl Guards ===

impl Guards {
    /// Notes a guard of `frames` frames; gives its number.
    pub(super) fn add(&mut self, lane: usize, frames: usize) -> usize {
        self.guards.insert(State { lane, pending: frames, written: Vec::new(), resolved: None })
    }

    /// A frame of a guard was written at a place, or was not. Gives the records of it that are done.
    pub(super) fn written(&mut self, guard: usize, first: u32, count: u32, id: Option<FrameId>) -> Marks {
        let Some(state) = self.guards.get_mut(guard) else { return Marks::default() };
        state.pending = state.pending.saturating_sub(1);
        let marks = match (&state.resolved, id) {
            (Some(delivered), Some(_)) => delivered.of_frame(first, count),
            (None, Some(id)) => {
                state.written.push(Written { id, first, count });
                Marks::default()
            }
            (_, None) => Marks::default(),
        };
        if state.pending == 0 && state.resolved.is_some() {
            self.guards.remove(guard);
        }
        marks
    }

    /// Resolves a guard; gives its lane, and what is done of the frames that are written.
    pub(super) fn resolve(&mut self, guard: usize, delivered: Delivered) -> Option<(usize, Vec<(FrameId, Marks)>)> {
        let state = self.guards.get_mut(guard).filter(|state| state.resolved.is_none())?;
        let written = std::mem::take(&mut state.written);
        let done = written.iter().map(|frame| (frame.id, delivered.of_frame(frame.first, frame.count))).collect();
        let lane = state.lane;
        if state.pending == 0 {
            self.guards.remove(guard);
        } else {
            state.resolved = Some(delivered);
        }
        Some((lane, done))
    }
}
