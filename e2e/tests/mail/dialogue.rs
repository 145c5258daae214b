//! Tests of a server without faults: it is an SMTP server like others.

use std::time::Duration;

use mail_failover_e2e::mail::server::{Logins, Options, SmtpServer};

use crate::raw::{Raw, Seen};
use crate::{V4, V6, server};

async fn start(options: Options) -> SmtpServer {
    SmtpServer::start(options).await.expect("a server")
}

async fn greeted(server: &SmtpServer) -> Raw {
    let mut raw = Raw::connect(server.address()).await;
    assert_eq!(raw.reply().await, Seen::Line(format!("220 {} ESMTP ready", server.name())));
    raw.exchange("EHLO test", "250").await;
    raw
}

#[tokio::test]
async fn several_messages_pass_through_one_connection_pipelined_or_not() {
    let server = start(Options::new("s", V6)).await;
    let mut raw = greeted(&server).await;
    raw.say("MAIL FROM:<a@a.test> BODY=8BITMIME SIZE=30\r\nRCPT TO:<b@b.test>\r\nRCPT TO:<c@c.test>\r\nDATA\r\n").await;
    for code in ["250", "250", "250", "354"] {
        assert!(matches!(raw.reply().await, Seen::Line(line) if line.starts_with(code)));
    }
    raw.exchange("Message-ID: <other@x>\r\nX-Message-Id: one\r\n\r\n..dot\r\n.", "250").await;
    raw.exchange("MAIL FROM:<>", "250").await;
    raw.exchange("RCPT TO:<d@d.test>", "250").await;
    raw.exchange("DATA", "354").await;
    raw.exchange("message-id: <two@x>\r\n\r\nX-Message-Id: not a header\r\na\nb\r\n.", "250").await;
    raw.exchange("QUIT", "221").await;
    assert_eq!(raw.reply().await, Seen::Closed);

    let received = server.received();
    assert_eq!(received.iter().map(|message| message.id.as_str()).collect::<Vec<_>>(), ["one", "two@x"]);
    assert_eq!(received[0].recipients, ["b@b.test", "c@c.test"]);
    assert_eq!((received[0].sender.as_str(), received[1].sender.as_str()), ("a@a.test", ""));
    assert_eq!(received[0].content, b"Message-ID: <other@x>\r\nX-Message-Id: one\r\n\r\n.dot\r\n");
    assert_eq!(received[0].size, received[0].content.len());
    assert_eq!((received[0].connection, received[1].connection), (1, 1));
    assert!(!received[0].encrypted && received[0].user.is_none() && received[0].at <= received[1].at);

    let counters = server.counters();
    assert_eq!((counters.connections, counters.most_open), (1, 1));
    assert_eq!(["EHLO", "MAIL", "RCPT", "DATA", "QUIT"].map(|verb| counters.commands[verb]), [1, 2, 3, 2, 1]);
    assert_eq!(server.received_by_id()["one"], 1);
    server.forget_received();
    assert_eq!((server.received_count(), server.received().len()), (0, 0));
}

#[tokio::test]
async fn what_comes_out_of_order_or_out_of_bounds_is_refused() {
    let options = Options { max_message_size: 10_000, ..Options::new("s", V4) };
    let server = start(options).await;
    let mut raw = Raw::connect(server.address()).await;
    raw.reply().await;
    let text = "x".repeat(5_000);
    let dialogue = [
        ("MAIL FROM:<a@a.test>", "503"),
        ("EHLO", "501"),
        ("HELO test", "250"),
        ("RCPT TO:<b@b.test>", "503"),
        ("DATA", "503"),
        ("MAIL FROM:a@a.test", "501"),
        ("MAIL FROM:<a@a.test> SIZE=10001", "552"),
        ("MAIL FROM:<a@a.test> WHAT=ever", "555"),
        ("MAIL FROM:<a@a.test>", "250"),
        ("MAIL FROM:<a@a.test>", "503"),
        ("RCPT TO:<>", "501"),
        ("DATA", "503"),
        ("RCPT TO:<b@b.test>", "250"),
        ("RSET", "250"),
        ("RCPT TO:<b@b.test>", "503"),
        ("VRFY b", "252"),
        ("STARTTLS", "502"),
        ("AUTH PLAIN", "502"),
        ("BREW coffee", "502"),
        (&text, "500"),
        ("NOOP", "250"),
        ("mail from:<a@a.test>", "250"),
        ("rcpt to:<b@b.test>", "250"),
        ("data", "354"),
        (&format!("{text}\r\n{text}\r\n."), "552"),
        ("NOOP", "250"),
    ];
    for (command, code) in dialogue {
        raw.exchange(command, code).await;
    }
    assert_eq!(server.received_count(), 0);
}

