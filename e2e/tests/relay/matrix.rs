//! Each stage of a backend's session in each way it can fail: the application is told what the table says, and an
//! accepted message is at one backend exactly once.

use std::borrow::Cow;
use std::time::Duration;

use mail_failover_e2e::mail::certificates::{Authority, Validity};
use mail_failover_e2e::mail::server::{Action, Ending, Fault, Logins, Options, SessionStage, SmtpServer};
use serde_json::json;

use super::client::send;
use super::fixture::{ANY, Relay, SHORT, backend, server};

/// What the application may see of a fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sees {
    /// Nothing: the other backend has the message.
    Nothing,
    /// 451: the backend may have the message, and no other one has it.
    Doubt,
    /// One of these, or the message is with the first backend itself: nobody can know how much it has read.
    Either,
}

impl Sees {
    /// Checks what an application was told, and the copies at the two backends.
    pub fn check(self, is_accepted: bool, [at_first, at_second]: [usize; 2], told: &str) {
        match self {
            Self::Nothing => assert!(is_accepted && (at_first, at_second) == (0, 1), "{told}"),
            Self::Either if is_accepted => assert_eq!(at_first + at_second, 1, "{told}"),
            Self::Doubt | Self::Either => assert!(!is_accepted && at_second == 0 && at_first <= 1, "{told}"),
        }
    }
}

const PAUSED: &str = "Message rejected: Sending paused for this account";

fn actions() -> Vec<Action> {
    let reply = |code, text| Action::Reply(code, Cow::Borrowed(text));
    vec![
        Action::Reset,
        Action::Close,
        Action::Hang,
        Action::Slow(Duration::from_millis(400)),
        Action::Garbage,
        Action::EndlessLine,
        Action::Huge(200_000),
        reply(421, "4.3.2 Service shutting down"),
        reply(451, "4.3.0 Internal error"),
        reply(554, PAUSED),
    ]
}

pub fn expected(fault: &Fault) -> Sees {
    match fault {
        Fault::At(SessionStage::EndOfData | SessionStage::Content, Action::Reply(..))
        | Fault::None
        | Fault::Refuse
        | Fault::Blackhole
        | Fault::Silent
        | Fault::NotOffered(_) => Sees::Nothing,
        Fault::AcceptWithoutReply(_) | Fault::At(SessionStage::EndOfData, _) => Sees::Doubt,
        Fault::At(SessionStage::Content, _) => Sees::Either,
        Fault::At(..) => Sees::Nothing,
    }
}

/// A backend with STARTTLS and a login, as providers are.
async fn provider(name: &str, authority: &Authority) -> SmtpServer {
    let identity = authority.issue(&["localhost"], Validity::Valid).expect("a certificate");
    let logins = Logins::Only(vec![("shop".to_owned(), "hunter2".to_owned())]);
    SmtpServer::start(Options::new(name, ANY).start_tls(identity).logins(logins)).await.expect("a server")
}

/// Two providers, of which the first has a fault from the beginning, so that no connection of before is there; and a
/// relay before them.
pub async fn relay_before(fault: &Fault, authority: &Authority) -> ([SmtpServer; 2], Relay) {
    let servers = [provider("first", authority).await, provider("second", authority).await];
    let provider = |server: &SmtpServer, percent| {
        let mut backend = backend(server, percent);
        backend["tls"] = json!({"mode": "StartTLS", "serverName": "localhost", "ca": authority.pem()});
        backend["secret"] = json!("login");
        backend
    };
    let fill = |folder: &std::path::PathBuf| {
        let login = folder.join("credentials/login");
        std::fs::create_dir_all(&login).expect("a folder");
        std::fs::write(login.join("username"), "shop").expect("written");
        std::fs::write(login.join("password"), "hunter2").expect("written");
    };
    servers[0].set_fault(fault.clone()).await.expect("the fault");
    let relay = Relay::with(fill, &[provider(&servers[0], 100), provider(&servers[1], 0)], &SHORT).await;
    (servers, relay)
}

