//! The side of the applications: load balancers before the relay, and messages in chunks.

use super::client::Client;
use super::fixture::{Relay, SHORT, backend, server};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn behind_a_load_balancer_the_client_that_it_names_is_the_client() {
    let only = server("only").await;
    let arguments = [["--proxy-from", "127.0.0.0/8"], ["--allow-network", "192.0.2.0/24"]].concat();
    let relay = Relay::start(&[backend(&only, 100)], &arguments).await;
    let mut friend = Client::connect(relay.address()).await;
    friend.send(b"PROXY TCP4 192.0.2.7 127.0.0.1 4711 25\r\n").await;
    assert!(friend.reply().await.starts_with("220"));
    friend.command("EHLO shop.example").await;
    assert_eq!(friend.begin(&["one@example.net"]).await, None);
    assert!(friend.content("m1", 3).await.starts_with("250"));
    let content = String::from_utf8_lossy(&only.received()[0].content).into_owned();
    assert!(content.starts_with("Received: from shop.example ([192.0.2.7])\r\n"), "{content}");
    let mut stranger = Client::connect(relay.address()).await;
    stranger.send(b"PROXY TCP4 198.51.100.7 127.0.0.1 4711 25\r\n").await;
    assert!(stranger.reply().await.starts_with("554 5.7.1 "));
    let mut silent = Client::connect(relay.address()).await;
    silent.send(b"EHLO shop.example\r\n").await;
    assert_eq!(silent.reply().await, "");
    assert!(relay.metric("mail_failover_relay_rejections_total{reason=\"proxy_header\"}").await > 0.5);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn from_anybody_else_such_a_header_is_no_command() {
    let only = server("only").await;
    let relay = Relay::start(&[backend(&only, 100)], &SHORT).await;
    let mut client = Client::connect(relay.address()).await;
    client.reply().await;
    assert!(client.command("PROXY TCP4 192.0.2.7 127.0.0.1 4711 25").await.starts_with("500"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_message_in_chunks_is_at_a_backend_as_it_was_sent() {
    let only = server("only").await;
    let relay = Relay::start(&[backend(&only, 100)], &SHORT).await;
    let mut client = Client::connect(relay.address()).await;
    client.reply().await;
    assert!(client.command("EHLO shop.example").await.contains("CHUNKING"));
    client.command("MAIL FROM:<app@shop.example>").await;
    client.command("RCPT TO:<one@example.net>").await;
    let content = "X-Message-Id: m1\r\n\r\n.\r\n..two\r\nend";
    let (first, second) = content.split_at(20);
    assert!(
        client
            .command(&format!("BDAT {}\r\n{first}BDAT {} LAST\r\n{second}", first.len(), second.len() + 2))
            .await
            .starts_with("250")
    );
    let answer = client.reply().await;
    assert!(answer.starts_with("250"), "{answer}");
    let stored = only.received();
    let stored = String::from_utf8_lossy(&stored[0].content);
    assert!(stored.ends_with(&format!("{content}\r\n")), "{stored}");
}
