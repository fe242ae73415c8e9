//! Replies of one connection: one for each command, in order, each when its records are safe.
//!
//! A command whose records are on their way holds a slot; what is answered at once goes straight to the output where no
//! slot is open, else behind it. Slots are numbered from the connection's start, so that a record's outcome finds its own
//! without a search, and one that comes after its slot was given up finds none.

use std::collections::VecDeque;

use crate::record::sink::Failure;

/// A number's text in a reply to a push is this, nearly always.
const ONE: &[u8] = b":1\r\n";
/// Output memory kept when all of it was written, in bytes.
const KEEP: usize = 16 << 10;

/// A command whose records are on their way.
#[derive(Debug)]
pub(super) struct Pending {
    /// Records of the command.
    pub(super) total: u32,
    /// Outcomes to come.
    pub(super) left: u32,
    /// Records that failed, and why the first of them did.
    pub(super) failed: Option<(u32, Failure)>,
    /// What success answers.
    pub(super) success: Success,
    /// CLIENT REPLY hides it.
    pub(super) silent: bool,
    /// The route closes the connection in place of an error.
    pub(super) closes: bool,
    /// When it must be answered, in milliseconds of the worker's life.
    pub(super) deadline: u64,
}

/// What success answers.
#[derive(Debug)]
pub(super) enum Success {
    /// The number of records.
    Count,
    /// A number of another kind: the fields of a hash.
    Number(u32),
    /// `+OK`.
    Ok,
    /// A stream entry's id.
    Id(Box<str>),
    /// Nothing: the slot is a joined record's, and hands its outcome on to these, each so many times.
    Joined(Box<[(u32, u32)]>),
}

#[derive(Debug)]
enum Slot {
    /// Encoded replies of commands answered at once.
    Ready(Vec<u8>),
    Pending(Pending),
}

/// What became of slots that were released.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Released {
    /// Records whose command was answered with success.
    pub(super) acknowledged: u64,
    /// Records whose command was answered with an error.
    pub(super) refused: u64,
    /// Why the last of them was.
    pub(super) failure: Option<Failure>,
    /// The connection must close: a route wants that in place of an error.
    pub(super) close: bool,
}

/// All replies of one connection that are not written yet.
#[derive(Debug, Default)]
pub(super) struct Replies {
    first: u32,
    slots: VecDeque<Slot>,
    out: Vec<u8>,
    written: usize,
}

// === impl Replies ===

impl Replies {
    /// Appends a reply that is known at once.
    pub(super) fn answer(&mut self, encode: impl FnOnce(&mut Vec<u8>)) {
        match self.slots.back_mut() {
            None => encode(&mut self.out),
            Some(Slot::Ready(bytes)) => encode(bytes),
            Some(Slot::Pending(_)) => {
                let mut bytes = Vec::new();
                encode(&mut bytes);
                self.slots.push_back(Slot::Ready(bytes));
            }
        }
    }

    /// Opens a slot and gives its number.
    #[inline]
    pub(super) fn open(&mut self, pending: Pending) -> u32 {
        // Slots of one connection in flight are far fewer than u32 counts, so the difference of numbers is exact.
        #[expect(clippy::cast_possible_truncation, reason = "the session stops reading long before")]
        let number = self.first.wrapping_add(self.slots.len() as u32);
        self.slots.push_back(Slot::Pending(pending));
        number
    }

    /// Opens a slot of its own for a record that was joined from lines of commands before it: `lines` are their slots, each
    /// with how many. It answers nothing itself.
    pub(super) fn open_joined(&mut self, lines: Vec<(u32, u32)>, deadline: u64) -> u32 {
        self.open(Pending {
            total: 0,
            left: 1,
            failed: None,
            success: Success::Joined(lines.into()),
            silent: true,
            closes: false,
            deadline,
        })
    }

    /// Takes the outcome of one record. True where the slot at the front can be released now; false also for one that
    /// was given up.
    #[inline]
    pub(super) fn settle(&mut self, number: u32, outcome: Result<(), Failure>) -> bool {
        let place = number.wrapping_sub(self.first) as usize;
        let Some(Slot::Pending(pending)) = self.slots.get_mut(place) else { return false };
        pending.left = pending.left.saturating_sub(1);
        if let Err(failure) = outcome {
            pending.failed.get_or_insert((0, failure)).0 += 1;
        }
        let can_release = pending.left == 0 && place == 0;
        if let Success::Joined(lines) = &mut pending.success {
            let lines = std::mem::take(lines);
            return lines.iter().fold(can_release, |can_release, &(slot, count)| {
                (0..count).fold(can_release, |can_release, _| self.settle(slot, outcome) || can_release)
            });
        }
        can_release
    }

