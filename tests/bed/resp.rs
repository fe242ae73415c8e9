//! A small blocking Redis client that hides nothing: raw bytes out, one reply at a time in.

use redis_protocol::{resp2, resp3};
use socket2::{Domain, Socket, Type};
use std::io::{self, Read as _, Write as _};
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::time::{Duration, Instant};

/// A reply, in RESP2 or RESP3.
#[derive(Clone, Debug, PartialEq)]
pub enum Reply {
    /// `+text`
    Simple(String),
    /// `-text`, or RESP3's blob error.
    Error(String),
    /// `:number`
    Integer(i64),
    /// A bulk (or verbatim) string.
    Bulk(Vec<u8>),
    /// A null of any kind.
    Null,
    /// An array.
    Array(Vec<Reply>),
    /// RESP3's map.
    Map(Vec<(Reply, Reply)>),
    /// RESP3's set.
    Set(Vec<Reply>),
    /// RESP3's push, which answers no command.
    Push(Vec<Reply>),
    /// RESP3's boolean.
    Boolean(bool),
    /// RESP3's double.
    Double(f64),
}

impl Reply {
    /// The integer; panics on anything else.
    pub fn integer(&self) -> i64 {
        match self {
            Self::Integer(number) => *number,
            other => panic!("not an integer: {other:?}"),
        }
    }

    /// The text of an error; panics on anything else.
    pub fn error(&self) -> &str {
        match self {
            Self::Error(text) => text,
            other => panic!("not an error: {other:?}"),
        }
    }

    /// The elements of an array; panics on anything else.
    pub fn array(&self) -> &[Reply] {
        match self {
            Self::Array(elements) => elements,
            other => panic!("not an array: {other:?}"),
        }
    }

    /// The bytes of a bulk or simple string; panics on anything else.
    pub fn bytes(&self) -> &[u8] {
        match self {
            Self::Bulk(bytes) => bytes,
            Self::Simple(text) => text.as_bytes(),
            other => panic!("not a string: {other:?}"),
        }
    }
}

/// A connection.
pub struct RespClient {
    stream: TcpStream,
    buffer: Vec<u8>,
    start: usize,
    deadline: Duration,
    resp3: bool,
}

impl RespClient {
    /// Connects; replies are read as RESP2 until [`RespClient::hello3`]. A reply may take ten seconds.
    pub fn connect(address: SocketAddr) -> Self {
        Self::try_connect(address).unwrap_or_else(|e| panic!("{address}: {e}"))
    }

    /// As [`RespClient::connect`], for a server that may be gone.
    pub fn try_connect(address: SocketAddr) -> io::Result<Self> {
        Self::over(TcpStream::connect(address)?)
    }

    /// As [`RespClient::connect`], from this address of this machine.
    pub fn connect_from(source: IpAddr, address: SocketAddr) -> Self {
        let connect = || {
            let socket = Socket::new(Domain::for_address(address), Type::STREAM, None)?;
            socket.bind(&SocketAddr::new(source, 0).into())?;
            socket.connect(&address.into())?;
            Self::over(socket.into())
        };
        connect().unwrap_or_else(|e: io::Error| panic!("{source} to {address}: {e}"))
    }

    fn over(stream: TcpStream) -> io::Result<Self> {
        stream.set_nodelay(true)?;
        Ok(Self { stream, buffer: Vec::new(), start: 0, deadline: Duration::from_secs(10), resp3: false })
    }

    /// How long one reply may take from now on.
    pub fn set_deadline(&mut self, deadline: Duration) {
        self.deadline = deadline;
    }

    /// Switches to RESP3; gives the server's answer.
    pub fn hello3(&mut self) -> Reply {
        self.hello3_with(&[])
    }

    /// As [`RespClient::hello3`], with further arguments (`AUTH`, …).
    pub fn hello3_with(&mut self, args: &[&str]) -> Reply {
        self.resp3 = true;
        self.command(["HELLO", "3"].iter().chain(args))
    }

    /// Sends one command and reads its reply.
    pub fn command<A: AsRef<[u8]>>(&mut self, args: impl IntoIterator<Item = A>) -> Reply {
        self.send(args);
        self.read()
    }

    /// Sends one command.
    pub fn send<A: AsRef<[u8]>>(&mut self, args: impl IntoIterator<Item = A>) {
        self.send_raw(&encode(args));
    }

