//! The PROXY protocol on the receiving side, versions 1 and 2, as haproxy's `proxy-protocol.txt` describes them: who the
//! client is, said by a proxy before the first byte of the client's own.
//!
//! Version 1 is a line, `PROXY TCP4 SOURCE DESTINATION PORT PORT\r\n` or `PROXY UNKNOWN…\r\n`, of at most 107 bytes. Version 2 is a
//! signature of 12 bytes, version and command, family, the length of the rest, and the addresses.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use tokio::io::{AsyncRead, AsyncReadExt};

const SIGNATURE: &[u8; 12] = b"\r\n\r\n\0\r\nQUIT\n";
/// Of version 1, CRLF included.
const MAX_LINE: usize = 107;
/// Of version 2 without its first 16 bytes: addresses, and what proxies tell besides, TLS certificates among it.
const MAX_REST: usize = 4096;

/// What a proxy said.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Proxied {
    /// The client; `None` where the proxy speaks for itself, as when it checks health.
    pub source: Option<SocketAddr>,
    /// What the client connected to.
    pub destination: Option<SocketAddr>,
}

const OWN: Proxied = Proxied { source: None, destination: None };

/// Reads the header, and no byte beyond it.
///
/// # Errors
/// Of the stream; `InvalidData` where it begins otherwise.
pub async fn read<S: AsyncRead + Unpin>(stream: &mut S) -> io::Result<Proxied> {
    let mut begin = [0; SIGNATURE.len()];
    stream.read_exact(&mut begin).await?;
    if &begin == SIGNATURE {
        return read_binary(stream).await;
    }
    if !begin.starts_with(b"PROXY ") {
        return Err(invalid());
    }
    let mut line = begin.to_vec();
    // A byte at a time: what follows is the client's own. Once a connection.
    while !line.ends_with(b"\r\n") {
        if line.len() >= MAX_LINE {
            return Err(invalid());
        }
        line.push(stream.read_u8().await?);
    }
    parse_line(&line).ok_or_else(invalid)
}

async fn read_binary<S: AsyncRead + Unpin>(stream: &mut S) -> io::Result<Proxied> {
    let (command, family) = (stream.read_u8().await?, stream.read_u8().await?);
    let length = usize::from(stream.read_u16().await?);
    if length > MAX_REST {
        return Err(invalid());
    }
    let mut rest = vec![0; length];
    stream.read_exact(&mut rest).await?;
    parse_binary(command, family, &rest).ok_or_else(invalid)
}

fn invalid() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, "does not begin with a header of the PROXY protocol")
}

/// Of version 1, CRLF included.
fn parse_line(line: &[u8]) -> Option<Proxied> {
    let text = std::str::from_utf8(line).ok()?.strip_suffix("\r\n")?;
    let mut words = text.split(' ');
    if words.next()? != "PROXY" {
        return None;
    }
    let family = words.next()?;
    if family == "UNKNOWN" {
        return Some(OWN);
    }
    let (source, destination): (IpAddr, IpAddr) = (words.next()?.parse().ok()?, words.next()?.parse().ok()?);
    let (source_port, destination_port) = (port(words.next()?)?, port(words.next()?)?);
    let fits = match family {
        "TCP4" => source.is_ipv4() && destination.is_ipv4(),
        "TCP6" => source.is_ipv6() && destination.is_ipv6(),
        _ => false,
    };
    (fits && words.next().is_none()).then(|| Proxied {
        source: Some(SocketAddr::new(source, source_port)),
        destination: Some(SocketAddr::new(destination, destination_port)),
    })
}

fn port(text: &str) -> Option<u16> {
    let plain = text.bytes().all(|byte| byte.is_ascii_digit()) && (text == "0" || !text.starts_with('0'));
    if plain { text.parse().ok() } else { None }
}

