//! SUBSCRIBE and MONITOR: what a session follows, and how it is told.

use std::io::Write as _;

use super::{Done, Session};
use crate::intake::commands::table::{Kind as CommandKind, Spec};
use crate::intake::live::{Heard, Kind, Listener, NOTICES};
use crate::intake::push::Desk;
use crate::intake::shared::unix_micros;
use crate::resp::decode::Args;
use crate::resp::encode::Protocol;
use crate::resp::reply::Reply;

// === impl Session ===

impl Session {
    /// Whether it follows something.
    #[inline]
    pub(in crate::intake) fn follows(&self) -> bool {
        self.listener.is_some()
    }

    /// In RESP2 a client that follows something cannot tell a reply from a message, so that few commands are left to it.
    pub(super) fn is_confined(&self) -> bool {
        self.follows() && self.client.protocol == Protocol::Resp2 && self.client.follows.iter().any(|names| *names > 0)
    }

    /// The refusal of a command to a client that [`Session::is_confined`]; nothing for those that are left.
    pub(super) fn confined(spec: &Spec) -> Option<Reply> {
        let left = matches!(
            spec.kind,
            CommandKind::Subscribe(_) | CommandKind::Unsubscribe(_) | CommandKind::Quit | CommandKind::Reset
        );
        if left || spec.name == "ping" {
            return None;
        }
        let allowed = "only (P|S)SUBSCRIBE / (P|S)UNSUBSCRIBE / PING / QUIT / RESET are allowed in this context";
        Some(Reply::error(format!("ERR Can't execute '{}': {allowed}", spec.name)))
    }

    pub(super) fn subscribe<S>(&mut self, kind: Kind, args: Args<'_>, desk: &mut Desk<'_, S>) -> Done {
        let hub = &desk.shared.hub;
        for name in args.from(1) {
            let listener = self.listener.get_or_insert_with(|| Box::new(Listener::new(hub.clone())));
            if let Err(error) = listener.subscribe(kind, name) {
                self.say(&Reply::error(format!("ERR {error}")));
                break;
            }
            self.confirm(kind, true, Some(name));
        }
        self.listening(desk)
    }

    pub(super) fn unsubscribe<S>(&mut self, kind: Kind, args: Args<'_>, desk: &mut Desk<'_, S>) -> Done {
        let mut names: Vec<Vec<u8>> = args.from(1).map(<[u8]>::to_vec).collect();
        if names.is_empty() {
            names = self.listener.iter().flat_map(|listener| listener.names(kind)).map(|name| name.to_vec()).collect();
        }
        if names.is_empty() {
            self.confirm(kind, false, None);
        }
        for name in names {
            if let Some(listener) = &mut self.listener {
                listener.unsubscribe(kind, &name);
            }
            self.confirm(kind, false, Some(&name));
        }
        self.listening(desk)
    }

    pub(super) fn monitor<S>(&mut self, desk: &mut Desk<'_, S>) -> Done {
        let hub = &desk.shared.hub;
        self.listener.get_or_insert_with(|| Box::new(Listener::new(hub.clone()))).monitor();
        self.client.monitors = true;
        desk.shared.enlist(&self.client);
        self.reply(&Reply::OK)
    }

    /// Follows nothing more.
    pub(super) fn stop_listening(&mut self) {
        self.listener = None;
        (self.client.follows, self.client.monitors) = ([0; 3], false);
    }

    /// Something is followed, or no more.
    fn listening<S>(&mut self, desk: &Desk<'_, S>) -> Done {
        if self.client.follows == [0; 3] && !self.client.monitors {
            self.listener = None;
        }
        desk.shared.enlist(&self.client);
        // A confirmation is no reply: it is sent whatever CLIENT REPLY says, which counts the command all the same.
        self.client.takes_reply();
        Done::Yes
    }

    fn confirm(&mut self, kind: Kind, on: bool, name: Option<&[u8]>) {
        self.client.follows = match &self.listener {
            Some(listener) => [Kind::Channel, Kind::Pattern, Kind::Shard].map(|kind| listener.names(kind).len()),
            None => [0; 3],
        };
        self.client.monitors = self.listener.as_ref().is_some_and(|listener| listener.monitors());
        let [channels, patterns, shards] = self.client.follows;
        let (word, count) = match (kind, on) {
            (Kind::Channel, true) => ("subscribe", channels + patterns),
            (Kind::Channel, false) => ("unsubscribe", channels + patterns),
            (Kind::Pattern, true) => ("psubscribe", channels + patterns),
            (Kind::Pattern, false) => ("punsubscribe", channels + patterns),
            (Kind::Shard, true) => ("ssubscribe", shards),
            (Kind::Shard, false) => ("sunsubscribe", shards),
        };
        self.say(&Reply::Push(vec![Reply::text(word), name.map_or(Reply::Nil, Reply::bulk), Reply::count(count)]));
    }

    /// Tells those who follow commands of this one.
    pub(super) fn overheard<S>(&self, spec: &Spec, args: Args<'_>, desk: &mut Desk<'_, S>) {
        let secret = matches!(spec.name, "auth" | "hello");
        let micros = unix_micros(std::time::SystemTime::now());
        desk.tap.overhear(micros, self.client.database, &self.client.address, args.from(0), secret);
    }

    /// Whether it can be told more: what it was told before is on its way, and no reply is due.
    pub(in crate::intake) fn is_attentive(&self) -> bool {
        self.replies.unwritten().is_empty() && self.replies.waiting() == 0 && self.flow != super::Flow::Closing
    }

    /// Tells it what came since the last time, about `room` bytes of it.
    pub(in crate::intake) fn hear(&mut self, room: usize) {
        let Some(mut listener) = self.listener.take() else { return };
        let (protocol, replies) = (self.client.protocol, &mut self.replies);
        let only_commands = self.client.follows == [0; 3];
        let user = self.client.user.as_ref();
        let allowed = |channel: &[u8]| user.is_some_and(|user| user.may_write_key(channel));
        listener.collect(allowed, room, |heard| {
            replies.answer(|out| match heard {
                Heard::Message { kind: Kind::Channel, channel, value, .. } => {
                    push(protocol, &[b"message", channel, value], out);
                }
                Heard::Message { kind: Kind::Pattern, name, channel, value } => {
                    push(protocol, &[b"pmessage", name, channel, value], out);
                }
                Heard::Message { kind: Kind::Shard, channel, value, .. } => {
                    push(protocol, &[b"smessage", channel, value], out);
                }
                Heard::Command(line) => out.extend_from_slice(format!("+{line}\r\n").as_bytes()),
                Heard::Skipped(count) if only_commands => {
                    out.extend_from_slice(format!("+tidegate skipped {count} commands\r\n").as_bytes());
                }
                Heard::Skipped(count) => {
                    let notice = format!("{{\"skipped\":{count}}}");
                    push(protocol, &[b"message", NOTICES.as_bytes(), notice.as_bytes()], out);
                }
            });
        });
        self.listener = Some(listener);
    }
}

/// Writes a message. Not by way of [`Reply`], which would copy it once more for each who is told.
fn push(protocol: Protocol, parts: &[&[u8]], out: &mut Vec<u8>) {
    let kind = if protocol == Protocol::Resp3 { '>' } else { '*' };
    // Writing to a Vec does not fail.
    let _ = write!(out, "{kind}{}\r\n", parts.len());
    for part in parts {
        let _ = write!(out, "${}\r\n", part.len());
        out.extend_from_slice(part);
        out.extend_from_slice(b"\r\n");
    }
}
