//! A client's stream of HTTP/1.1 as the parser behind it may see it: whole heads that [`Framing`] found good, bodies as long as
//! they say, and nothing else. It also keeps the connection's time: for a head, between requests, and for a client that
//! does not read.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep, sleep_until};

use super::downstream::{Downstream, Upgrade};
use super::framing::{Framing, HeadLimits, Step};
use super::reason::Reason;
use crate::net::gather;

/// What is read at once while a head is not whole.
const PIECE: usize = 4096;

/// The stream.
#[derive(Debug)]
pub(super) struct Strict<S> {
    stream: S,
    framing: Framing,
    /// Bytes that are not shown to the parser yet; the first `good` of them may be.
    held: Vec<u8>,
    good: usize,
    downstream: Arc<Downstream>,
    head_timeout: Duration,
    idle_timeout: Duration,
    waiting: Option<(Wait, Instant)>,
    sleep: Option<Pin<Box<Sleep>>>,
    stalled: Option<Pin<Box<Sleep>>>,
}

/// What a connection that sends nothing is waited for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Wait {
    /// The rest of a head.
    Head,
    /// The next request.
    Request,
}

// === impl Strict ===

impl<S> Strict<S> {
    pub(super) fn new(
        stream: S,
        limits: HeadLimits,
        (head_timeout, idle_timeout): (Duration, Duration),
        downstream: Arc<Downstream>,
    ) -> Self {
        Self {
            stream,
            framing: Framing::new(limits),
            held: Vec::new(),
            good: 0,
            downstream,
            head_timeout,
            idle_timeout,
            waiting: None,
            sleep: None,
            stalled: None,
        }
    }

    /// Whether what comes next, or was refused, is a head.
    pub(super) fn is_at_head(&self) -> bool {
        self.framing.at_head()
    }

    /// The stream itself, for a last word.
    pub(super) fn stream(&mut self) -> &mut S {
        &mut self.stream
    }

    fn refuse(&self, reason: Reason) -> io::Error {
        self.downstream.set_refusal(reason);
        io::Error::new(io::ErrorKind::InvalidData, reason.name())
    }

    /// Gives what is good of the held bytes.
    fn give(&mut self, buffer: &mut ReadBuf<'_>) {
        let count = self.good.min(buffer.remaining());
        buffer.put_slice(self.held.get(..count).unwrap_or_default());
        self.held.drain(..count);
        self.good -= count;
        if self.held.is_empty() {
            // A large head is a rare one.
            self.held = Vec::new();
        }
    }

    /// Looks at bytes; gives how many are good from their beginning.
    fn look(&mut self, bytes: &[u8]) -> usize {
        let mut good = 0;
        while let Some(rest) = bytes.get(good..).filter(|rest| !rest.is_empty()) {
            match self.framing.step(rest) {
                Step::Pass(count) => {
                    good += count;
                    if self.framing.awaits_answer() {
                        self.downstream.set_upgrade(Upgrade::Open);
                    }
                }
                Step::Hold | Step::Wait => break,
                Step::Refuse(reason) => {
                    self.downstream.set_refusal(reason);
                    break;
                }
            }
        }
        good
    }

    /// Whether an upgrade is asked for and not answered.
    fn is_undecided(&mut self) -> bool {
        if self.framing.awaits_answer() {
            match self.downstream.upgrade() {
                Upgrade::Open => return true,
                Upgrade::Taken => self.framing.answered(true),
                Upgrade::Refused => self.framing.answered(false),
            }
        }
        false
    }

    /// Nothing comes. Ready when that has lasted too long: with an error for half a head, with the end for a connection that
    /// asks for nothing.
    fn poll_patience(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let wait = match (self.framing.at_head(), self.held.is_empty()) {
            (true, true) => Wait::Request,
            (true, false) => Wait::Head,
            // A body's time is kept by whoever reads it, another protocol's by its tunnel.
            (false, _) => {
                self.waiting = None;
                return Poll::Pending;
            }
        };
        loop {
            let time = if wait == Wait::Head { self.head_timeout } else { self.idle_timeout };
            let until = match self.waiting {
                Some((known, until)) if known == wait => until,
                _ => {
                    let until = Instant::now() + time;
                    self.waiting = Some((wait, until));
                    until
                }
            };
            let sleep = match &mut self.sleep {
                Some(sleep) => {
                    // One that ends too early costs a look, and is cheaper than moving it with every request.
                    if sleep.deadline() > until || sleep.is_elapsed() {
                        sleep.as_mut().reset(until);
                    }
                    sleep
                }
                none => none.insert(Box::pin(sleep_until(until))),
            };
            ready!(sleep.as_mut().poll(context));
            if Instant::now() < until {
                continue;
            }
            if wait == Wait::Head {
                return Poll::Ready(Err(self.refuse(Reason::HeadTimeout)));
            }
            if self.downstream.is_idle() {
                return Poll::Ready(Ok(()));
            }
            self.waiting = None;
        }
    }
}

