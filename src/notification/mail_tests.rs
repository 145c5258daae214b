use mail_failover_core::model::{SmtpHost, TrustAnchors};
use mail_failover_smtp::testing::{Hang, Hear, refusing, say, server};

use super::*;

const LEADS: Duration = Duration::from_mins(10);

fn request(address: SocketAddr, login: Option<Login>) -> MailRequest {
    MailRequest {
        backend: "relay".into(),
        destination: Destination::Host(SmtpHost { host: address.ip().to_string().into(), port: address.port() }),
        tls: Tls { mode: TlsMode::None, server_name: "relay.example".into(), trust: TrustAnchors::WellKnown },
        login,
        from: "ops@example.org".into(),
        to: vec!["a@example.org".into(), "b@example.org".into()],
        mail: b"Subject: x\r\n\r\n.dot\r\nend\r\n".to_vec(),
    }
}

fn guard(address: SocketAddr) -> DialGuard {
    DialGuard {
        allow_destinations: vec!["127.0.0.0/8".parse().unwrap()],
        allow_ports: vec![address.port().to_string().parse().unwrap()],
        ..DialGuard::default()
    }
}

async fn sent_under(guard: DialGuard, request: &MailRequest) -> Result<(), MailError> {
    let (leadership, _publisher) = Leadership::for_test(LEADS);
    let servers = [SocketAddr::from(([127, 0, 0, 1], 9))];
    let mailer = Mailer::new(&servers, Some("operator.example".to_owned()), guard, leadership).unwrap();
    mailer.send(request).await
}

async fn sent(address: SocketAddr, login: Option<Login>) -> Result<(), MailError> {
    sent_under(guard(address), &request(address, login)).await
}

#[tokio::test]
async fn a_mail_is_one_transaction_with_all_recipients_and_stuffed_dots() {
    let steps = vec![
        say("220 hi\r\n"),
        Hear("EHLO operator.example"),
        say("250-relay\r\n250 AUTH PLAIN\r\n"),
        Hear("AUTH PLAIN"),
        say("235 ok\r\n"),
        Hear("MAIL FROM:<ops@example.org>"),
        say("250 ok\r\n"),
        Hear("RCPT TO:<a@example.org>"),
        say("250 ok\r\n"),
        Hear("RCPT TO:<b@example.org>"),
        say("251 ok\r\n"),
        Hear("DATA"),
        say("354 go on\r\n"),
        Hear("Subject: x"),
        Hear(""),
        Hear("..dot"),
        Hear("end"),
        Hear("."),
        say("250 taken\r\n"),
        Hear("QUIT"),
        say("221 bye\r\n"),
    ];
    let address = server(steps).await;
    sent(address, Some(Login::new("user", "hunter2"))).await.unwrap();
}

/// A session up to its extensions, and what follows.
fn begun(more: Vec<mail_failover_smtp::testing::ServerStep>) -> Vec<mail_failover_smtp::testing::ServerStep> {
    let mut steps = vec![say("220 hi\r\n"), Hear("EHLO"), say("250-relay\r\n250 AUTH PLAIN\r\n")];
    steps.extend(more);
    steps
}

#[tokio::test]
async fn a_refusal_names_the_step_and_no_login_and_only_that_of_this_mail_is_one() {
    let login = || Some(Login::new("user", "hunter2"));
    let refused = server(begun(vec![Hear("AUTH PLAIN"), say("535 5.7.8 user hunter2 is wrong\r\n")])).await;
    let error = sent(refused, login()).await.unwrap_err();
    assert!(error.to_string().starts_with("AUTH: 535 5.7.8") && !error.to_string().contains("hunter2"), "{error}");
    assert!(!error.is_refusal() && !error.is_doubtful());
    let recipient = vec![
        Hear("MAIL"),
        say("250 ok\r\n"),
        Hear("RCPT"),
        say("550 5.1.1 nobody\r\n"),
        Hear("RSET"),
        say("250 ok\r\n"),
    ];
    let error = sent(server(begun(recipient)).await, None).await.unwrap_err();
    assert!(error.is_refusal() && error.to_string().starts_with("RCPT: 550 5.1.1"), "{error}");
}

#[tokio::test]
async fn an_answer_that_is_lost_after_the_final_dot_leaves_doubt() {
    let steps = vec![
        say("220 hi\r\n"),
        Hear("EHLO"),
        say("250 relay\r\n"),
        Hear("MAIL"),
        say("250 ok\r\n"),
        Hear("RCPT"),
        say("250 ok\r\n"),
        Hear("RCPT"),
        say("250 ok\r\n"),
        Hear("DATA"),
        say("354 go on\r\n"),
        Hear("Subject: x"),
        Hear(""),
        Hear("..dot"),
        Hear("end"),
        Hear("."),
    ];
    let error = sent(server(steps).await, None).await.unwrap_err();
    assert!(error.is_doubtful() && !error.is_refusal(), "{error}");
}

#[tokio::test]
async fn what_is_refused_unreachable_or_not_ours_to_connect_to_is_told() {
    let address = server(vec![Hang]).await;
    let error = sent_under(DialGuard::default(), &request(address, None)).await.unwrap_err();
    assert_eq!(error.category(), "refused_destination");
    let nobody = refusing().await;
    let error = sent(nobody, None).await.unwrap_err();
    assert_eq!((error.category(), error.is_doubtful()), ("unreachable", false));
    let strict = server(vec![say("220 hi\r\n"), Hear("EHLO"), say("250 relay\r\n")]).await;
    let mut wants_tls = request(strict, None);
    wants_tls.tls.mode = TlsMode::StartTls;
    let error = sent_under(guard(strict), &wants_tls).await.unwrap_err();
    assert!(error.to_string().contains("not offered"), "{error}");
}