    /// Moves the replies of finished commands at the front to the output.
    pub(super) fn release(&mut self) -> Released {
        let mut released = Released::default();
        while let Some(front) = self.slots.front_mut() {
            match front {
                Slot::Ready(bytes) => self.out.append(bytes),
                Slot::Pending(pending) if pending.left > 0 => break,
                Slot::Pending(pending) => {
                    let total = u64::from(pending.total);
                    match pending.failed {
                        None => {
                            released.acknowledged += total;
                            pending.answer(&mut self.out);
                        }
                        Some((_, failure)) => {
                            released.refused += total;
                            released.failure = Some(failure);
                            if pending.closes {
                                released.close = true;
                                return released;
                            }
                            pending.refuse(failure, &mut self.out);
                        }
                    }
                }
            }
            self.slots.pop_front();
            self.first = self.first.wrapping_add(1);
        }
        released
    }

    /// Gives up what should have been answered by `now`, in milliseconds of the worker's life. True where something was.
    /// Only the front can be late: what stands behind it is answered after it in any case.
    pub(super) fn expire(&mut self, now: u64) -> bool {
        self.give_up(|pending| pending.deadline <= now, Failure::TimedOut)
    }

    /// Gives up everything: the process stops.
    pub(super) fn stop(&mut self) {
        self.give_up(|_| true, Failure::Stopped);
    }

    fn give_up(&mut self, due: impl Fn(&Pending) -> bool, failure: Failure) -> bool {
        let mut any = false;
        for slot in &mut self.slots {
            if let Slot::Pending(pending) = slot
                && pending.left > 0
            {
                if !due(pending) {
                    break;
                }
                pending.failed.get_or_insert((0, failure)).0 += pending.left;
                pending.left = 0;
                any = true;
            }
        }
        any
    }

    /// Nothing is said beyond what was released.
    pub(super) fn silence(&mut self) {
        self.first = self.first.wrapping_add(u32::try_from(self.slots.len()).unwrap_or(u32::MAX));
        self.slots.clear();
    }

    /// Nothing is said any more.
    pub(super) fn abandon(&mut self) {
        self.silence();
        self.out = Vec::new();
        self.written = 0;
    }

    /// True where there is something to release or to write.
    pub(super) fn has_news(&self) -> bool {
        let releasable = self.slots.front().is_some_and(|slot| match slot {
            Slot::Ready(_) => true,
            Slot::Pending(pending) => pending.left == 0,
        });
        releasable || !self.unwritten().is_empty()
    }

    /// Commands that are not answered yet.
    pub(super) fn waiting(&self) -> usize {
        self.slots.len()
    }

    /// Bytes to write.
    pub(super) fn unwritten(&self) -> &[u8] {
        self.out.get(self.written..).unwrap_or_default()
    }

    /// The socket took this many of them.
    pub(super) fn wrote(&mut self, count: usize) {
        self.written += count;
        if self.written >= self.out.len() {
            self.written = 0;
            self.out.clear();
            if self.out.capacity() > KEEP {
                self.out = Vec::new();
            }
        }
    }
}

// === impl Pending ===

impl Pending {
    fn answer(&self, out: &mut Vec<u8>) {
        if self.silent {
            return;
        }
        match &self.success {
            Success::Count if self.total == 1 => out.extend_from_slice(ONE),
            Success::Count => out.extend_from_slice(format!(":{}\r\n", self.total).as_bytes()),
            Success::Number(number) => out.extend_from_slice(format!(":{number}\r\n").as_bytes()),
            Success::Ok => out.extend_from_slice(b"+OK\r\n"),
            Success::Joined(_) => {}
            Success::Id(id) => out.extend_from_slice(format!("${}\r\n{id}\r\n", id.len()).as_bytes()),
        }
    }

    fn refuse(&self, failure: Failure, out: &mut Vec<u8>) {
        if self.silent {
            return;
        }
        let failed = self.failed.map_or(0, |(count, _)| count);
        let safe = self.total.saturating_sub(failed);
        let how_many = if self.total == 1 {
            String::from("the record is not known to be in Kafka")
        } else {
            format!("{safe} of {} records are in Kafka, the others are not known to be", self.total)
        };
        out.extend_from_slice(format!("-ERR {how_many}: {}\r\n", reason(failure)).as_bytes());
    }
}