impl<S: AsyncRead + Unpin> Strict<S> {
    /// Reads more to what is held; gives how much, nothing at the end.
    fn poll_more(&mut self, context: &mut Context<'_>) -> Poll<io::Result<usize>> {
        let mut piece = [std::mem::MaybeUninit::uninit(); PIECE];
        let mut piece = ReadBuf::uninit(&mut piece);
        ready!(Pin::new(&mut self.stream).poll_read(context, &mut piece))?;
        self.held.extend_from_slice(piece.filled());
        Poll::Ready(Ok(piece.filled().len()))
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Strict<S> {
    fn poll_read(self: Pin<&mut Self>, context: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        loop {
            if this.good > 0 {
                this.give(buffer);
                return Poll::Ready(Ok(()));
            }
            if let Some(reason) = this.downstream.refusal() {
                return Poll::Ready(Err(this.refuse(reason)));
            }
            if this.is_undecided() {
                // Whoever answers it reads on. What comes before is kept, so that a client that goes away is noticed.
                if this.held.len() >= PIECE {
                    return Poll::Pending;
                }
                match ready!(this.poll_more(context))? {
                    0 => return Poll::Ready(Ok(())),
                    _ => continue,
                }
            }
            if this.held.is_empty() {
                let before = buffer.filled().len();
                match Pin::new(&mut this.stream).poll_read(context, buffer) {
                    Poll::Pending => return this.poll_patience(context),
                    Poll::Ready(read) => read?,
                }
                let read = buffer.filled().get(before..).unwrap_or_default();
                if read.is_empty() {
                    return Poll::Ready(Ok(()));
                }
                this.waiting = None;
                let good = this.look(read);
                if this.downstream.refusal().is_none() {
                    this.held.extend_from_slice(read.get(good..).unwrap_or_default());
                }
                buffer.set_filled(before + good);
                if good > 0 {
                    return Poll::Ready(Ok(()));
                }
            } else {
                let held = std::mem::take(&mut this.held);
                this.good = this.look(&held);
                this.held = held;
                if this.good > 0 || this.downstream.refusal().is_some() {
                    continue;
                }
                match this.poll_more(context) {
                    Poll::Pending => return this.poll_patience(context),
                    // Half a head and then the end: nothing was asked.
                    Poll::Ready(Ok(0)) => return Poll::Ready(Ok(())),
                    Poll::Ready(Ok(_)) => {}
                    Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                }
            }
        }
    }
}

impl<S: AsyncWrite + Unpin> Strict<S> {
    /// A client that takes nothing for as long as a connection may be idle is gone.
    fn poll_stalled<T>(&mut self, context: &mut Context<'_>, written: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        if written.is_ready() {
            self.stalled = None;
            return written;
        }
        let until = Instant::now() + self.idle_timeout;
        let stalled = self.stalled.get_or_insert_with(|| Box::pin(sleep_until(until)));
        ready!(stalled.as_mut().poll(context));
        Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Strict<S> {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let written = Pin::new(&mut this.stream).poll_write(context, bytes);
        this.poll_stalled(context, written)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let written = gather::poll_write(Pin::new(&mut this.stream), context, slices);
        this.poll_stalled(context, written)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_flush(context)
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if this.downstream.refusal().is_some() {
            // Whoever serves the connection has a last word for the client, and ends it then.
            return Poll::Ready(Ok(()));
        }
        Pin::new(&mut this.stream).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};

    use super::*;

    const LIMITS: HeadLimits = HeadLimits { size: 1024, target: 256, fields: 20 };
    const PATIENT: (Duration, Duration) = (Duration::from_secs(10), Duration::from_secs(60));
    /// Short for heads, and short for idle connections.
    const HEADS: Duration = Duration::from_millis(200);
    const IDLE: Duration = Duration::from_millis(100);

    fn strict() -> (DuplexStream, Strict<DuplexStream>, Arc<Downstream>) {
        strict_within(PATIENT)
    }

    fn strict_within(times: (Duration, Duration)) -> (DuplexStream, Strict<DuplexStream>, Arc<Downstream>) {
        let (client, server) = duplex(64 << 10);
        let downstream = Arc::new(Downstream::for_tests("10.0.0.1:1".parse().unwrap(), false));
        (client, Strict::new(server, LIMITS, times, downstream.clone()), downstream)
    }

    #[tokio::test]
    async fn the_parser_sees_a_head_whole_or_not_at_all() {
        let (mut client, mut server, _) = strict();
        let head = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n";
        let (first, last) = head.split_at(head.len() - 1);
        let writing = async {
            for byte in first {
                client.write_all(&[*byte]).await.unwrap();
                tokio::task::yield_now().await;
            }
            client.write_all(last).await.unwrap();
        };
        let mut bytes = [0; 256];
        let (read, ()) = tokio::join!(server.read(&mut bytes), writing);
        assert_eq!(&bytes[..read.unwrap()], head);
    }

    #[tokio::test]
    async fn good_requests_before_a_bad_one_are_seen_and_nothing_of_it() {
        let (mut client, mut server, downstream) = strict();
        let good = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n";
        client.write_all(&[&good[..], b"GET / HTTP/1.1\r\nHost : a\r\n\r\n"].concat()).await.unwrap();
        let mut bytes = [0; 256];
        assert_eq!(server.read(&mut bytes).await.unwrap(), good.len());
        assert_eq!(server.read(&mut bytes).await.unwrap_err().kind(), io::ErrorKind::InvalidData);
        assert_eq!(downstream.refusal(), Some(Reason::Malformed));
    }

    #[tokio::test]
    async fn half_a_head_is_not_waited_for_longer_than_its_time() {
        let (mut client, mut server, downstream) = strict_within((HEADS, PATIENT.1));
        let started = Instant::now();
        let writing = async {
            // Each byte comes in time and the whole does not.
            for byte in b"GET / HTTP/1.1\r\n".iter().cycle() {
                if client.write_all(&[*byte]).await.is_err() {
                    break;
                }
                tokio::time::sleep(HEADS / 4).await;
            }
        };
        let mut bytes = [0; 256];
        tokio::select! {
            read = server.read(&mut bytes) => assert!(read.is_err()),
            () = writing => panic!("never refused"),
        }
        assert_eq!(downstream.refusal(), Some(Reason::HeadTimeout));
        assert!(started.elapsed() >= HEADS);
    }

    #[tokio::test]
    async fn a_connection_without_a_request_ends_and_one_with_a_slow_answer_does_not() {
        let (_client, mut server, downstream) = strict_within((PATIENT.0, IDLE));
        let started = Instant::now();
        downstream.begin();
        let mut bytes = [0; 256];
        tokio::select! {
            read = server.read(&mut bytes) => assert_eq!(read.unwrap(), 0),
            () = async {
                tokio::time::sleep(3 * IDLE).await;
                downstream.end();
                std::future::pending::<()>().await;
            } => {}
        }
        assert!(started.elapsed() >= 3 * IDLE, "it ended while its answer was awaited");
    }

    #[tokio::test]
    async fn bytes_behind_an_upgrade_wait_for_its_answer() {
        let (mut client, mut server, downstream) = strict();
        let head = b"GET / HTTP/1.1\r\nHost: a\r\nUpgrade: x\r\n\r\n";
        client.write_all(&[&head[..], b"\n\nfree"].concat()).await.unwrap();
        let mut bytes = [0; 256];
        assert_eq!(server.read(&mut bytes).await.unwrap(), head.len());
        let early = tokio::time::timeout(Duration::from_millis(5), server.read(&mut bytes)).await;
        assert!(early.is_err());
        downstream.set_upgrade(Upgrade::Taken);
        let count = server.read(&mut bytes).await.unwrap();
        assert_eq!(&bytes[..count], b"\n\nfree");
    }

    #[tokio::test]
    async fn after_a_refusal_the_client_can_still_be_told_why() {
        let (mut client, mut server, _) = strict();
        client.write_all(b"\n").await.unwrap();
        assert!(server.read(&mut [0; 9]).await.is_err());
        server.shutdown().await.unwrap();
        server.stream().write_all(b"no").await.unwrap();
        let mut told = [0; 2];
        client.read_exact(&mut told).await.unwrap();
        assert_eq!(&told, b"no");
    }

    #[tokio::test]
    async fn a_client_that_goes_away_before_its_upgrade_is_answered_is_noticed() {
        let (mut client, mut server, _) = strict();
        client.write_all(b"GET / HTTP/1.1\r\nHost: a\r\nUpgrade: x\r\n\r\n").await.unwrap();
        let mut bytes = [0; 256];
        assert!(server.read(&mut bytes).await.unwrap() > 0);
        drop(client);
        assert_eq!(server.read(&mut bytes).await.unwrap(), 0);
    }

    #[tokio::test]
    async fn a_client_that_reads_nothing_is_given_up() {
        let (_client, mut server, _) = strict_within((PATIENT.0, IDLE));
        let written = server.write_all(&vec![0; 1 << 20]).await;
        assert_eq!(written.unwrap_err().kind(), io::ErrorKind::TimedOut);
    }
}
