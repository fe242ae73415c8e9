//! Replies as bytes.
//!
//! Values are written by the encoders of `redis-protocol`. The headers of aggregates are written here, because its maps
//! and sets are hash tables: they would shuffle what clients and people read in order, and RESP2's `*-1` has no type there.
//!
//! A status or an error ends at its line's end, so a CR or LF inside one could forge a second reply: both become spaces,
//! as in Redis.

use std::borrow::Cow;
use std::io::Write;

use redis_protocol::resp2::encode::encode_borrowed as encode_resp2;
use redis_protocol::resp2::types::BorrowedFrame as Resp2;
use redis_protocol::resp3::encode::complete::encode_borrowed as encode_resp3;
use redis_protocol::resp3::types::{BorrowedFrame as Resp3, VerbatimStringFormat};

use super::reply::Reply;

/// The version that a connection speaks; HELLO changes it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Protocol {
    /// RESP2, what every connection starts with.
    #[default]
    Resp2,
    /// RESP3.
    Resp3,
}

/// Appends `reply` to `out` in the form of `protocol`.
pub fn encode(reply: &Reply, protocol: Protocol, out: &mut Vec<u8>) {
    match reply {
        Reply::Array(items) => {
            header(b'*', items.len(), out);
            items.iter().for_each(|item| encode(item, protocol, out));
        }
        Reply::Set(items) => {
            header(protocol.pick(b'*', b'~'), items.len(), out);
            items.iter().for_each(|item| encode(item, protocol, out));
        }
        Reply::Push(items) => {
            header(protocol.pick(b'*', b'>'), items.len(), out);
            items.iter().for_each(|item| encode(item, protocol, out));
        }
        Reply::Map(pairs) => {
            header(protocol.pick(b'*', b'%'), pairs.len() * protocol.pick(2, 1), out);
            for (key, value) in pairs {
                encode(key, protocol, out);
                encode(value, protocol, out);
            }
        }
        Reply::NilArray if protocol == Protocol::Resp2 => out.extend_from_slice(b"*-1\r\n"),
        leaf => match protocol {
            Protocol::Resp2 => encode_resp2_leaf(leaf, out),
            Protocol::Resp3 => encode_resp3_leaf(leaf, out),
        },
    }
}

// === impl Protocol ===

impl Protocol {
    /// The number that HELLO and CLIENT INFO show.
    pub fn number(self) -> i64 {
        self.pick(2, 3)
    }

    fn pick<T>(self, resp2: T, resp3: T) -> T {
        match self {
            Protocol::Resp2 => resp2,
            Protocol::Resp3 => resp3,
        }
    }
}

fn encode_resp2_leaf(leaf: &Reply, out: &mut Vec<u8>) {
    let line;
    let frame = match leaf {
        Reply::Simple(text) => {
            line = one_line(text);
            Resp2::SimpleString(line.as_bytes())
        }
        Reply::Error(text) => {
            line = one_line(text);
            Resp2::Error(&line)
        }
        Reply::Integer(number) => Resp2::Integer(*number),
        Reply::Bulk(bytes) => Resp2::BulkString(bytes),
        Reply::Verbatim(text) => Resp2::BulkString(text.as_bytes()),
        _ => Resp2::Null,
    };
    append(out, frame.encode_len(false), |room| encode_resp2(room, &frame, false).ok());
}

fn encode_resp3_leaf(leaf: &Reply, out: &mut Vec<u8>) {
    let line;
    let attributes = None;
    let frame = match leaf {
        Reply::Simple(text) => {
            line = one_line(text);
            Resp3::SimpleString { data: line.as_bytes(), attributes }
        }
        Reply::Error(text) => {
            line = one_line(text);
            Resp3::SimpleError { data: &line, attributes }
        }
        Reply::Integer(number) => Resp3::Number { data: *number, attributes },
        Reply::Bulk(bytes) => Resp3::BlobString { data: bytes, attributes },
        Reply::Verbatim(text) => {
            let format = VerbatimStringFormat::Text;
            Resp3::VerbatimString { data: text.as_bytes(), format, attributes }
        }
        _ => Resp3::Null,
    };
    append(out, frame.encode_len(false), |room| encode_resp3(room, &frame, false).ok());
}

/// Makes room for `length` bytes, the frame's own measure of itself, and keeps as many as were written.
fn append(out: &mut Vec<u8>, length: usize, write: impl FnOnce(&mut [u8]) -> Option<usize>) {
    let start = out.len();
    out.resize(start + length, 0);
    let written = out.get_mut(start..).and_then(write).unwrap_or(0);
    debug_assert!(written > 0, "the room is what the frame asked for");
    out.truncate(start + written);
}

fn header(kind: u8, count: usize, out: &mut Vec<u8>) {
    out.push(kind);
    // Writing to a Vec does not fail.
    let _ = write!(out, "{count}\r\n");
}