/// A failure in words for a client: what happened and what helps.
fn reason(failure: Failure) -> &'static str {
    match failure {
        Failure::TimedOut => "Kafka did not confirm in time (hold_ms); it may still arrive, try again later",
        Failure::TooLarge => "it is larger than Kafka's max.message.bytes for the topic",
        Failure::NotAuthorized => "Kafka does not let Tidegate write the topic",
        Failure::UnknownTopic => "the topic does not exist and nobody creates it (create_topic)",
        Failure::Refused => "Kafka refused it; Tidegate's log and /debug/log say why",
        Failure::NotStored => "the spool's disk is full or failed (log.spool); try again later",
        Failure::Stopped => "Tidegate is stopping; it may still arrive, connect again",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pending(total: u32) -> Pending {
        Pending {
            total,
            left: total,
            failed: None,
            success: Success::Count,
            silent: false,
            closes: false,
            deadline: 100,
        }
    }

    fn written(replies: &mut Replies) -> String {
        let text = String::from_utf8_lossy(replies.unwritten()).into_owned();
        replies.wrote(text.len());
        text
    }

    #[test]
    fn replies_keep_the_order_of_their_commands() {
        let mut replies = Replies::default();
        let first = replies.open(pending(1));
        let second = replies.open(pending(2));
        replies.answer(|out| out.extend_from_slice(b"+PONG\r\n"));
        assert!(!replies.settle(second, Ok(())));
        assert!(!replies.settle(second, Ok(())));
        replies.release();
        assert_eq!(written(&mut replies), "");
        assert!(replies.settle(first, Ok(())));
        assert_eq!(replies.release().acknowledged, 3);
        assert_eq!(written(&mut replies), ":1\r\n:2\r\n+PONG\r\n");
        replies.answer(|out| out.extend_from_slice(b"+OK\r\n"));
        assert_eq!(written(&mut replies), "+OK\r\n");
    }

    #[test]
    fn an_error_says_how_many_records_are_safe() {
        let mut replies = Replies::default();
        let slot = replies.open(pending(3));
        replies.settle(slot, Ok(()));
        replies.settle(slot, Err(Failure::NotAuthorized));
        assert!(replies.settle(slot, Ok(())));
        let released = replies.release();
        assert_eq!((released.acknowledged, released.refused), (0, 3));
        assert!(written(&mut replies).starts_with("-ERR 2 of 3 records are in Kafka"));
    }

    #[test]
    fn what_comes_after_the_deadline_finds_no_slot() {
        let mut replies = Replies::default();
        let slot = replies.open(pending(1));
        assert!(!replies.expire(99));
        assert!(replies.expire(100));
        assert_eq!(replies.release().failure, Some(Failure::TimedOut));
        assert!(!replies.settle(slot, Ok(())));
        let next = replies.open(pending(1));
        assert!(replies.settle(next, Ok(())));
    }

    #[test]
    fn a_route_may_close_in_place_of_an_error_and_then_nothing_more_is_said() {
        let mut replies = Replies::default();
        replies.open(Pending { closes: true, ..pending(1) });
        replies.answer(|out| out.extend_from_slice(b"+PONG\r\n"));
        replies.expire(100);
        assert!(replies.release().close);
        assert_eq!(written(&mut replies), "");
    }

    #[test]
    fn lines_are_answered_when_the_record_that_they_made_is_settled() {
        let mut replies = Replies::default();
        let first = replies.open(pending(1));
        let second = replies.open(pending(3));
        let made = replies.open_joined(vec![(first, 1), (second, 2)], 100);
        replies.answer(|out| out.extend_from_slice(b"+PONG\r\n"));
        let rest = replies.open_joined(vec![(second, 1)], 100);
        assert!(replies.settle(made, Ok(())));
        assert_eq!(replies.release().acknowledged, 1);
        assert_eq!(written(&mut replies), ":1\r\n");
        assert!(replies.settle(rest, Err(Failure::TimedOut)));
        let released = replies.release();
        assert_eq!((released.acknowledged, released.refused), (0, 3));
        let text = written(&mut replies);
        assert!(text.starts_with("-ERR 2 of 3 records are in Kafka") && text.ends_with("+PONG\r\n"), "{text}");
        assert_eq!(replies.waiting(), 0);
    }

    #[test]
    fn a_hidden_reply_is_not_written_but_counted() {
        let mut replies = Replies::default();
        let slot = replies.open(Pending { silent: true, ..pending(1) });
        replies.settle(slot, Ok(()));
        assert_eq!(replies.release().acknowledged, 1);
        assert_eq!(written(&mut replies), "");
    }
}
