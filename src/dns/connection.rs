//! A connection to a DNS server: several questions at once, over TCP (RFC 7766).

use std::collections::BTreeMap;
use std::io;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use mail_failover_dns::answer::AnswerError;
use mail_failover_dns::message::{Answer, Request, answered_id};

/// A connection.
// ADR-0142: Updates are hickory's messages over a connection of ours.
#[derive(Debug)]
pub(super) struct Connection(TcpStream);

impl Connection {
    pub(super) fn new(stream: TcpStream) -> Self {
        Self(stream)
    }

    /// Sends messages and waits for the answer to each, in the order of the messages.
    ///
    /// # Errors
    /// The connection ended before the last answer.
    // All at once: one round trip. Answers may come in any order (RFC 7766 §7).
    pub(super) async fn ask(&mut self, requests: Vec<Request>) -> io::Result<Vec<Result<Answer, AnswerError>>> {
        let mut sent = vec![];
        for request in &requests {
            let length =
                u16::try_from(request.bytes().len()).map_err(|_| io::Error::from(io::ErrorKind::FileTooLarge))?;
            sent.extend_from_slice(&length.to_be_bytes());
            sent.extend_from_slice(request.bytes());
        }
        self.0.write_all(&sent).await?;
        let order: Vec<_> = requests.iter().map(Request::id).collect();
        let mut open: BTreeMap<_, _> = requests.into_iter().map(|request| (request.id(), request)).collect();
        let mut answers = BTreeMap::new();
        while !open.is_empty() {
            let length = self.0.read_u16().await?;
            let mut bytes = vec![0; usize::from(length)];
            self.0.read_exact(&mut bytes).await?;
            // What nobody has asked is left alone; it cannot keep us for longer than the attempt lasts.
            if let Some(request) = answered_id(&bytes).and_then(|id| open.remove(&id)) {
                answers.insert(request.id(), request.answer(&bytes));
            }
        }
        Ok(order.iter().filter_map(|id| answers.remove(id)).collect())
    }
}
