//! A client over TLS that hides nothing: which certificate the server shows, and how a connection ends.

use crate::bed::certificates::Certified;
use crate::bed::resp::encode;
use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};
use std::io::{self, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

/// How long a reply may take.
const PATIENCE: Duration = Duration::from_secs(30);

/// A connection.
pub struct TlsClient(StreamOwned<ClientConnection, TcpStream>);

impl TlsClient {
    /// Connects, trusts servers of this authority, and shows this certificate, if any. The handshake happens with the
    /// first command.
    pub fn connect(server: SocketAddr, authority: &Path, certificate: Option<&Certified>) -> Self {
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_file(authority).unwrap()).unwrap();
        let builder = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()));
        let builder = builder.with_safe_default_protocol_versions().unwrap().with_root_certificates(roots);
        let config = match certificate {
            None => builder.with_no_client_auth(),
            Some(Certified { certificate, key }) => {
                let chain = vec![CertificateDer::from_pem_file(certificate).unwrap()];
                builder.with_client_auth_cert(chain, PrivateKeyDer::from_pem_file(key).unwrap()).unwrap()
            }
        };
        let name = ServerName::from(server.ip());
        let session = ClientConnection::new(Arc::new(config), name).unwrap();
        let stream = TcpStream::connect(server).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_nodelay(true).unwrap();
        Self(StreamOwned::new(session, stream))
    }

    /// Sends one command and gives its reply's text: a line, or a bulk string's content.
    pub fn try_command<A: AsRef<[u8]>>(&mut self, args: impl IntoIterator<Item = A>) -> io::Result<String> {
        self.0.write_all(&encode(args))?;
        self.0.flush()?;
        self.try_reply()
    }

    /// Sends one command.
    pub fn send<A: AsRef<[u8]>>(&mut self, args: impl IntoIterator<Item = A>) {
        self.0.write_all(&encode(args)).expect("the server reads");
        self.0.flush().expect("the server reads");
    }

    /// The next reply's text.
    pub fn reply(&mut self) -> String {
        self.try_reply().unwrap_or_else(|error| panic!("no reply: {error}"))
    }

    fn try_reply(&mut self) -> io::Result<String> {
        let line = self.line()?;
        if line.starts_with('$') && line != "$-1" { self.line() } else { Ok(line) }
    }

    /// As [`TlsClient::try_command`], which must succeed.
    pub fn command<A: AsRef<[u8]>>(&mut self, args: impl IntoIterator<Item = A>) -> String {
        self.try_command(args).unwrap_or_else(|error| panic!("no reply: {error}"))
    }

    fn line(&mut self) -> io::Result<String> {
        let mut line = Vec::new();
        while !line.ends_with(b"\r\n") {
            let mut byte = [0];
            self.0.read_exact(&mut byte)?;
            line.push(byte[0]);
        }
        Ok(String::from_utf8_lossy(&line[..line.len() - 2]).into_owned())
    }

    /// The certificate that the server showed.
    pub fn shown(&self) -> Vec<u8> {
        self.0.conn.peer_certificates().expect("a handshake")[0].to_vec()
    }

    /// Panics unless the server says properly that it is the end.
    pub fn expect_end(&mut self) {
        let mut rest = Vec::new();
        // An end of TCP without TLS's own is an error here.
        self.0.read_to_end(&mut rest).expect("an end in order");
        assert!(rest.is_empty(), "{rest:?}");
    }
}

/// The certificate in a file, as it is sent.
pub fn content(file: &Path) -> Vec<u8> {
    CertificateDer::from_pem_file(file).unwrap().to_vec()
}
