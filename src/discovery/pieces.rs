//! Bodies in pieces: an answer with many pools is made of the pools' own bodies, which all answers share, and is never in
//! memory as a whole. Thousands of clients that fetch everything cost the pools once.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use axum::body::Body;
use hyper::body::{Body as HttpBody, Bytes, Frame, SizeHint};

/// Bytes that are sent in one go. Smaller pieces are put together, so that a write to the socket is worth its call.
const FRAME: usize = 64 << 10;

/// A body's pieces, in order. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub(super) struct Pieces {
    pieces: Arc<[Bytes]>,
    length: usize,
}

/// A body on its way.
struct Sending {
    pieces: Arc<[Bytes]>,
    /// The next piece.
    next: usize,
    /// Bytes that are still to be sent.
    left: usize,
}

// === impl Pieces ===

impl FromIterator<Bytes> for Pieces {
    fn from_iter<T: IntoIterator<Item = Bytes>>(pieces: T) -> Self {
        let pieces: Vec<Bytes> = pieces.into_iter().collect();
        let length = pieces.iter().map(Bytes::len).sum();
        // A small one is put together once for all who are sent it.
        let pieces = if length <= FRAME { Arc::from([Bytes::from(pieces.concat())]) } else { Arc::from(pieces) };
        Self { pieces, length }
    }
}

impl From<Pieces> for Body {
    fn from(Pieces { pieces, length }: Pieces) -> Self {
        let mut sending = Sending { pieces, next: 0, left: length };
        // Most answers are one frame: its head goes out with it.
        if length <= FRAME { sending.frame().into() } else { Self::new(sending) }
    }
}

// === impl Sending ===

impl Sending {
    /// The next frame; empty at the end.
    fn frame(&mut self) -> Bytes {
        let rest = self.pieces.get(self.next..).unwrap_or_default();
        let mut length = 0;
        let fits = |piece: &&Bytes| {
            let first = length == 0;
            length += piece.len();
            first || length <= FRAME
        };
        let taken = rest.iter().take_while(fits).count();
        let frame = match rest.get(..taken).unwrap_or_default() {
            [one] => one.clone(),
            several => several.concat().into(),
        };
        self.next += taken;
        self.left -= frame.len();
        frame
    }
}

impl HttpBody for Sending {
    type Data = Bytes;
    type Error = std::convert::Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Self::Data>, Self::Error>>> {
        if self.left == 0 {
            return Poll::Ready(None);
        }
        Poll::Ready(Some(Ok(Frame::data(self.frame()))))
    }

    fn is_end_stream(&self) -> bool {
        self.left == 0
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.left as u64)
    }
}

#[cfg(test)]
mod tests {
    use axum::body::to_bytes;

    use super::*;

    fn pieces(sizes: &[usize]) -> (Pieces, Vec<u8>) {
        let piece = |(at, size): (usize, &usize)| Bytes::from(vec![u8::try_from(at % 250).unwrap(); *size]);
        let all: Vec<Bytes> = sizes.iter().enumerate().map(piece).collect();
        (all.iter().cloned().collect(), all.concat())
    }

    #[tokio::test]
    async fn every_byte_is_sent_once_and_in_order_whatever_the_pieces_are() {
        for sizes in [
            vec![],
            vec![0],
            vec![1, 0, 3],
            vec![FRAME, 1],
            vec![1, FRAME, 0],
            vec![3 * FRAME, 7, 2 * FRAME, FRAME - 7, 7, 0],
            vec![1_000; 1_000],
        ] {
            let (pieces, whole) = pieces(&sizes);
            let body = Body::from(pieces);
            assert_eq!(body.size_hint().exact(), Some(whole.len() as u64), "{sizes:?}");
            assert_eq!(to_bytes(body, usize::MAX).await.unwrap(), whole, "{sizes:?}");
        }
    }

    #[test]
    fn small_pieces_are_sent_together_and_large_ones_as_they_are() {
        let (small, _) = pieces(&[1_000; 200]);
        let mut sending = Sending { pieces: small.pieces, next: 0, left: small.length };
        let mut frames = Vec::new();
        while sending.left > 0 {
            frames.push(sending.frame().len());
        }
        assert_eq!(frames, [65_000, 65_000, 65_000, 5_000]);
        let (large, _) = pieces(&[2 * FRAME, 5]);
        let mut sending = Sending { pieces: large.pieces.clone(), next: 0, left: large.length };
        assert_eq!(sending.frame().as_ptr(), large.pieces[0].as_ptr(), "not copied");
    }
}
