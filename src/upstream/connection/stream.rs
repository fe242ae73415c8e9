//! Opening a connection: TCP, the PROXY protocol's greeting, TLS.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::error::SendErrorKind;
use crate::net::gather;
use crate::upstream::config::{ProxyProtocol, UpstreamTls};

/// An open connection.
#[derive(Debug)]
pub(in crate::upstream) enum Stream {
    Tcp(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
}

/// Where to and how.
#[derive(Clone, Copy, Debug)]
pub(in crate::upstream) struct Dial<'a> {
    pub(in crate::upstream) address: SocketAddr,
    pub(in crate::upstream) tls: Option<&'a Arc<UpstreamTls>>,
    pub(in crate::upstream) http2: bool,
    /// For all of it.
    pub(in crate::upstream) timeout: Duration,
    /// The greeting's version; the client's address and the one that it came to, `None` where the connection is nobody's
    /// but ours.
    pub(in crate::upstream) greeting: Option<(ProxyProtocol, Option<(SocketAddr, SocketAddr)>)>,
}

/// Opens a connection.
///
/// # Errors
/// It cannot be had, or not in time.
pub(in crate::upstream) async fn dial(dial: Dial<'_>) -> Result<Stream, (SendErrorKind, io::Error)> {
    let refused = |error| (SendErrorKind::Connect, error);
    let open = async {
        let mut tcp = TcpStream::connect(dial.address).await.map_err(refused)?;
        // Requests are written whole: nothing is gained by waiting for more.
        tcp.set_nodelay(true).map_err(refused)?;
        if let Some((version, ends)) = dial.greeting {
            tcp.write_all(&greeting(version, ends)).await.map_err(refused)?;
        }
        let Some(tls) = dial.tls else { return Ok(Stream::Tcp(tcp)) };
        let connector = TlsConnector::from(tls.config(dial.http2));
        let stream = connector.connect(tls.server_name(dial.address.ip()), tcp).await;
        let stream = stream.map_err(|error| (SendErrorKind::Tls, error))?;
        let agreed = stream.get_ref().1.alpn_protocol();
        if dial.http2 && agreed != Some(b"h2") {
            let error = io::Error::new(io::ErrorKind::InvalidData, "the endpoint does not offer HTTP/2 (ALPN h2)");
            return Err((SendErrorKind::Tls, error));
        }
        Ok(Stream::Tls(Box::new(stream)))
    };
    match tokio::time::timeout(dial.timeout, open).await {
        Ok(opened) => opened,
        Err(_) => Err((SendErrorKind::ConnectTimeout, io::ErrorKind::TimedOut.into())),
    }
}

/// What tells the endpoint whose connection it is, as the PROXY protocol's specification (HAProxy's proxy-protocol.txt,
/// sections 2.1 and 2.2) has it. Addresses of different families are told as if both were IPv6.
fn greeting(version: ProxyProtocol, ends: Option<(SocketAddr, SocketAddr)>) -> Vec<u8> {
    let Some((client, local)) = ends else {
        return match version {
            ProxyProtocol::V1 => b"PROXY UNKNOWN\r\n".to_vec(),
            // The command LOCAL, with no addresses.
            ProxyProtocol::V2 => b"\r\n\r\n\0\r\nQUIT\n\x20\0\0\0".to_vec(),
        };
    };
    let (from, to) = same_family(client.ip().to_canonical(), local.ip().to_canonical());
    if version == ProxyProtocol::V1 {
        let family = if from.is_ipv4() { "TCP4" } else { "TCP6" };
        return format!("PROXY {family} {from} {to} {} {}\r\n", client.port(), local.port()).into_bytes();
    }
    let mut bytes = b"\r\n\r\n\0\r\nQUIT\n\x21".to_vec();
    let (family, length) = if from.is_ipv4() { (0x11, 12_u16) } else { (0x21, 36_u16) };
    bytes.push(family);
    bytes.extend_from_slice(&length.to_be_bytes());
    for ip in [from, to] {
        match ip {
            IpAddr::V4(ip) => bytes.extend_from_slice(&ip.octets()),
            IpAddr::V6(ip) => bytes.extend_from_slice(&ip.octets()),
        }
    }
    bytes.extend_from_slice(&client.port().to_be_bytes());
    bytes.extend_from_slice(&local.port().to_be_bytes());
    bytes
}

