//! Reading back what is durable and not done, in order within each lane.
//!
//! Each call of [`Replay::next`] goes forward once, from where one of the runnable lanes is to be read on, and hands out
//! the frames of every runnable lane that is read on from there or further. A lane that is behind waits for a call that
//! starts with it; calls start with the lanes in turn, so that none starves. Segments that hold nothing for the lanes that
//! are read are passed over unread.

use std::collections::HashMap;
use std::io;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use super::disk::{DiskFile, is_shortage};
use super::engine::Shared;
use super::family;
use super::frame::{Header, LONGEST_HEADER};
use super::lane::Lane;
use super::position::FrameId;
use super::reach::Reach;
use super::replay_frame::ReplayFrame;
use super::scan::{Window, is_sound};
use super::segment::FIRST_FRAME;

/// The one reader of a spool, for one thread.
pub struct Replay {
    pub(super) shared: Arc<Shared>,
    /// All lanes, by number.
    lanes: Vec<Lane>,
    /// Of the lanes that are read in this call, where each is read on.
    active: Vec<Option<FrameId>>,
    /// Of lanes that are read in order with others, up to where.
    limits: HashMap<usize, FrameId>,
    /// Lanes that stopped being runnable in this call, and where.
    left: Vec<(usize, FrameId)>,
    /// The lane that the last call started with.
    turn: usize,
    pub(super) file: Option<OpenSegment>,
    window: Window,
    buffers: Vec<Vec<u8>>,
    /// News that were seen when everything had been read.
    seen: u64,
    /// Where reading failed, and how often.
    pub(super) failed: (FrameId, u32),
    /// The last segment that was there when the spool was opened.
    found: u64,
    /// How far was sent, in this life and before.
    reach: Reach,
}

/// What a call of [`Replay::next`] came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    /// Frames were handed out.
    Read,
    /// There are records to be read, of lanes that are not runnable or have unresolved guards.
    Held,
    /// Everything that is durable was handed out.
    Tail,
}

/// Reading failed. The same frames come with a later call; after a few failures they are passed over as damaged.
#[derive(Debug, thiserror::Error)]
#[error("the spool cannot be read at {at}: {cause}")]
pub struct ReadError {
    /// Where.
    pub at: FrameId,
    /// What the operating system said.
    pub cause: io::Error,
}

/// The segment that is being read.
pub(super) struct OpenSegment {
    pub(super) sequence: u64,
    pub(super) file: Box<dyn DiskFile>,
}

/// A stretch of a segment to be read.
pub(super) struct Stretch {
    pub(super) sequence: u64,
    pub(super) marker: u64,
    pub(super) at: u64,
    pub(super) end: u64,
    pub(super) holes: Vec<Range<u64>>,
}

/// Read ahead, in bytes.
const WINDOW: usize = 256 << 10;
const BUFFERS: usize = 64;
const LARGEST_BUFFER: usize = 256 << 10;

// === impl Replay ===

impl Replay {
    pub(super) fn new(shared: Arc<Shared>) -> Self {
        let found = shared.highest.load(Ordering::Relaxed);
        Self {
            found,
            reach: Reach::open(Arc::clone(&shared.disk), shared.paths.clone(), found),
            shared,
            lanes: Vec::new(),
            active: Vec::new(),
            limits: HashMap::new(),
            left: Vec::new(),
            turn: usize::MAX,
            file: None,
            window: Window::new(WINDOW),
            buffers: Vec::new(),
            seen: 0,
            failed: (FrameId::default(), 0),
        }
    }

    /// Hands out frames of lanes that are `runnable`, at least one if there is any and about `max_bytes` at most. A lane
    /// is asked about before each of its frames; its frames come in order, each once until the lane is stopped.
    ///
    /// # Errors
    /// The disk refused to read, and nothing was handed out.
    pub fn next(
        &mut self,
        runnable: &mut dyn FnMut(&Lane) -> bool,
        out: &mut Vec<ReplayFrame>,
        max_bytes: usize,
    ) -> Result<Progress, ReadError> {
        let before = out.len();
        loop {
            self.seen = self.shared.news.count();
            let (start, waiting) = self.choose(runnable);
            let Some(start) = start else {
                return Ok(if waiting { Progress::Held } else { Progress::Tail });
            };
            let read = self.go_forward(start, runnable, out, max_bytes.max(1));
            if out.len() > before {
                return Ok(Progress::Read);
            }
            if !read? {
                // What the account says is there is not: never a reason to search for ever.
                return Ok(Progress::Held);
            }
        }
    }