fn parse_binary(command: u8, family: u8, rest: &[u8]) -> Option<Proxied> {
    match (command, family) {
        // LOCAL: the addresses, if any, mean nothing.
        (0x20, _) => Some(OWN),
        (0x21, 0x11) => {
            let (source, rest) = rest.split_first_chunk::<4>()?;
            let (destination, rest) = rest.split_first_chunk::<4>()?;
            ports(Ipv4Addr::from(*source).into(), Ipv4Addr::from(*destination).into(), rest)
        }
        (0x21, 0x21) => {
            let (source, rest) = rest.split_first_chunk::<16>()?;
            let (destination, rest) = rest.split_first_chunk::<16>()?;
            ports(Ipv6Addr::from(*source).into(), Ipv6Addr::from(*destination).into(), rest)
        }
        // Unspecified, and Unix sockets: there is no address to tell.
        (0x21, 0x00 | 0x31) => Some(OWN),
        _ => None,
    }
}

fn ports(source: IpAddr, destination: IpAddr, rest: &[u8]) -> Option<Proxied> {
    let (source_port, rest) = rest.split_first_chunk::<2>()?;
    let (destination_port, _) = rest.split_first_chunk::<2>()?;
    Some(Proxied {
        source: Some(SocketAddr::new(source, u16::from_be_bytes(*source_port))),
        destination: Some(SocketAddr::new(destination, u16::from_be_bytes(*destination_port))),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn read_all(bytes: &[u8]) -> (Option<Proxied>, Vec<u8>) {
        let mut rest = bytes;
        let found = read(&mut rest).await.ok();
        (found, rest.to_vec())
    }

    fn proxied(source: &str, destination: &str) -> Option<Proxied> {
        Some(Proxied { source: Some(source.parse().unwrap()), destination: Some(destination.parse().unwrap()) })
    }

    #[tokio::test]
    async fn both_versions_are_read_and_no_byte_beyond() {
        let line = b"PROXY TCP4 192.0.2.7 10.0.0.1 56324 443\r\nGET /";
        assert_eq!(read_all(line).await, (proxied("192.0.2.7:56324", "10.0.0.1:443"), b"GET /".to_vec()));
        let line = b"PROXY TCP6 2001:db8::1 ::1 1 2\r\n";
        assert_eq!(read_all(line).await.0, proxied("[2001:db8::1]:1", "[::1]:2"));
        assert_eq!(read_all(b"PROXY UNKNOWN\r\nx").await, (Some(OWN), b"x".to_vec()));
        let mut binary = SIGNATURE.to_vec();
        binary.extend([0x21, 0x11, 0, 15, 192, 0, 2, 7, 10, 0, 0, 1, 0xdc, 4, 1, 187, 1, 2, 3]);
        binary.extend(b"GET /");
        assert_eq!(read_all(&binary).await, (proxied("192.0.2.7:56324", "10.0.0.1:443"), b"GET /".to_vec()));
        let mut local = SIGNATURE.to_vec();
        local.extend([0x20, 0, 0, 0]);
        assert_eq!(read_all(&local).await.0, Some(OWN));
    }

    #[tokio::test]
    async fn what_is_no_header_is_refused() {
        for bad in [
            &b"GET / HTTP/1.1\r\n\r\n"[..],
            b"PROXY TCP4 192.0.2.7 10.0.0.1 56324\r\n",
            b"PROXY TCP4 ::1 ::1 1 2\r\n",
            b"PROXY TCP4 1.1.1.1 1.1.1.1 01 2\r\n",
            b"PROXY TCP4 1.1.1.1 1.1.1.1 1 2 3\r\n",
            b"PROXY UDP4 1.1.1.1 1.1.1.1 1 2\r\n",
        ] {
            assert_eq!(read_all(bad).await.0, None, "{}", String::from_utf8_lossy(bad));
        }
        assert_eq!(read_all(&[b"PROXY UNKNOWN ".to_vec(), vec![b'x'; 200]].concat()).await.0, None);
        for rest in [&[0x21, 0x11, 0, 3, 1, 2, 3][..], &[0x31, 0x11, 0, 0], &[0x21, 0x11, 0xff, 0xff]] {
            assert_eq!(read_all(&[&SIGNATURE[..], rest].concat()).await.0, None, "{rest:?}");
        }
    }
}