fn same_family(one: IpAddr, other: IpAddr) -> (IpAddr, IpAddr) {
    let wide = |ip: IpAddr| match ip {
        IpAddr::V4(ip) => IpAddr::V6(ip.to_ipv6_mapped()),
        IpAddr::V6(_) => ip,
    };
    if one.is_ipv4() == other.is_ipv4() { (one, other) } else { (wide(one), wide(other)) }
}

// === impl Stream ===

impl AsyncRead for Stream {
    #[inline]
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_read(cx, buffer),
            Self::Tls(stream) => Pin::new(stream).poll_read(cx, buffer),
        }
    }
}

impl AsyncWrite for Stream {
    #[inline]
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_write(cx, bytes),
            Self::Tls(stream) => Pin::new(stream).poll_write(cx, bytes),
        }
    }

    #[inline]
    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Tcp(stream) => gather::poll_write(Pin::new(stream), cx, slices),
            Self::Tls(stream) => Pin::new(stream).poll_write_vectored(cx, slices),
        }
    }

    fn is_write_vectored(&self) -> bool {
        match self {
            Self::Tcp(stream) => stream.is_write_vectored(),
            Self::Tls(stream) => stream.is_write_vectored(),
        }
    }

    #[inline]
    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_flush(cx),
            Self::Tls(stream) => Pin::new(stream).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_shutdown(cx),
            Self::Tls(stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn greeted(version: ProxyProtocol, client: &str, local: &str) -> Vec<u8> {
        greeting(version, Some((client.parse().unwrap(), local.parse().unwrap())))
    }

    #[test]
    fn the_text_greeting_is_one_line_of_one_family() {
        let text = |client, local| String::from_utf8(greeted(ProxyProtocol::V1, client, local)).unwrap();
        assert_eq!(text("192.0.2.1:5000", "192.0.2.9:80"), "PROXY TCP4 192.0.2.1 192.0.2.9 5000 80\r\n");
        assert_eq!(text("[2001:db8::1]:5000", "[::1]:80"), "PROXY TCP6 2001:db8::1 ::1 5000 80\r\n");
        assert_eq!(text("[::ffff:192.0.2.1]:5", "192.0.2.9:80"), "PROXY TCP4 192.0.2.1 192.0.2.9 5 80\r\n");
        assert_eq!(greeting(ProxyProtocol::V1, None), b"PROXY UNKNOWN\r\n");
        assert_eq!(text("192.0.2.1:5", "[::1]:80"), "PROXY TCP6 ::ffff:192.0.2.1 ::1 5 80\r\n");
    }

    #[test]
    fn the_binary_greeting_has_signature_lengths_and_both_ends() {
        let four = greeted(ProxyProtocol::V2, "192.0.2.1:258", "192.0.2.9:80");
        let signature = [0x0d, 0x0a, 0x0d, 0x0a, 0x00, 0x0d, 0x0a, 0x51, 0x55, 0x49, 0x54, 0x0a, 0x21];
        assert_eq!(four[..13], signature);
        assert_eq!(four[13..], [0x11, 0, 12, 192, 0, 2, 1, 192, 0, 2, 9, 1, 2, 0, 80]);
        assert_eq!(greeting(ProxyProtocol::V2, None)[12..], [0x20, 0, 0, 0]);
        let six = greeted(ProxyProtocol::V2, "[::1]:1", "[::2]:2");
        assert_eq!((six.len(), &six[13..16]), (16 + 36, &[0x21, 0, 36][..]));
    }
}