    /// Marks records of a frame as delivered, by their places in it. A frame of a lane that was stopped since is not
    /// marked: it comes again.
    pub fn done(&mut self, lane: &Lane, frame: FrameId, records: Range<u32>) {
        self.shared.ledger().done(lane.index(), frame, records);
    }

    /// Takes back what was handed out of a lane and is not done: it comes again, in order.
    pub fn stop(&mut self, lane: &Lane) {
        if let Some(state) = self.shared.ledger().lanes.get_mut(lane.index()) {
            state.stop();
        }
    }

    /// Only a little is sent from now on, to find out whether it is delivered; or as much as there is. In the first case a
    /// restart takes exactly that little for perhaps delivered, else somewhat more.
    pub fn probe(&mut self, is_probing: bool) {
        self.reach.probe(is_probing);
    }

    /// Records of a frame are about to be sent. False where that cannot be noted on the disk: a process after this one may
    /// deliver them once more and not know of it. May block for a sync of the disk.
    pub fn sending(&mut self, frame: FrameId) -> bool {
        self.reach.cover(frame)
    }

    /// Blocks until there may be something new to read since the last [`Replay::next`], at most for `time`.
    pub fn wait(&self, time: Duration) {
        self.shared.news.wait(self.seen, time);
    }

    /// Takes a frame's memory for use by the next ones.
    pub fn recycle(&mut self, frame: ReplayFrame) {
        let body = frame.into_body();
        if self.buffers.len() < BUFFERS && body.capacity() <= LARGEST_BUFFER {
            self.buffers.push(body);
        }
    }

    /// Finds the lanes that can be read, and where to start; whether there is anything to be read at all.
    fn choose(&mut self, runnable: &mut dyn FnMut(&Lane) -> bool) -> (Option<FrameId>, bool) {
        self.active.clear();
        let mut waiting = false;
        {
            let ledger = self.shared.ledger();
            let new = ledger.lanes.iter().skip(self.lanes.len());
            self.lanes.extend(new.map(|state| state.lane.clone()));
            self.limits = family::limits(&ledger);
            self.active.extend(ledger.lanes.iter().map(|state| {
                waiting |= state.unread > 0;
                (state.unread > 0 && state.lane.guards() == 0).then_some(state.next)
            }));
        }
        for (index, (next, lane)) in self.active.iter_mut().zip(&self.lanes).enumerate() {
            let limit = self.limits.get(&index);
            *next = next.filter(|at| limit.is_none_or(|limit| at <= limit) && runnable(lane));
        }
        let candidates = || self.active.iter().enumerate().filter_map(|(index, next)| Some((index, (*next)?)));
        let in_turn = candidates().find(|(index, _)| self.turn != usize::MAX && *index > self.turn);
        let Some((index, start)) = in_turn.or_else(|| candidates().next()) else { return (None, waiting) };
        self.turn = index;
        for next in &mut self.active {
            *next = next.filter(|next| *next >= start);
        }
        (Some(start), waiting)
    }

    /// Reads forward from a place until there is enough; whether there was anything to read.
    fn go_forward(
        &mut self,
        start: FrameId,
        runnable: &mut dyn FnMut(&Lane) -> bool,
        out: &mut Vec<ReplayFrame>,
        max_bytes: usize,
    ) -> Result<bool, ReadError> {
        let mut place = start;
        let mut found = Vec::new();
        let mut outcome = Ok(false);
        let mut left = max_bytes;
        while let Some(stretch) = self.stretch(place) {
            let (at, read) = self.read_stretch(&stretch, runnable, &mut found, &mut left);
            place = FrameId::new(stretch.sequence, at);
            outcome = Ok(true);
            if let Err(cause) = read {
                outcome = Err(ReadError { at: place, cause });
                break;
            }
            if left == 0 {
                break;
            }
            place = place.max(FrameId::new(stretch.sequence, stretch.end));
        }
        self.finish(place, found, out);
        outcome
    }

    /// The next stretch, at or behind a place, that has records of the lanes that are read.
    fn stretch(&self, place: FrameId) -> Option<Stretch> {
        let ledger = self.shared.ledger();
        ledger.segments.range(place.segment..).find_map(|(&sequence, segment)| {
            let at = if sequence == place.segment { place.offset.max(FIRST_FRAME) } else { FIRST_FRAME };
            let wanted =
                |lane: usize| self.active.get(lane).copied().flatten().is_some_and(|next| next.segment <= sequence);
            let some = segment.shares.iter().any(|(lane, left)| *left > 0 && wanted(*lane));
            (some && at < segment.end).then(|| {
                let holes = segment.holes.clone();
                Stretch { sequence, marker: segment.marker, at, end: segment.end, holes }
            })
        })
    }

