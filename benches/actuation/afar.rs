//! A way to a server that takes time: a proxy that passes on each piece after a pause.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context, Result};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::sleep;
use tokio_util::task::AbortOnDropHandle;

/// A proxy in front of a server. It stops when dropped.
pub struct Afar {
    address: SocketAddr,
    _serving: AbortOnDropHandle<()>,
}

impl Afar {
    /// Starts a proxy at an address. A piece takes `one_way` to get to the server or back; so does a connection's first.
    ///
    /// # Errors
    /// When it cannot listen.
    pub async fn start(address: SocketAddr, server: SocketAddr, one_way: Duration) -> Result<Self> {
        let listener = TcpListener::bind(address).await.with_context(|| format!("cannot listen on {address}"))?;
        let serving = tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                tokio::spawn(async move {
                    // The handshake of TCP, which the kernel has answered at once.
                    sleep(one_way * 2).await;
                    let Ok(server) = TcpStream::connect(server).await else { return };
                    let _ = (client.set_nodelay(true), server.set_nodelay(true));
                    let (from_client, to_client) = client.into_split();
                    let (from_server, to_server) = server.into_split();
                    tokio::join!(
                        passed_on(from_client, to_server, one_way),
                        passed_on(from_server, to_client, one_way)
                    );
                });
            }
        });
        Ok(Self { address, _serving: AbortOnDropHandle::new(serving) })
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

async fn passed_on(mut from: impl AsyncRead + Unpin, mut to: impl AsyncWrite + Unpin, one_way: Duration) {
    let mut piece = vec![0; 64 * 1024];
    while let Ok(length @ 1..) = from.read(&mut piece).await {
        sleep(one_way).await;
        if to.write_all(&piece[..length]).await.is_err() {
            return;
        }
    }
    let _ = to.shutdown().await;
}
