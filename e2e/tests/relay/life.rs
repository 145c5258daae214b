//! The life of a relay: connections that are used again, shares, breakers, load, and its end.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use mail_failover_e2e::mail::certificates::{Authority, Validity};
use mail_failover_e2e::mail::server::{Fault, Logins, Options, SessionStage, SmtpServer};
use serde_json::json;

use super::client::{Client, send};
use super::fixture::{ANY, Relay, SHORT, backend, document, server};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn connections_to_backends_are_used_again_and_those_that_were_closed_are_not() {
    let only = server("only").await;
    let relay = Relay::start(&[backend(&only, 100)], &SHORT).await;
    let mut client = Client::connect(relay.address()).await;
    client.reply().await;
    client.command("EHLO shop.example").await;
    for number in 0..10 {
        assert_eq!(client.begin(&["one@example.net"]).await, None);
        let answer = client.content(&format!("m{number}"), 3).await;
        assert!(answer.starts_with("250"), "{answer}");
        // RSET comes back meanwhile.
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let connections = only.counters().connections;
    assert!(connections <= 3, "{connections}");
    only.cut_sessions();
    tokio::time::sleep(Duration::from_millis(50)).await;
    assert!(send(relay.address(), "after").await.starts_with("250"));
    assert_eq!(only.received_count(), 11);
    // Nobody was blamed for it.
    assert!(relay.metric("mail_failover_relay_breaker_open{backend=\"only\"}").await < 0.5);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tls_sessions_with_a_backend_are_resumed_until_its_login_changes() {
    let authority = Authority::new().expect("an authority");
    let identity = authority.issue(&["localhost"], Validity::Valid).expect("a certificate");
    let only =
        SmtpServer::start(Options::new("only", ANY).start_tls(identity).logins(Logins::Any)).await.expect("a server");
    let mut secured = backend(&only, 100);
    secured["tls"] = json!({"mode": "StartTLS", "serverName": "localhost", "ca": authority.pem()});
    secured["secret"] = json!("login");
    let fill = |folder: &PathBuf| {
        std::fs::create_dir_all(folder.join("credentials/login")).expect("a folder");
        write_login(folder, "first");
    };
    // Each message needs a connection of its own.
    let arguments = [SHORT.as_slice(), &["--backend-messages", "1"]].concat();
    let relay = Relay::with(fill, &[secured], &arguments).await;
    let count = async |result: &str| {
        relay
            .metric(&format!(
                "mail_failover_relay_backend_tls_handshakes_total{{backend=\"only\",result=\"{result}\"}}"
            ))
            .await
    };
    for number in 0..5 {
        assert!(send(relay.address(), &format!("m{number}")).await.starts_with("250"));
    }
    let full = count("full").await;
    assert!(full < 3.0 && count("resumed").await > 2.0, "{full} full ones");
    write_login(relay.folder.path(), "second");
    let until = Instant::now() + Duration::from_secs(20);
    while only.received().last().and_then(|message| message.user.clone()).as_deref() != Some("second") {
        assert!(Instant::now() < until, "the login is followed");
        assert!(send(relay.address(), "again").await.starts_with("250"));
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    assert!(count("full").await > full, "another login resumes nothing");
}

fn write_login(folder: &Path, user: &str) {
    let login = folder.join("credentials/login");
    std::fs::write(login.join("username"), user).expect("written");
    std::fs::write(login.join("password"), "hunter2").expect("written");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_limits_of_a_backend_are_kept() {
    let (first, second) = (server("first").await, server("second").await);
    let mut limited = backend(&first, 100);
    limited["connections"] = json!(2);
    limited["messagesPerConnection"] = json!(3);
    limited["rate"] = json!({"messages": 10, "perMilliseconds": 1000});
    let relay = Relay::start(&[limited.clone(), backend(&second, 0)], &SHORT).await;
    let address = relay.address();
    let begun = Instant::now();
    let senders: Vec<_> =
        (0..8).map(|number| tokio::spawn(async move { send(address, &format!("m{number}")).await })).collect();
    for sender in senders {
        assert!(sender.await.expect("no panic").starts_with("250"));
    }
    assert!(begun.elapsed() >= Duration::from_millis(700), "eight messages at ten a second: {:?}", begun.elapsed());
    assert_eq!((first.received_count(), second.received_count()), (8, 0));
    let counters = first.counters();
    assert!(counters.most_open <= 2 && counters.connections >= 3, "{counters:?}");
    assert!(relay.metric("mail_failover_relay_backend_paced_total{backend=\"first\"}").await > 0.5);
    // What would wait for too long goes to the other backend, and without one it is told to come again.
    limited["rate"] = json!({"messages": 1, "perMilliseconds": 60_000});
    relay.follow(&document(2, &[limited.clone(), backend(&second, 0)]));
    let decided = "mail_failover_relay_backend_out_of_turn_total{backend=\"first\"}";
    let until = Instant::now() + Duration::from_secs(20);
    while relay.metric(decided).await < 0.5 {
        assert!(Instant::now() < until, "the document is followed");
        assert!(send(address, "again").await.starts_with("250"));
    }
    assert!(second.received_count() >= 1);
    relay.follow(&document(3, &[limited]));
    let mut answer = send(address, "last").await;
    while !answer.starts_with("451") {
        assert!(Instant::now() < until, "{answer}");
        tokio::time::sleep(Duration::from_millis(200)).await;
        answer = send(address, "last").await;
    }
    assert!(answer.contains("limits.messagesPerSecond"), "{answer}");
    // Nobody was blamed for it.
    assert!(relay.metric("mail_failover_relay_breaker_open{backend=\"first\"}").await < 0.5);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_accounts_of_one_host_and_port_are_two_backends() {
    let logins = ["one", "two"].map(|user| (user.to_owned(), "hunter2".to_owned()));
    let options = Options::new("provider", ANY).logins(Logins::Only(logins.to_vec()));
    let provider = SmtpServer::start(options).await.expect("a server");
    let account = |name: &str, percent| {
        let mut account = backend(&provider, percent);
        account["name"] = json!(name);
        account["secret"] = json!(name);
        account
    };
    let fill = |folder: &PathBuf| {
        for user in ["one", "two"] {
            let login = folder.join("credentials").join(user);
            std::fs::create_dir_all(&login).expect("a folder");
            std::fs::write(login.join("username"), user).expect("written");
            std::fs::write(login.join("password"), "hunter2").expect("written");
        }
        // As the operator writes it: Postfix is told of one of them.
        let text = document(1, &[account("one", 100)]);
        let mut text: serde_json::Value = serde_json::from_str(&text).expect("JSON");
        text["accounts"] = json!([account("one", 60), account("two", 40)]);
        std::fs::write(folder.join("agent.json"), text.to_string()).expect("a document");
    };
    let relay = Relay::with(fill, &[account("one", 100)], &SHORT).await;
    let by_user = || {
        let mut counts: HashMap<String, usize> = HashMap::new();
        for message in provider.received() {
            *counts.entry(message.user.unwrap_or_default()).or_default() += 1;
        }
        ["one", "two"].map(|user| counts.get(user).copied().unwrap_or(0))
    };
    for number in 0..10 {
        assert!(send(relay.address(), &format!("m{number}")).await.starts_with("250"));
    }
    assert_eq!(by_user(), [6, 4]);
    // One account is refused, and the other one has its messages, too.
    provider.set_logins(Logins::Only(logins[1..].to_vec()));
    provider.cut_sessions();
    for number in 10..20 {
        assert!(send(relay.address(), &format!("m{number}")).await.starts_with("250"));
    }
    assert_eq!(by_user(), [6, 14]);
    let open =
        async |name: &str| relay.metric(&format!("mail_failover_relay_breaker_open{{backend=\"{name}\"}}")).await;
    let until = Instant::now() + Duration::from_secs(10);
    while open("one").await < 0.5 {
        assert!(Instant::now() < until, "the breaker of the refused account is open");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    assert!(open("two").await < 0.5);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_backend_gets_its_share_of_the_messages_and_a_new_document_is_followed_at_once() {
    let (first, second) = (server("first").await, server("second").await);
    let relay = Relay::start(&[backend(&first, 70), backend(&second, 30)], &SHORT).await;
    for number in 0..20 {
        assert!(send(relay.address(), &format!("m{number}")).await.starts_with("250"));
    }
    assert_eq!((first.received_count(), second.received_count()), (14, 6));
    relay.follow(&document(2, &[backend(&first, 0), backend(&second, 100)]));
    let decided = "mail_failover_relay_backend_decided_percent{backend=\"second\"}";
    let until = Instant::now() + Duration::from_secs(20);
    while relay.metric(decided).await < 99.0 {
        assert!(Instant::now() < until, "the document is followed");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let before = first.received_count();
    for number in 0..5 {
        assert!(send(relay.address(), &format!("new{number}")).await.starts_with("250"));
    }
    assert_eq!(first.received_count(), before);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_silent_backend_costs_the_first_messages_a_stage_and_the_later_ones_nothing() {
    let (first, second) = (server("first").await, server("second").await);
    let relay = Relay::start(&[backend(&first, 100), backend(&second, 0)], &SHORT).await;
    first.set_fault(Fault::Silent).await.expect("the fault");
    for number in 0..4 {
        assert!(send(relay.address(), &format!("m{number}")).await.starts_with("250"));
    }
    tokio::time::sleep(Duration::from_millis(200)).await;
    let begun = Instant::now();
    for number in 4..9 {
        assert!(send(relay.address(), &format!("m{number}")).await.starts_with("250"));
    }
    // Each would have waited two seconds.
    assert!(begun.elapsed() < Duration::from_secs(4), "{:?}", begun.elapsed());
    assert_eq!(second.received_count(), 9);
    // Nor do later ones pay for trials, which come after 5 s and after 10 more.
    let until = Instant::now() + Duration::from_secs(9);
    let mut number = 9;
    while Instant::now() < until {
        let begun = Instant::now();
        assert!(send(relay.address(), &format!("m{number}")).await.starts_with("250"));
        assert!(begun.elapsed() < Duration::from_millis(1500), "{:?}", begun.elapsed());
        number += 1;
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    assert_eq!((first.received_count(), second.received_count()), (0, number));
    // Once it answers, mail returns by itself.
    first.repair().await.expect("repaired");
    let until = Instant::now() + Duration::from_secs(40);
    while first.received_count() == 0 {
        assert!(Instant::now() < until, "mail returns");
        assert!(send(relay.address(), &format!("m{number}")).await.starts_with("250"));
        number += 1;
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn under_load_and_faults_each_accepted_message_is_at_one_backend() {
    let servers = [server("first").await, server("second").await];
    let relay = Relay::start(&[backend(&servers[0], 50), backend(&servers[1], 50)], &SHORT).await;
    let address = relay.address();
    let senders: Vec<_> = (0..20)
        .map(|sender| {
            tokio::spawn(async move {
                let mut told = vec![];
                for number in 0..15 {
                    let id = format!("s{sender}-{number}");
                    let answer = send(address, &id).await;
                    told.push((id, answer));
                }
                told
            })
        })
        .collect();
    let faults = [
        Fault::Refuse,
        Fault::reply(SessionStage::Mail, 421, "4.3.2 Shutting down"),
        Fault::None,
        Fault::reply(SessionStage::EndOfData, 451, "4.3.0 Internal error"),
        Fault::None,
    ];
    for fault in faults.iter().cycle().take(10) {
        servers[0].set_fault(fault.clone()).await.expect("the fault");
        tokio::time::sleep(Duration::from_millis(60)).await;
    }
    servers[0].repair().await.expect("repaired");
    let mut counts: HashMap<String, usize> = HashMap::new();
    let mut told = vec![];
    for sender in senders {
        told.extend(sender.await.expect("no panic"));
    }
    for server in &servers {
        for (id, count) in server.received_by_id() {
            *counts.entry(id).or_default() += count;
        }
    }
    for (id, answer) in &told {
        let count = counts.get(id).copied().unwrap_or(0);
        // None of these faults is ambiguous, and the other backend takes everything.
        assert!(answer.starts_with("250") && count == 1, "{id}: {answer}, {count} copies");
    }
    assert_eq!(told.len(), 300);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_application_that_leaves_takes_its_message_with_it() {
    let (first, second) = (server("first").await, server("second").await);
    let relay = Relay::start(&[backend(&first, 100), backend(&second, 0)], &SHORT).await;
    first.set_fault(Fault::Silent).await.expect("the fault");
    let mut client = Client::connect(relay.address()).await;
    client.reply().await;
    client.send(b"EHLO s\r\nMAIL FROM:<app@shop.example>\r\nRCPT TO:<one@example.net>\r\nDATA\r\n").await;
    // It does not wait for the replay on the second backend, and would send the message again.
    drop(client);
    tokio::time::sleep(Duration::from_secs(4)).await;
    assert_eq!((first.received_count(), second.received_count()), (0, 0));
    assert!(relay.metric("mail_failover_relay_transactions_aborted_total").await >= 1.0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_relay_that_ends_finishes_its_transactions_and_refuses_none() {
    let only = Arc::new(server("only").await);
    let relay = Relay::start(&[backend(&only, 100)], &SHORT).await;
    let mut idle = Client::connect(relay.address()).await;
    idle.reply().await;
    let mut busy = Client::connect(relay.address()).await;
    busy.reply().await;
    busy.command("EHLO shop.example").await;
    assert_eq!(busy.begin(&["one@example.net"]).await, None);
    relay.stop();
    let farewell = idle.reply().await;
    assert!(farewell.starts_with("421 4.3.2 "), "{farewell}");
    tokio::time::sleep(Duration::from_millis(200)).await;
    let answer = busy.content("m1", 3).await;
    assert!(answer.starts_with("250"), "{answer}");
    assert!(busy.command("NOOP").await.starts_with("421"));
    relay.ended().await;
    assert_eq!(only.received_count(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn large_messages_go_through_a_file_and_too_many_of_them_get_a_452() {
    let only = server("only").await;
    let arguments = ["--message-memory", "10000", "--buffer-disk", "3000000", "--buffer-directory", "FOLDER"];
    let relay = Relay::start(&[backend(&only, 100)], &arguments).await;
    let mut client = Client::connect(relay.address()).await;
    client.reply().await;
    client.command("EHLO shop.example").await;
    for (id, lines, code) in [("m1", 30_000, "250"), ("m2", 60_000, "452"), ("m3", 100, "250")] {
        assert_eq!(client.begin(&["one@example.net"]).await, None);
        let answer = client.content(id, lines).await;
        assert!(answer.starts_with(code), "{id}: {answer}");
    }
    let sizes: Vec<_> = only.received().iter().map(|message| message.size).collect();
    assert!(sizes.len() == 2 && sizes[0] > 2_000_000 && sizes[1] < 20_000, "{sizes:?}");
    assert!(relay.metric("mail_failover_relay_unbuffered_messages_total{reason=\"disk\"}").await > 0.5);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_relay_starts_with_the_last_good_document() {
    let only = server("only").await;
    let relay = Relay::with(
        |folder| {
            // The source is empty; the state of an earlier relay is not.
            let store = mail_failover_dataplane::store::StateStore::new(folder.join("state"));
            let text = std::fs::read_to_string(folder.join("agent.json")).expect("a document");
            store.save(mail_failover_dataplane::store::StateRecord::Document, &text).expect("saved");
            std::fs::remove_file(folder.join("agent.json")).expect("removed");
        },
        &[backend(&only, 100)],
        &SHORT,
    )
    .await;
    assert!(send(relay.address(), "m1").await.starts_with("250"));
}