    /// Reads frames until there is enough, or the stretch ends; gives where it stopped.
    fn read_stretch(
        &mut self,
        stretch: &Stretch,
        runnable: &mut dyn FnMut(&Lane) -> bool,
        found: &mut Vec<ReplayFrame>,
        left: &mut usize,
    ) -> (u64, io::Result<()>) {
        let mut at = stretch.at;
        while at < stretch.end && *left > 0 {
            if let Some(hole) = stretch.holes.iter().find(|hole| hole.contains(&at)) {
                at = hole.end;
                continue;
            }
            match self.read_frame(stretch, at, runnable) {
                Ok((next, frame)) => {
                    at = next;
                    if let Some(frame) = frame {
                        *left = left.saturating_sub(frame.size());
                        found.push(frame);
                    }
                }
                Err(error) => return (at, Err(error)),
            }
        }
        (at, Ok(()))
    }

    /// Reads one frame; gives where the next is, and the frame if it is to be handed out.
    fn read_frame(
        &mut self,
        stretch: &Stretch,
        at: u64,
        runnable: &mut dyn FnMut(&Lane) -> bool,
    ) -> io::Result<(u64, Option<ReplayFrame>)> {
        let id = FrameId::new(stretch.sequence, at);
        if let Err(error) = self.open(stretch.sequence) {
            return if is_shortage(&error) { Err(error) } else { self.failed_at(id, stretch, None, error) };
        }
        let Some(OpenSegment { file, .. }) = &self.file else { return Err(io::ErrorKind::NotFound.into()) };
        let bytes = match self.window.get(&**file, at, LONGEST_HEADER, stretch.end) {
            Ok(bytes) => bytes,
            Err(error) => return self.failed_at(id, stretch, None, error),
        };
        let header = Header::parse(bytes, stretch.marker, stretch.sequence, at);
        let Some(header) = header.filter(|header| at + header.frame_length() <= stretch.end) else {
            return Ok((self.pass_damage(stretch, at)?, None));
        };
        let next = at + header.frame_length();
        let index = self.shared.ledger().find(header.topic, header.partition).unwrap_or(usize::MAX);
        let due = self.active.get(index).copied().flatten().is_some_and(|from| from <= id);
        let Some(lane) = self.lanes.get(index).filter(|_| due) else { return Ok((next, None)) };
        let within = self.limits.get(&index).is_none_or(|limit| id <= *limit);
        if !within || !runnable(lane) {
            if let Some(active) = self.active.get_mut(index) {
                *active = None;
            }
            self.left.push((index, id));
            return Ok((next, None));
        }
        let header = header.detached();
        let mut body = self.buffers.pop().unwrap_or_default();
        // The frame ends where the durable part of the file does, or before.
        body.resize(header.body_length as usize, 0);
        match self.window.copy(&**file, at + header.length(), &mut body, stretch.end) {
            Ok(true) if is_sound(&header, &body) => {}
            Ok(_) => {
                self.pass_frame(id, index, header.count, next)?;
                return Ok((next, None));
            }
            Err(error) => return self.failed_at(id, stretch, Some((index, header.count, next)), error),
        }
        Ok((next, Some(ReplayFrame::new(lane.clone(), id, &header, body))))
    }

    /// Notes in the ledger what was handed out, and how far each lane was read.
    fn finish(&mut self, place: FrameId, found: Vec<ReplayFrame>, out: &mut Vec<ReplayFrame>) {
        let mut ledger = self.shared.ledger();
        for mut frame in found {
            let is_old = frame.id().segment <= self.found;
            frame.set_may_be_twice(is_old && (frame.is_guard() || self.reach.had(frame.id())));
            match ledger.hand_out(frame.lane().index(), frame.outstanding()) {
                Some(done) => {
                    frame.set_done(done);
                    out.push(frame);
                }
                None => self.buffers.push(frame.into_body()),
            }
        }
        let read = self.active.iter().enumerate().filter(|(_, next)| next.is_some_and(|next| next <= place));
        let read = read.map(|(index, _)| (index, place)).chain(self.left.drain(..));
        for (index, place) in read {
            if let Some(state) = ledger.lanes.get_mut(index) {
                state.read_up_to(place);
            }
        }
    }

    fn open(&mut self, sequence: u64) -> io::Result<()> {
        if self.file.as_ref().is_none_or(|open| open.sequence != sequence) {
            self.window.clear();
            self.file = None;
            let file = self.shared.disk.open(&self.shared.paths.segment(sequence))?;
            self.file = Some(OpenSegment { sequence, file });
        }
        Ok(())
    }
}
