//! Trials of applications that send to the route's Service by themselves, without an MTA, and of
//! their connections through kube-proxy.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use mail_failover_e2e::eventually::eventually;
use mail_failover_e2e::in_cluster::installation::ensure_installed;
use mail_failover_e2e::in_cluster::shop::{Outage, Shop, WAIT_TIMEOUT};
use mail_failover_e2e::mail::sender::{Sender, SenderOptions, fixed};
use mail_failover_e2e::suite::{Trial, trial};
use mail_failover_e2e::test_env::TestEnv;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use tokio::time::{sleep, timeout};

/// The time between two messages.
const PACE: Duration = Duration::from_millis(50);
/// The bound of a failover. The product promises a second, but this machine does other things, too.
const BOUND: Duration = Duration::from_secs(10);

pub fn trials() -> Vec<Trial> {
    vec![
        trial(
            "a client of the route's Service is led to the standby, whatever becomes of the primary, and back",
            failovers,
        )
        .needs_own_node(),
        trial(
            "a connection that is established stays with the server that it has, for as long as that lives",
            established,
        )
        .needs_own_node(),
    ]
}

async fn failovers(env: Arc<TestEnv>) -> Result<()> {
    ensure_installed(&env).await?;
    // The quick start's interval; its timeout of half a second is less than a busy machine lets a pod wait.
    let shop = Shop::without_mta(env, "200ms", "1s").await?;
    let service = shop.service().await?;
    wait_greeted(&shop, "a").await?;
    let sender = Sender::start(SenderOptions::new(PACE, fixed(vec![service])));
    for outage in [Outage::Refuses, Outage::Killed, Outage::Hung, Outage::CutOff] {
        let what = || format!("{outage:?}");
        sleep(PACE * 10).await;
        let broken = Instant::now();
        shop.break_provider("a", outage).await.with_context(what)?;
        let failover = sender.wait_for_failover(broken, WAIT_TIMEOUT).await.with_context(what)?;
        let status = shop.wait_active("b").await.with_context(what)?;
        let reason = status.last_transition.map(|last| last.reason).unwrap_or_default();
        eprintln!("{outage:?}: the client could not send for {:.2?} ({reason})", failover.took());
        ensure!(failover.took() < BOUND, "{outage:?}: {:?}", failover.took());
        shop.repair("a", outage).await.with_context(what)?;
        shop.wait_active("a").await.with_context(what)?;
        wait_greeted(&shop, "a").await.with_context(what)?;
    }
    let totals = sender.stop(WAIT_TIMEOUT).await.totals();
    ensure!(totals.lost == 0 && totals.accepted == totals.sent, "{totals:?}");
    let stored = shop.record("a")?.len() + shop.record("b")?.len();
    ensure!(stored >= totals.accepted, "{stored} stored, {totals:?}");
    Ok(())
}

async fn established(env: Arc<TestEnv>) -> Result<()> {
    ensure_installed(&env).await?;
    // Longer than a busy machine lets a pod wait for its processor: a switch that nobody asked for would lead
    // the sessions below to the other server.
    let shop = Shop::without_mta(env, "1s", "5s").await?;
    wait_greeted(&shop, "a").await?;
    let mut open = ClientSession::open(&shop).await?;
    let mut doomed = ClientSession::open(&shop).await?;
    if (open.name.as_str(), doomed.name.as_str()) != ("a", "a") {
        bail!("{} and {} greeted; {}", open.name, doomed.name, shop.transitions().await?);
    }

    // The server lives, but refuses new sessions. Established ones continue, and kube-proxy does not cut them.
    shop.break_provider("a", Outage::Refuses).await?;
    shop.wait_active("b").await?;
    wait_greeted(&shop, "b").await?;
    ensure!(open.noop().await? == Some(true), "an established session was cut by a switch");

    // Its packets are dropped, and the client gets no notice. Only its own timeout ends the session.
    shop.repair("a", Outage::Refuses).await?;
    shop.wait_active("a").await?;
    wait_greeted(&shop, "a").await?;
    shop.break_provider("a", Outage::CutOff).await?;
    shop.wait_active("b").await?;
    ensure!(doomed.noop().await?.is_none(), "a session with a server that is cut off was answered");
    shop.repair("a", Outage::CutOff).await?;
    shop.wait_active("a").await?;

    // Its pod is deleted: the node's kernel resets the connections.
    wait_greeted(&shop, "a").await?;
    let mut orphan = ClientSession::open(&shop).await?;
    if orphan.name != "a" {
        bail!("{} greeted; {}", orphan.name, shop.transitions().await?);
    }
    shop.break_provider("a", Outage::Killed).await?;
    let gone = orphan.noop().await?;
    ensure!(gone == Some(false), "a session with a pod that is gone: {gone:?}");
    shop.wait_active("b").await.map(drop)
}

/// Waits until this server greets new connections.
async fn wait_greeted(shop: &Shop, name: &str) -> Result<()> {
    eventually(WAIT_TIMEOUT, &format!("{name} to answer by the Service"), async || {
        let session = ClientSession::open(shop).await?;
        if session.name != name {
            bail!("{} answers", session.name);
        }
        Ok(Some(()))
    })
    .await
}

/// The time limit of a reply.
const REPLY: Duration = Duration::from_secs(5);

/// An SMTP session through the route's Service.
struct ClientSession {
    stream: BufReader<TcpStream>,
    /// The name of the server that greeted.
    name: String,
}

impl ClientSession {
    async fn open(shop: &Shop) -> Result<Self> {
        let service = shop.service().await?;
        let open = async {
            let mut stream = BufReader::new(TcpStream::connect(service).await?);
            let mut greeting = String::new();
            (&mut stream).take(1000).read_line(&mut greeting).await?;
            let name = greeting.strip_prefix("220 ").and_then(|rest| rest.split('.').next());
            let name = name.with_context(|| format!("greeted with {greeting:?}"))?.to_owned();
            Ok(Self { stream, name })
        };
        timeout(REPLY, open).await.context("no greeting")?
    }

    /// Sends NOOP. Returns true if the server answered, false if the connection broke, and `None`
    /// if neither happens in time.
    async fn noop(&mut self) -> Result<Option<bool>> {
        let ask = async {
            self.stream.get_mut().write_all(b"NOOP\r\n").await?;
            let mut reply = String::new();
            (&mut self.stream).take(1000).read_line(&mut reply).await?;
            std::io::Result::Ok(reply.starts_with("250"))
        };
        Ok(match timeout(REPLY, ask).await {
            Ok(Ok(answered)) => Some(answered),
            Ok(Err(_)) => Some(false),
            Err(_) => None,
        })
    }
}
