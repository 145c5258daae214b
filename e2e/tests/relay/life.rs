//! The life of a relay: connections that are used again, shares, breakers, load, and its end.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use mail_failover_e2e::mail::server::{Fault, SessionStage};

use super::client::{Client, send};
use super::fixture::{Relay, SHORT, backend, document, server};

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
