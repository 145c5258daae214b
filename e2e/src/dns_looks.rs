//! Looks at DNS servers by hand, as fast as they answer.

use std::net::SocketAddr;
use std::time::{Duration, SystemTime};

use anyhow::{Context, Result, bail};
use mail_failover_core::model::DnsRecordType;
use mail_failover_dns::answer::AnswerError;
use mail_failover_dns::message::{Answer, Request};
use mail_failover_dns::plan::told;
use mail_failover_dns::record::wire_type;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{sleep, timeout};

/// Time limit of looks that wait for records.
const SHOWN_WITHIN: Duration = Duration::from_secs(30);

/// Sends a message and reads its answer.
///
/// # Errors
/// When the connection ends before the answer.
pub async fn exchange(stream: &mut TcpStream, request: Request) -> Result<Result<Answer, AnswerError>> {
    let mut sent = u16::try_from(request.bytes().len())?.to_be_bytes().to_vec();
    sent.extend_from_slice(request.bytes());
    stream.write_all(&sent).await?;
    let mut bytes = vec![0; usize::from(stream.read_u16().await?)];
    stream.read_exact(&mut bytes).await?;
    Ok(request.answer(&bytes))
}

/// Unix time, in seconds.
pub fn now() -> u64 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs()
}

/// The time at which each of these servers answers with an exchanger, such as `10 mx.a.example`, and with no other.
///
/// # Errors
/// When that takes half a minute, or a server does not answer.
pub async fn shown_everywhere(servers: &[SocketAddr], name: &str, exchanger: &str) -> Result<SystemTime> {
    let looks = servers.iter().map(|server| shown_at(*server, name, exchanger));
    let times = timeout(SHOWN_WITHIN, futures::future::try_join_all(looks)).await??;
    times.into_iter().max().context("a server")
}

async fn shown_at(server: SocketAddr, name: &str, exchanger: &str) -> Result<SystemTime> {
    let mut stream = TcpStream::connect(server).await?;
    let mx = wire_type(DnsRecordType::Mx);
    for id in 0.. {
        let answer = exchange(&mut stream, Request::question(id % 60_000, name, mx, None, now())?).await??;
        if told(&answer.records(name, mx)) == exchanger {
            return Ok(SystemTime::now());
        }
        sleep(Duration::from_millis(1)).await;
    }
    bail!("it was never shown")
}