fn one_line(text: &str) -> Cow<'_, str> {
    if text.contains(['\r', '\n']) { Cow::Owned(text.replace(['\r', '\n'], " ")) } else { Cow::Borrowed(text) }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use redis_protocol::resp2::types::OwnedFrame as Owned2;
    use redis_protocol::resp3::decode::complete::decode;
    use redis_protocol::resp3::types::OwnedFrame as Owned3;

    use super::*;

    fn bytes(reply: &Reply, protocol: Protocol) -> String {
        let mut out = Vec::new();
        encode(reply, protocol, &mut out);
        String::from_utf8_lossy(&out).into_owned()
    }

    #[test]
    fn a_map_is_flat_in_resp2_and_a_map_in_its_order_in_resp3() {
        let map = Reply::Map(vec![
            (Reply::text("zeta"), Reply::Integer(1)),
            (Reply::text("alpha"), Reply::Map(vec![(Reply::Nil, Reply::NilArray)])),
        ]);
        assert_eq!(bytes(&map, Protocol::Resp2), "*4\r\n$4\r\nzeta\r\n:1\r\n$5\r\nalpha\r\n*2\r\n$-1\r\n*-1\r\n");
        assert_eq!(bytes(&map, Protocol::Resp3), "%2\r\n$4\r\nzeta\r\n:1\r\n$5\r\nalpha\r\n%1\r\n_\r\n_\r\n");
    }

    #[test]
    fn sets_pushes_and_verbatim_text_fall_back_to_older_types_in_resp2() {
        let reply = Reply::Array(vec![
            Reply::Set(vec![Reply::OK]),
            Reply::Push(vec![Reply::Integer(-7)]),
            Reply::Verbatim("hi\r\n".into()),
        ]);
        assert_eq!(bytes(&reply, Protocol::Resp2), "*3\r\n*1\r\n+OK\r\n*1\r\n:-7\r\n$4\r\nhi\r\n\r\n");
        assert_eq!(bytes(&reply, Protocol::Resp3), "*3\r\n~1\r\n+OK\r\n>1\r\n:-7\r\n=8\r\ntxt:hi\r\n\r\n");
    }

    #[test]
    fn a_line_break_in_an_error_or_status_cannot_forge_a_second_reply() {
        for protocol in [Protocol::Resp2, Protocol::Resp3] {
            assert_eq!(bytes(&Reply::error("ERR a\r\n+OK"), protocol), "-ERR a  +OK\r\n");
            assert_eq!(bytes(&Reply::simple("a\n\r:1"), protocol), "+a  :1\r\n");
        }
    }

    #[test]
    fn numbers_keep_their_whole_range() {
        for number in [0, -1, 9, 10, i64::MIN, i64::MAX] {
            assert_eq!(bytes(&Reply::Integer(number), Protocol::Resp2), format!(":{number}\r\n"));
            assert_eq!(bytes(&Reply::Integer(number), Protocol::Resp3), format!(":{number}\r\n"));
        }
    }

    /// Replies as `redis-protocol` reads them back; maps and sets only with distinct, hashable keys.
    fn expected(reply: &Reply) -> Owned3 {
        let attributes = None;
        match reply {
            Reply::Simple(text) => Owned3::SimpleString { data: one_line(text).as_bytes().to_vec(), attributes },
            Reply::Error(text) => Owned3::SimpleError { data: one_line(text).into_owned(), attributes },
            Reply::Integer(data) => Owned3::Number { data: *data, attributes },
            Reply::Bulk(data) => Owned3::BlobString { data: data.to_vec(), attributes },
            Reply::Verbatim(text) => Owned3::VerbatimString {
                data: text.as_bytes().to_vec(),
                format: VerbatimStringFormat::Text,
                attributes,
            },
            Reply::Nil | Reply::NilArray => Owned3::Null,
            Reply::Array(items) => Owned3::Array { data: items.iter().map(expected).collect(), attributes },
            Reply::Set(items) => Owned3::Set { data: items.iter().map(expected).collect(), attributes },
            Reply::Push(items) => Owned3::Push { data: items.iter().map(expected).collect(), attributes },
            Reply::Map(pairs) => {
                Owned3::Map { data: pairs.iter().map(|(k, v)| (expected(k), expected(v))).collect(), attributes }
            }
        }
    }

    fn any_reply() -> impl Strategy<Value = Reply> {
        let leaf = prop_oneof![
            ".{0,20}".prop_map(Reply::simple),
            ".{0,20}".prop_map(Reply::error),
            any::<i64>().prop_map(Reply::Integer),
            prop::collection::vec(any::<u8>(), 0..40).prop_map(Reply::bulk),
            ".{0,20}".prop_map(Reply::Verbatim),
            Just(Reply::Nil),
            Just(Reply::NilArray),
        ];
        leaf.prop_recursive(3, 24, 5, |inner| {
            let keys = prop::collection::btree_set(any::<i64>(), 0..4);
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..5).prop_map(Reply::Array),
                keys.clone().prop_map(|keys| Reply::Set(keys.into_iter().map(Reply::Integer).collect())),
                (keys, inner).prop_map(|(keys, value)| {
                    Reply::Map(keys.into_iter().map(|key| (Reply::Integer(key), value.clone())).collect())
                }),
            ]
        })
    }

    proptest! {
        #[test]
        fn what_is_written_in_resp3_is_read_back_by_redis_protocol(reply in any_reply()) {
            let mut out = Vec::new();
            encode(&reply, Protocol::Resp3, &mut out);
            let (frame, used) = decode(&out).unwrap().unwrap();
            prop_assert_eq!(used, out.len());
            prop_assert_eq!(frame, expected(&reply));
        }

        #[test]
        fn what_is_written_in_resp2_is_exactly_one_frame(reply in any_reply()) {
            let mut out = Vec::new();
            encode(&reply, Protocol::Resp2, &mut out);
            let (frame, used) = redis_protocol::resp2::decode::decode(&out).unwrap().unwrap();
            prop_assert_eq!(used, out.len());
            if let Reply::Bulk(data) = &reply {
                prop_assert_eq!(frame, Owned2::BulkString(data.to_vec()));
            }
        }
    }
}
