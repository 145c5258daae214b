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
enum Sees {
    /// Nothing: the other backend has the message.
    Nothing,
    /// 451: the backend may have the message, and no other one has it.
    Doubt,
    /// One of these, or the message is with the first backend itself: nobody can know how much it has read.
    Either,
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

fn expected(fault: &Fault) -> Sees {
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

async fn try_fault(fault: Fault, authority: &Authority) {
    let (first, second) = (provider("first", authority).await, provider("second", authority).await);
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
    // From the beginning, so that no connection of before is there.
    first.set_fault(fault.clone()).await.expect("the fault");
    let relay = Relay::with(fill, &[provider(&first, 100), provider(&second, 0)], &SHORT).await;
    let answer = send(relay.address(), "m1").await;
    let (at_first, at_second) = (first.received_count(), second.received_count());
    let is_accepted = answer.starts_with("250");
    let sees = expected(&fault);
    let told = format!("{fault}: {answer}; {at_first} at the first, {at_second} at the second");
    match sees {
        Sees::Nothing => assert!(is_accepted && (at_first, at_second) == (0, 1), "{told}"),
        Sees::Either if is_accepted => assert_eq!(at_first + at_second, 1, "{told}"),
        Sees::Doubt | Sees::Either => {
            assert!(answer.starts_with("451") && at_second == 0 && at_first <= 1, "{told}");
        }
    }
    if is_accepted {
        let stored = &if at_first == 1 { first.received() } else { second.received() }[0];
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

fn at(stages: &[SessionStage]) -> Vec<Fault> {
    stages.iter().flat_map(|stage| actions().into_iter().map(|action| Fault::At(*stage, action))).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_backend_that_cannot_be_reached_is_not_seen_by_the_application() {
    try_all(vec![Fault::Refuse, Fault::Blackhole, Fault::Silent]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_session_that_fails_before_the_message_is_not_seen_by_the_application() {
    use SessionStage::{Auth, Banner, Ehlo, Handshake, StartTls};
    try_all(at(&[Banner, Ehlo, StartTls, Handshake, Auth])).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_transaction_that_fails_before_its_content_is_not_seen_by_the_application() {
    use SessionStage::{Data, Mail, Rcpt};
    try_all(at(&[Mail, Rcpt, Data])).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_message_that_may_have_been_taken_is_given_to_nobody_else() {
    use SessionStage::{Content, EndOfData};
    let mut faults = at(&[Content, EndOfData]);
    faults.extend([Ending::Reset, Ending::Close, Ending::Hang, Ending::Garbage].map(Fault::AcceptWithoutReply));
    try_all(faults).await;
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