    /// Sends these very bytes.
    pub fn send_raw(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).expect("the server reads");
    }

    /// As [`RespClient::send_raw`], for a server that may close.
    pub fn try_send_raw(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.stream.write_all(bytes)
    }

    /// Sends these bytes and reads so many replies at the same time, so that neither side waits for the other however
    /// much it is.
    pub fn pipeline(&mut self, bytes: &[u8], replies: usize) -> Vec<Reply> {
        let mut writer = self.stream.try_clone().expect("a TCP stream");
        std::thread::scope(|scope| {
            scope.spawn(move || writer.write_all(bytes).expect("the server reads"));
            (0..replies).map(|_| self.read()).collect()
        })
    }

    /// Reads one reply; panics if the server closes, says nothing for too long, or says nonsense.
    pub fn read(&mut self) -> Reply {
        self.try_read().unwrap_or_else(|e| panic!("no reply: {e}"))
    }

    /// Reads one reply. The kinds of error are `UnexpectedEof` and `ConnectionReset` for a server that has closed,
    /// `TimedOut`, and `InvalidData`.
    pub fn try_read(&mut self) -> io::Result<Reply> {
        let end = Instant::now() + self.deadline;
        loop {
            if let Some(reply) = self.parse()? {
                return Ok(reply);
            }
            if self.fill(end)? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
    }

    /// All bytes until the server closes, in order or by a reset.
    pub fn read_to_end(&mut self) -> Vec<u8> {
        let end = Instant::now() + self.deadline;
        while matches!(self.fill(end), Ok(1..)) {}
        self.buffer.split_off(self.start)
    }

    /// Panics if the server says anything for so long.
    pub fn expect_silence(&mut self, duration: Duration) {
        match self.fill(Instant::now() + duration) {
            Err(e) if e.kind() == io::ErrorKind::TimedOut => {}
            other => panic!("{other:?}: {:?}", String::from_utf8_lossy(&self.buffer)),
        }
    }

    /// Panics unless the server closes the connection, in order or by a reset, without a further byte.
    pub fn expect_close(&mut self) {
        match self.fill(Instant::now() + self.deadline) {
            Ok(0) => {}
            Err(e) if e.kind() == io::ErrorKind::ConnectionReset => {}
            other => panic!("{other:?}: {:?}", String::from_utf8_lossy(&self.buffer)),
        }
    }

    /// Closes the sending side; the server sees the end of the input and can still answer.
    pub fn finish_sending(&mut self) {
        self.stream.shutdown(std::net::Shutdown::Write).expect("an open connection");
    }

    fn fill(&mut self, end: Instant) -> io::Result<usize> {
        let left = end.saturating_duration_since(Instant::now());
        // Zero would mean for ever.
        self.stream.set_read_timeout(Some(left.max(Duration::from_millis(1))))?;
        // Only what is not parsed yet moves, and that is less than one reply.
        self.buffer.drain(..self.start);
        self.start = 0;
        let mut chunk = [0; 64 * 1024];
        let read = self.stream.read(&mut chunk).map_err(|e| match e.kind() {
            io::ErrorKind::WouldBlock => io::ErrorKind::TimedOut.into(),
            _ => e,
        })?;
        self.buffer.extend_from_slice(&chunk[..read]);
        Ok(read)
    }

    fn parse(&mut self) -> io::Result<Option<Reply>> {
        let input = &self.buffer[self.start..];
        // The decoders look at the first byte without asking for it.
        if input.is_empty() {
            return Ok(None);
        }
        let parsed = if self.resp3 {
            resp3::decode::complete::decode(input).map(|found| found.map(|(f, n)| (from3(f), n)))
        } else {
            resp2::decode::decode(input).map(|found| found.map(|(f, n)| (from2(f), n)))
        };
        let parsed = parsed.map_err(|e| io::Error::new(io::ErrorKind::InvalidData, e))?;
        Ok(parsed.map(|(reply, used)| {
            self.start += used;
            reply
        }))
    }
}

/// The bytes of one command.
pub fn encode<A: AsRef<[u8]>>(args: impl IntoIterator<Item = A>) -> Vec<u8> {
    let args: Vec<A> = args.into_iter().collect();
    let mut bytes = format!("*{}\r\n", args.len()).into_bytes();
    for arg in &args {
        let arg = arg.as_ref();
        bytes.extend_from_slice(format!("${}\r\n", arg.len()).as_bytes());
        bytes.extend_from_slice(arg);
        bytes.extend_from_slice(b"\r\n");
    }
    bytes
}

fn text(bytes: Vec<u8>) -> String {
    String::from_utf8_lossy(&bytes).into_owned()
}

fn from2(frame: resp2::types::OwnedFrame) -> Reply {
    use resp2::types::OwnedFrame as Frame;
    match frame {
        Frame::SimpleString(bytes) => Reply::Simple(text(bytes)),
        Frame::Error(error) => Reply::Error(error),
        Frame::Integer(number) => Reply::Integer(number),
        Frame::BulkString(bytes) => Reply::Bulk(bytes),
        Frame::Array(elements) => Reply::Array(elements.into_iter().map(from2).collect()),
        Frame::Null => Reply::Null,
    }
}

fn from3(frame: resp3::types::OwnedFrame) -> Reply {
    use resp3::types::OwnedFrame as Frame;
    let all = |data: Vec<Frame>| data.into_iter().map(from3).collect();
    match frame {
        Frame::SimpleString { data, .. } => Reply::Simple(text(data)),
        Frame::SimpleError { data, .. } => Reply::Error(data),
        Frame::BlobError { data, .. } => Reply::Error(text(data)),
        Frame::Number { data, .. } => Reply::Integer(data),
        Frame::BlobString { data, .. }
        | Frame::VerbatimString { data, .. }
        | Frame::BigNumber { data, .. }
        | Frame::ChunkedString(data) => Reply::Bulk(data),
        Frame::Null => Reply::Null,
        Frame::Boolean { data, .. } => Reply::Boolean(data),
        Frame::Double { data, .. } => Reply::Double(data),
        Frame::Array { data, .. } => Reply::Array(all(data)),
        Frame::Push { data, .. } => Reply::Push(all(data)),
        Frame::Set { data, .. } => Reply::Set(data.into_iter().map(from3).collect()),
        Frame::Map { data, .. } => {
            Reply::Map(data.into_iter().map(|(key, value)| (from3(key), from3(value))).collect())
        }
        Frame::Hello { .. } => panic!("a server does not send HELLO"),
    }
}
