//! Requests to Kafka, written by hand, that rdkafka's admin client does not know: access rights and leaders.

use std::io::{self, Read as _, Write as _};
use std::net::TcpStream;
use std::time::Duration;

const ANONYMOUS: &str = "User:ANONYMOUS";
const TOPIC: u8 = 2;
const LITERAL: u8 = 3;
const WRITE: u8 = 4;
const DENY: u8 = 2;

/// Denies writing a topic to whoever has not logged in.
pub(super) fn deny_writing(port: u16, topic: &str) -> bool {
    let mut body = Body::default();
    // CreateAcls: one entry.
    body.int32(1).int8(TOPIC).string(topic).int8(LITERAL).string(ANONYMOUS).string("*").int8(WRITE).int8(DENY);
    // The answer: throttle time, the results' number, the first one's error code.
    call(port, 30, 1, false, &body).is_ok_and(|answer| answer.get(8..10) == Some(&[0, 0]))
}

/// Takes [`deny_writing`] back.
pub(super) fn allow_writing(port: u16, topic: &str) -> bool {
    let mut body = Body::default();
    // DeleteAcls: one filter.
    body.int32(1).int8(TOPIC).string(topic).int8(LITERAL).string(ANONYMOUS).string("*").int8(WRITE).int8(DENY);
    call(port, 31, 1, false, &body).is_ok_and(|answer| answer.get(8..10) == Some(&[0, 0]))
}

/// Makes `replicas`, in this order, those of every partition; the first is the preferred leader.
pub(super) fn reassign(port: u16, topic: &str, partitions: i32, replicas: &[i32]) -> bool {
    let mut body = Body::default();
    // AlterPartitionReassignments: a timeout, one topic.
    body.int32(10_000).compact(1).compact_string(topic).compact(usize::try_from(partitions).unwrap_or(0));
    for partition in 0..partitions {
        body.int32(partition).compact(replicas.len());
        replicas.iter().for_each(|replica| {
            body.int32(*replica);
        });
        body.no_tags();
    }
    body.no_tags().no_tags();
    // The answer: tags of the header, throttle time, error code.
    call(port, 45, 0, true, &body).is_ok_and(|answer| answer.get(5..7) == Some(&[0, 0]))
}

/// Makes the preferred replica of every partition its leader.
pub(super) fn elect_preferred(port: u16, topic: &str, partitions: i32) -> bool {
    let mut body = Body::default();
    // ElectLeaders: kind 0 is the preferred one, one topic, its partitions, a timeout.
    body.int8(0).int32(1).string(topic).int32(partitions);
    (0..partitions).for_each(|partition| {
        body.int32(partition);
    });
    body.int32(10_000);
    // The answer: throttle time, error code.
    call(port, 43, 1, false, &body).is_ok_and(|answer| answer.get(4..6) == Some(&[0, 0]))
}

#[derive(Default)]
struct Body(Vec<u8>);

impl Body {
    fn int8(&mut self, value: u8) -> &mut Self {
        self.0.push(value);
        self
    }

    fn int32(&mut self, value: i32) -> &mut Self {
        self.0.extend(value.to_be_bytes());
        self
    }

    fn string(&mut self, text: &str) -> &mut Self {
        self.0.extend(u16::try_from(text.len()).expect("a short name").to_be_bytes());
        self.0.extend(text.as_bytes());
        self
    }

    /// A length as the newer requests have it: one more than it is, and short enough for one byte here.
    fn compact(&mut self, length: usize) -> &mut Self {
        let length = u8::try_from(length + 1).ok().filter(|length| *length < 128);
        self.int8(length.expect("no more than 126 of anything"))
    }

    fn compact_string(&mut self, text: &str) -> &mut Self {
        self.compact(text.len());
        self.0.extend(text.as_bytes());
        self
    }

    fn no_tags(&mut self) -> &mut Self {
        self.int8(0)
    }
}

/// Sends one request on a connection of its own; gives the answer after its correlation id.
fn call(port: u16, kind: u16, version: u16, tagged: bool, body: &Body) -> io::Result<Vec<u8>> {
    let mut stream = TcpStream::connect(("127.0.0.1", port))?;
    stream.set_read_timeout(Some(Duration::from_secs(15)))?;
    let mut request = Vec::new();
    request.extend(kind.to_be_bytes());
    request.extend(version.to_be_bytes());
    request.extend(1_u32.to_be_bytes());
    request.extend(b"\0\x03bed");
    if tagged {
        request.push(0);
    }
    request.extend(&body.0);
    stream.write_all(&u32::try_from(request.len()).map_err(io::Error::other)?.to_be_bytes())?;
    stream.write_all(&request)?;
    let mut length = [0; 4];
    stream.read_exact(&mut length)?;
    let mut answer = vec![0; usize::try_from(u32::from_be_bytes(length)).map_err(io::Error::other)?];
    stream.read_exact(&mut answer)?;
    Ok(answer.split_off(4.min(answer.len())))
}
