//! Writing pieces that lie apart.

use std::io::{self, IoSlice};
use std::mem::MaybeUninit;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncWrite, ReadBuf};

/// Up to so many bytes are first put together: copying them costs less than a system call that gathers (`writev`) does beyond a
/// plain one (`send`).
const SMALL: usize = 1024;

/// As [`AsyncWrite::poll_write_vectored`], by the cheaper call.
///
/// # Errors
/// The stream's.
#[inline]
pub fn poll_write<S: AsyncWrite>(
    stream: Pin<&mut S>,
    context: &mut Context<'_>,
    slices: &[IoSlice<'_>],
) -> Poll<io::Result<usize>> {
    if let [whole] = slices {
        return stream.poll_write(context, whole);
    }
    let mut room = [MaybeUninit::uninit(); SMALL];
    let mut together = ReadBuf::uninit(&mut room);
    for slice in slices {
        if slice.len() > together.remaining() {
            return stream.poll_write_vectored(context, slices);
        }
        together.put_slice(slice);
    }
    stream.poll_write(context, together.filled())
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;
    use std::pin::pin;

    use tokio::io::AsyncReadExt as _;

    use super::*;

    #[tokio::test]
    async fn pieces_arrive_in_order_whatever_their_size() {
        let large = vec![b'l'; SMALL];
        for pieces in [&[&b"whole"[..]][..], &[b"a", b"", b"bc"], &[b"head", &large, b"tail"], &[]] {
            let (mut near, mut far) = tokio::io::duplex(4 * SMALL);
            let slices: Vec<IoSlice<'_>> = pieces.iter().map(|piece| IoSlice::new(piece)).collect();
            let written = poll_fn(|context| poll_write(pin!(&mut near), context, &slices)).await.unwrap();
            drop(near);
            let mut arrived = Vec::new();
            far.read_to_end(&mut arrived).await.unwrap();
            assert_eq!(arrived, pieces.concat().get(..written).unwrap());
            assert!(written > 0 || pieces.is_empty());
        }
    }
}
