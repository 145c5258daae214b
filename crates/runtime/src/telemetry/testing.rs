//! Clients of the servers in tests.

use std::net::SocketAddr;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// Sends one request and returns the whole answer.
pub(super) async fn request(address: SocketAddr, path: &str) -> String {
    request_as(address, path, "*/*").await
}

/// Sends one request that accepts these media types, and returns the whole answer.
pub(super) async fn request_as(address: SocketAddr, path: &str, accept: &str) -> String {
    let mut stream = TcpStream::connect(address).await.expect("it listens");
    let request = format!("GET {path} HTTP/1.1\r\nHost: x\r\nAccept: {accept}\r\n\r\n");
    stream.write_all(request.as_bytes()).await.expect("sent");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.expect("the server closes the connection after its answer");
    answer
}

/// Opens this many connections that send nothing.
pub(super) async fn occupy(address: SocketAddr, connections: usize) -> Vec<TcpStream> {
    crate::process::raise_limit_of_open_files();
    let mut silent = vec![];
    for _ in 0..connections {
        silent.push(TcpStream::connect(address).await.expect("it listens"));
    }
    silent
}
