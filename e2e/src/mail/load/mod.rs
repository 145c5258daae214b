//! Load for a queueing mail server, and the account of its messages.
//!
//! Some connections, each sending message after message, at a pace or as fast as the server takes
//! them. Every message has an id of its own, and every recipient an address of its own: otherwise
//! the mail server's caches of known recipients would decide what is measured. A message that the
//! server does not take is offered again until it does. The load talks to no other server.

mod account;
mod client;

use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

pub use account::{Account, Stored};

use self::client::{Connection, LoadFailure};
use super::record::{Entry, Record};
use super::{Error, Result, lock};

/// The time from a failed attempt to the next one of the same message.
const PAUSE: Duration = Duration::from_millis(50);

/// Settings of a load.
#[derive(Clone, Debug)]
pub struct LoadOptions {
    /// The server that takes the mail.
    pub server: SocketAddr,
    /// The number of messages.
    pub messages: usize,
    /// The number of recipients of each message.
    pub recipients: usize,
    /// The number of connections at a time.
    pub connections: usize,
    /// True if each message has a connection of its own.
    pub is_connection_each: bool,
    /// Messages per second, over all connections; without it, as fast as they are taken.
    pub per_second: Option<u32>,
    /// The envelope sender, to whom bounces go.
    pub from: String,
    /// The approximate size of a body, in bytes.
    pub size: usize,
    /// The time after which a message that was not taken is offered again.
    pub attempt_timeout: Duration,
    /// The record that taken messages are written to, too.
    pub record: Option<Arc<Record>>,
}

impl LoadOptions {
    /// Small messages to one recipient each, over ten connections.
    pub fn new(server: SocketAddr, messages: usize, from: &str) -> Self {
        Self {
            server,
            messages,
            recipients: 1,
            connections: 10,
            is_connection_each: false,
            per_second: None,
            from: from.to_owned(),
            size: 500,
            attempt_timeout: Duration::from_secs(30),
            record: None,
        }
    }
}

/// A message that the server took responsibility for.
#[derive(Clone, Debug)]
pub struct Accepted {
    /// The `X-Message-Id`.
    pub id: String,
    /// The recipients, who get no other message.
    pub recipients: Vec<String>,
    /// The server's reply.
    pub reply: String,
    /// The time of the reply.
    pub at: Instant,
}

/// The results of a load.
#[derive(Clone, Debug, Default)]
pub struct Sent {
    /// Messages that the server took, in order.
    pub accepted: Vec<Accepted>,
    /// Refusals; a refused message was offered again.
    pub refusals: usize,
    /// The reason of the last refusal.
    pub last_refusal: Option<String>,
    /// Messages of which it is unknown if they were taken, since the connection broke during the
    /// last reply. They were offered again under other ids and to other recipients.
    pub unknown: usize,
    /// The reason why a message that was taken is not in the record.
    pub unrecorded: Option<String>,
}

struct LoadState {
    options: LoadOptions,
    run: String,
    begun: Instant,
    next: AtomicUsize,
    sent: Mutex<Sent>,
    accepted: watch::Sender<usize>,
}

/// A running load. It stops when dropped.
pub struct Load {
    shared: Arc<LoadState>,
    connections: JoinSet<()>,
}

impl Load {
    /// Starts the load; the first message is sent at once.
    pub fn start(options: LoadOptions) -> Self {
        let connections = options.connections;
        let shared = Arc::new(LoadState {
            options,
            run: format!("{:08x}", fastrand::u32(..)),
            begun: Instant::now(),
            next: AtomicUsize::new(0),
            sent: Mutex::default(),
            accepted: watch::Sender::new(0),
        });
        let mut running = JoinSet::new();
        for _ in 0..connections {
            running.spawn(send(Arc::clone(&shared)));
        }
        Self { shared, connections: running }
    }

    /// Waits until this many messages are taken.
    ///
    /// # Errors
    /// When they are not in time.
    pub async fn wait_accepted(&self, count: usize, within: Duration) -> Result<()> {
        let mut accepted = self.shared.accepted.subscribe();
        let waited = timeout(within, accepted.wait_for(|accepted| *accepted >= count)).await;
        if matches!(waited, Ok(Ok(_))) {
            return Ok(());
        }
        let sent = lock(&self.shared.sent);
        let seen =
            format!("{} accepted, {} refusals, the last: {:?}", sent.accepted.len(), sent.refusals, sent.last_refusal);
        Err(Error::Timeout { what: format!("{count} messages accepted"), within, seen })
    }

    /// The results so far.
    pub fn sent(&self) -> Sent {
        lock(&self.shared.sent).clone()
    }

