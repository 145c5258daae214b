//! PROXY protocol, versions 1 and 2 (haproxy.org/download/3.0/doc/proxy-protocol.txt): before anything else a load
//! balancer says whose connection it passes on.
//!
//! Only named peers are asked: from anybody else such a header would be a lie.

use std::io;
use std::net::IpAddr;
use std::time::Duration;

use ppp::{HeaderResult, v1, v2};
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;
use tokio::time::timeout;

/// Time for the header.
const PATIENCE: Duration = Duration::from_secs(5);
/// First bytes of version 2, and the least number of bytes of either version.
const SIGNATURE: [u8; 12] = *b"\r\n\r\n\0\r\nQUIT\n";
/// Most bytes of version 1, its end included.
const MAX_LINE: usize = 107;
/// Most bytes of version 2 after the fixed part: addresses, and additions of load balancers.
const MAX_REST: u16 = 2048;

/// Reason why the client behind a load balancer is not known.
#[derive(Debug, thiserror::Error)]
pub enum ProxyHeaderError {
    /// The connection has ended, or failed.
    #[error("the PROXY header cannot be read: {0}")]
    Io(#[from] io::Error),
    /// Nothing came, or not all of it.
    #[error("no PROXY header within {PATIENCE:?}")]
    Late,
    /// Something else came.
    #[error("no PROXY header: named peers (--proxy-from) begin each connection with one")]
    Missing,
    /// The header is too long.
    #[error("a PROXY header of more than {MAX_REST} bytes")]
    TooLong,
    /// The header is not of its form.
    #[error("a malformed PROXY header: {0}")]
    Malformed(String),
}

/// The address of the client. `None` if the load balancer speaks for itself, as its health checks do.
///
/// Nothing beyond the header is read.
///
/// # Errors
/// [`ProxyHeaderError`]
pub async fn client(stream: &mut TcpStream) -> Result<Option<IpAddr>, ProxyHeaderError> {
    let header = timeout(PATIENCE, read_header(stream)).await.map_err(|_elapsed| ProxyHeaderError::Late)??;
    named_by(&header)
}

async fn read_header(stream: &mut TcpStream) -> Result<Vec<u8>, ProxyHeaderError> {
    let mut header = vec![0; SIGNATURE.len()];
    stream.read_exact(&mut header).await?;
    if header == SIGNATURE {
        let mut fixed = [0; 4];
        stream.read_exact(&mut fixed).await?;
        let length = u16::from_be_bytes([fixed[2], fixed[3]]);
        if length > MAX_REST {
            return Err(ProxyHeaderError::TooLong);
        }
        let mut rest = vec![0; length.into()];
        stream.read_exact(&mut rest).await?;
        header.extend(fixed);
        header.extend(rest);
    } else if header.starts_with(b"PROXY ") {
        while !header.ends_with(b"\r\n") {
            if header.len() >= MAX_LINE {
                return Err(ProxyHeaderError::TooLong);
            }
            header.push(stream.read_u8().await?);
        }
    } else {
        return Err(ProxyHeaderError::Missing);
    }
    Ok(header)
}

fn named_by(header: &[u8]) -> Result<Option<IpAddr>, ProxyHeaderError> {
    let address: Option<IpAddr> = match HeaderResult::parse(header) {
        HeaderResult::V1(Ok(header)) => match header.addresses {
            v1::Addresses::Unknown => None,
            v1::Addresses::Tcp4(addresses) => Some(addresses.source_address.into()),
            v1::Addresses::Tcp6(addresses) => Some(addresses.source_address.into()),
        },
        HeaderResult::V2(Ok(header)) => match (header.command, header.addresses) {
            (v2::Command::Proxy, v2::Addresses::IPv4(addresses)) => Some(addresses.source_address.into()),
            (v2::Command::Proxy, v2::Addresses::IPv6(addresses)) => Some(addresses.source_address.into()),
            (v2::Command::Local, _) | (v2::Command::Proxy, v2::Addresses::Unspecified | v2::Addresses::Unix(_)) => None,
        },
        HeaderResult::V1(Err(error)) => return Err(ProxyHeaderError::Malformed(error.to_string())),
        HeaderResult::V2(Err(error)) => return Err(ProxyHeaderError::Malformed(error.to_string())),
    };
    Ok(address.map(|address| address.to_canonical()))
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncWriteExt;
    use tokio::net::TcpListener;

    use super::*;

    /// What is read of these bytes, and what is left of them.
    async fn read(sent: &[u8]) -> (Result<Option<IpAddr>, ProxyHeaderError>, Vec<u8>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let mut proxy = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let (mut stream, _) = listener.accept().await.unwrap();
        proxy.write_all(sent).await.unwrap();
        drop(proxy);
        let named = client(&mut stream).await;
        let mut rest = vec![];
        stream.read_to_end(&mut rest).await.unwrap();
        (named, rest)
    }

    fn version_2(command: u8, family: u8, rest: &[u8]) -> Vec<u8> {
        let length = u16::try_from(rest.len()).unwrap().to_be_bytes();
        [SIGNATURE.as_slice(), &[0x20 | command, family], &length, rest].concat()
    }

    #[tokio::test]
    async fn the_client_is_the_one_that_the_load_balancer_names_and_no_byte_more_is_read() {
        let ipv4 = [192, 0, 2, 7, 10, 0, 0, 1, 0x80, 0, 0, 25];
        let with_additions = [ipv4.as_slice(), &[0x04, 0, 3, 1, 2, 3]].concat();
        let mapped = [[0; 10].as_slice(), &[0xff, 0xff, 192, 0, 2, 8], &[0; 16], &[0x80, 0, 0, 25]].concat();
        for (header, expected) in [
            (b"PROXY TCP4 192.0.2.7 10.0.0.1 4711 25\r\n".to_vec(), Some("192.0.2.7")),
            (b"PROXY TCP6 2001:db8::7 2001:db8::1 4711 25\r\n".to_vec(), Some("2001:db8::7")),
            (b"PROXY UNKNOWN\r\n".to_vec(), None),
            (version_2(1, 0x11, &ipv4), Some("192.0.2.7")),
            (version_2(1, 0x11, &with_additions), Some("192.0.2.7")),
            (version_2(1, 0x21, &mapped), Some("192.0.2.8")),
            (version_2(0, 0x00, &[]), None),
        ] {
            let (named, rest) = read(&[header.as_slice(), b"EHLO x\r\n"].concat()).await;
            assert_eq!((named.unwrap(), rest.as_slice()), (expected.map(|ip| ip.parse().unwrap()), &b"EHLO x\r\n"[..]));
        }
    }

    #[tokio::test]
    async fn without_a_header_nothing_is_served() {
        for (sent, says) in [
            (b"EHLO shop.example\r\n".to_vec(), "begin each connection with one"),
            (b"PROXY TCP4 192.0.2.7 10.0.0.1 x 25\r\n".to_vec(), "malformed"),
            ([b"PROXY TCP4 ".to_vec(), vec![b'1'; 200]].concat(), "more than"),
            ([SIGNATURE.as_slice(), &[0x21, 0x11, 0xff, 0xff]].concat(), "more than"),
            (version_2(1, 0x11, &[1, 2, 3]), "malformed"),
            (b"PROXY".to_vec(), "cannot be read"),
        ] {
            let error = read(&sent).await.0.unwrap_err().to_string();
            assert!(error.contains(says), "{sent:?}: {error}");
        }
    }
}