async fn try_fault(fault: Fault, authority: &Authority) {
    let (servers, relay) = relay_before(&fault, authority).await;
    let answer = send(relay.address(), "m1").await;
    let counts = servers.each_ref().map(SmtpServer::received_count);
    let is_accepted = answer.starts_with("250");
    let told = format!("{fault}: {answer}; {counts:?} at the two");
    expected(&fault).check(is_accepted, counts, &told);
    assert!(is_accepted || answer.starts_with("451"), "{told}");
    if is_accepted {
        let stored = &servers[usize::from(counts[0] == 0)].received()[0];
        assert!(stored.encrypted && stored.user.as_deref() == Some("shop"), "{told}");
        let content = String::from_utf8_lossy(&stored.content);
        assert!(content.starts_with("Received: from shop.example ([127.0.0.1])\r\n\tby relay.example "), "{content}");
        assert_eq!(stored.recipients, ["one@example.net", "two@example.net"]);
    }
    relay.stop();
    relay.ended().await;
}

async fn try_all(faults: Vec<Fault>) {
    let authority = Authority::new().expect("an authority");
    let count = faults.len();
    for (number, fault) in faults.into_iter().enumerate() {
        println!("{} of {count}: {fault}", number + 1);
        Box::pin(try_fault(fault, &authority)).await;
    }
}

/// Every fault of the matrix.
pub fn all_faults() -> Vec<Fault> {
    let (before, within, last) = (before_the_message(), within_the_message(), at_the_end());
    [unreachable_faults(), before, within, last].concat()
}

fn unreachable_faults() -> Vec<Fault> {
    vec![Fault::Refuse, Fault::Blackhole, Fault::Silent]
}

fn before_the_message() -> Vec<Fault> {
    use SessionStage::{Auth, Banner, Ehlo, Handshake, StartTls};
    at(&[Banner, Ehlo, StartTls, Handshake, Auth])
}

fn within_the_message() -> Vec<Fault> {
    use SessionStage::{Data, Mail, Rcpt};
    at(&[Mail, Rcpt, Data])
}

fn at_the_end() -> Vec<Fault> {
    use SessionStage::{Content, EndOfData};
    let mut faults = at(&[Content, EndOfData]);
    faults.extend([Ending::Reset, Ending::Close, Ending::Hang, Ending::Garbage].map(Fault::AcceptWithoutReply));
    faults
}

fn at(stages: &[SessionStage]) -> Vec<Fault> {
    stages.iter().flat_map(|stage| actions().into_iter().map(|action| Fault::At(*stage, action))).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_backend_that_cannot_be_reached_is_not_seen_by_the_application() {
    try_all(unreachable_faults()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_session_that_fails_before_the_message_is_not_seen_by_the_application() {
    try_all(before_the_message()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_transaction_that_fails_before_its_content_is_not_seen_by_the_application() {
    try_all(within_the_message()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_message_that_may_have_been_taken_is_given_to_nobody_else() {
    try_all(at_the_end()).await;
}

#[tokio::test]
async fn what_is_about_the_recipient_is_told_as_the_backend_says_it() {
    let (first, second) = (server("first").await, server("second").await);
    let relay = Relay::start(&[backend(&first, 100), backend(&second, 0)], &SHORT).await;
    first
        .set_fault(Fault::reply(SessionStage::Rcpt, 550, "5.1.1 <one@example.net>: no such user"))
        .await
        .expect("the fault");
    assert_eq!(send(relay.address(), "m1").await, "550 5.1.1 <one@example.net>: no such user");
    assert_eq!((first.received_count(), second.received_count()), (0, 0));
}

#[tokio::test]
async fn with_every_backend_down_the_application_is_told_at_once() {
    let (first, second) = (server("first").await, server("second").await);
    let relay = Relay::start(&[backend(&first, 100), backend(&second, 0)], &SHORT).await;
    first.set_fault(Fault::Refuse).await.expect("the fault");
    second.set_fault(Fault::Refuse).await.expect("the fault");
    first.cut_sessions();
    second.cut_sessions();
    let begun = std::time::Instant::now();
    let answer = send(relay.address(), "m1").await;
    assert!(answer.starts_with("451 4.4.1 no backend takes the message now (first: "), "{answer}");
    assert!(answer.contains("connection refused; second: "), "{answer}");
    assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
}