    /// Begins no further message, and waits until those that were begun are taken.
    ///
    /// # Errors
    /// When they are not in time.
    pub async fn stop(mut self, within: Duration) -> Result<Sent> {
        self.shared.next.fetch_max(self.shared.options.messages, Ordering::Relaxed);
        let ended = timeout(within, async { while self.connections.join_next().await.is_some() {} }).await;
        ended.map_err(|_| Error::Timeout {
            what: "the last messages accepted".to_owned(),
            within,
            seen: format!("{:?}", lock(&self.shared.sent).last_refusal),
        })?;
        Ok(self.sent())
    }

    /// Waits until all messages are taken.
    ///
    /// # Errors
    /// When they are not in time.
    pub async fn finish(mut self, within: Duration) -> Result<Sent> {
        self.wait_accepted(self.shared.options.messages, within).await?;
        while self.connections.join_next().await.is_some() {}
        Ok(self.sent())
    }
}

/// Sends over one connection after the other until there are no more messages.
async fn send(shared: Arc<LoadState>) {
    let mut connection = None;
    loop {
        let number = shared.next.fetch_add(1, Ordering::Relaxed);
        if number >= shared.options.messages {
            break;
        }
        if let Some(per_second) = shared.options.per_second {
            let due = Duration::from_secs(1).mul_f64(as_f64(number) / f64::from(per_second.max(1)));
            sleep(due.saturating_sub(shared.begun.elapsed())).await;
        }
        for attempt in 0.. {
            let message = LoadMessage::new(&shared, number, attempt);
            match offer(&shared.options, &mut connection, &message).await {
                Ok(reply) => {
                    if shared.options.is_connection_each
                        && let Some(connection) = connection.take()
                    {
                        connection.quit().await;
                    }
                    let mut sent = lock(&shared.sent);
                    let LoadMessage { id, recipients, .. } = message;
                    if let Some(record) = &shared.options.record
                        && let Err(error) = record.write(&Entry::now(&id, &recipients, &shared.options.from))
                    {
                        sent.unrecorded = Some(error.to_string());
                    }
                    sent.accepted.push(Accepted { id, recipients, reply, at: Instant::now() });
                    shared.accepted.send_replace(sent.accepted.len());
                    break;
                }
                Err(failure) => {
                    connection = None;
                    let mut sent = lock(&shared.sent);
                    sent.refusals += 1;
                    sent.unknown += usize::from(failure.may_have_been_taken);
                    sent.last_refusal = Some(failure.reason);
                }
            }
            sleep(PAUSE).await;
        }
    }
    if let Some(connection) = connection {
        connection.quit().await;
    }
}

async fn offer(
    options: &LoadOptions,
    connection: &mut Option<Connection>,
    message: &LoadMessage,
) -> std::result::Result<String, LoadFailure> {
    let mut taking = false;
    let attempt = async {
        if connection.is_none() {
            *connection = Some(Connection::open(options.server).await?);
        }
        let Some(open) = connection.as_mut() else { return Err(LoadFailure::new("no connection")) };
        open.send(&options.from, message, &mut taking).await
    };
    match timeout(options.attempt_timeout, attempt).await {
        Ok(result) => result,
        Err(_) => Err(LoadFailure {
            reason: format!("no answer in {:?}", options.attempt_timeout),
            may_have_been_taken: taking,
        }),
    }
}

/// A message with its content.
struct LoadMessage {
    id: String,
    recipients: Vec<String>,
    /// The content with CRLF and without lines that begin with a dot.
    content: String,
}

impl LoadMessage {
    /// A message for one attempt. Each attempt has an id and recipients of its own, since an
    /// attempt that seemed to fail may have been taken.
    fn new(shared: &LoadState, number: usize, attempt: u32) -> Self {
        let LoadOptions { recipients, from, size, .. } = &shared.options;
        let id = match attempt {
            0 => format!("{}-{number:06}", shared.run),
            again => format!("{}-{number:06}-{again}", shared.run),
        };
        let recipients: Vec<_> = (0..*recipients).map(|to| format!("customer{to}+{id}@mail.example")).collect();
        let mut content = format!(
            "From: <{from}>\r\nTo: {}\r\nSubject: Message {number}\r\nMessage-ID: <{id}@load.test>\r\nX-Message-Id: {id}\r\n\r\n",
            recipients.join(",\r\n ")
        );
        let line = "This line is 64 bytes long, with its end, and so are the others.\r\n";
        content.push_str(&line.repeat(size.div_ceil(line.len())));
        Self { id, recipients, content }
    }
}

#[expect(clippy::cast_precision_loss, reason = "no load has 2^53 messages")]
fn as_f64(number: usize) -> f64 {
    number as f64
}