#[tokio::test]
async fn a_client_that_makes_nothing_but_mistakes_is_dismissed() {
    let server = server("s").await;
    let mut raw = greeted(&server).await;
    for _ in 0..20 {
        raw.exchange("GET / HTTP/1.1", "502").await;
    }
    raw.exchange("GET / HTTP/1.1", "421").await;
    assert_eq!(raw.reply().await, Seen::Closed);
}

#[tokio::test]
async fn a_client_that_says_nothing_is_dismissed() {
    let server = start(Options { idle_timeout: Duration::from_millis(50), ..Options::new("s", V4) }).await;
    let mut raw = greeted(&server).await;
    assert_eq!(raw.reply().await, Seen::line("421 4.4.2 Idle for too long"));
    assert_eq!(raw.reply().await, Seen::Closed);
}

#[tokio::test]
async fn logins_are_checked() {
    let logins = Logins::Only(vec![("user".to_owned(), "password".to_owned())]);
    let server = start(Options::new("s", V4).logins(logins)).await;
    // user/password, and user/wrong.
    let cases = [
        (vec![("AUTH PLAIN AHVzZXIAcGFzc3dvcmQ=", "235")], true),
        (vec![("AUTH PLAIN", "334"), ("AHVzZXIAcGFzc3dvcmQ=", "235")], true),
        (vec![("AUTH LOGIN", "334 VXNlcm5hbWU6"), ("dXNlcg==", "334 UGFzc3dvcmQ6"), ("cGFzc3dvcmQ=", "235")], true),
        (vec![("AUTH LOGIN dXNlcg==", "334 UGFzc3dvcmQ6"), ("cGFzc3dvcmQ=", "235")], true),
        (vec![("AUTH PLAIN AHVzZXIAd3Jvbmc=", "535 5.7.8")], false),
        (vec![("AUTH PLAIN", "334"), ("*", "501")], false),
        (vec![("AUTH PLAIN !", "501")], false),
        (vec![("AUTH CRAM-MD5", "504")], false),
    ];
    for (dialogue, accepted) in cases {
        let mut raw = greeted(&server).await;
        raw.exchange("MAIL FROM:<a@a.test>", "530").await;
        for (line, code) in &dialogue {
            raw.exchange(line, code).await;
        }
        raw.exchange("MAIL FROM:<a@a.test>", if accepted { "250" } else { "530" }).await;
        if accepted {
            raw.exchange("RCPT TO:<b@b.test>", "250").await;
            raw.exchange("DATA", "354").await;
            raw.exchange(".", "250").await;
        }
    }
    let users: Vec<_> = server.received().into_iter().map(|message| message.user).collect();
    assert_eq!(users, vec![Some("user".to_owned()); 4]);
}

#[tokio::test]
async fn sessions_are_bounded() {
    let server = start(Options { max_sessions: 2, ..Options::new("s", V4) }).await;
    let first = greeted(&server).await;
    let _second = greeted(&server).await;
    assert_eq!(Raw::connect(server.address()).await.reply().await, Seen::Reset);
    drop(first);
    let mut open = server.counters().open;
    for _ in 0..100 {
        if open < 2 {
            break;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
        open = server.counters().open;
    }
    greeted(&server).await;
    let counters = server.counters();
    assert_eq!((counters.connections, counters.turned_away, counters.most_open), (4, 1, 2));
}

#[tokio::test]
async fn waiting_for_messages_tells_what_there_was_instead() {
    let server = server("s").await;
    let error = server.wait_for_received(1, Duration::from_millis(10)).await.expect_err("nothing was sent");
    assert_eq!(error.to_string(), "1 messages stored by s did not happen within 10ms: 0 stored");
}

#[tokio::test]
async fn a_stopped_server_is_gone() {
    let server = server("s").await;
    let address = server.address();
    let mut raw = greeted(&server).await;
    server.stop().await;
    assert_eq!(raw.reply().await, Seen::Reset);
    let again = SmtpServer::start(Options::new("again", address)).await.expect("the same address");
    assert_eq!(again.address(), address);
}
