//! What is sent over the wire by hand: looks at a zone, and an update that comes late.

use std::net::SocketAddr;
use std::sync::Arc;

use anyhow::{Context, Result, ensure};
use mail_failover_core::model::{DnsOutput, ObjectKey};
use mail_failover_dns::answer::AnswerError;
use mail_failover_dns::mark::{Owner, mark_name};
use mail_failover_dns::message::Request;
use mail_failover_dns::plan::{ObservedSet, Plan, plan};
use mail_failover_dns::record::wire_type;
use mail_failover_dns::tsig::{SECRET_TYPE, TsigKey};
use mail_failover_e2e::assertions::api;
use mail_failover_e2e::dns_looks::{exchange, now};
use mail_failover_e2e::name_server::{BindOptions, KEY, KEY_NAME, NameServer};
use mail_failover_e2e::test_env::TestEnv;
use serde_json::json;
use tokio::net::TcpStream;

use crate::arena::{Arena, BOUNCE};
use crate::exchanger;

pub fn key() -> Result<TsigKey> {
    let data = [("name", KEY_NAME), ("secret", KEY)];
    let data = data.map(|(key, value)| (key.to_owned(), value.as_bytes().to_vec())).into();
    Ok(TsigKey::parse(Some(SECRET_TYPE), &data)?)
}

/// The update that a leader would make now to lead a zone to a backend.
async fn update_made_now(
    server: SocketAddr,
    output: &DnsOutput,
    owner: &Owner,
    backend: &str,
    key: &TsigKey,
) -> Result<Request> {
    let mut stream = TcpStream::connect(server).await?;
    let mut observed = vec![];
    for (id, set) in output.sets_of(backend).context("a backend")?.iter().enumerate() {
        let record_type = wire_type(set.record_type);
        let (id, mark) = (u16::try_from(id)? * 2 + 1, mark_name(&set.name, set.record_type));
        let records = exchange(&mut stream, Request::question(id, &set.name, record_type, None, now())?).await??;
        let txt = wire_type(mail_failover_core::model::DnsRecordType::Txt);
        let marks = exchange(&mut stream, Request::question(id + 1, &mark, txt, None, now())?).await??;
        observed.push(ObservedSet {
            records: records.records(&set.name, record_type),
            marks: marks.records(&mark, txt),
            alias: None,
        });
    }
    let Plan::Write(update) = plan(output, backend, owner, &observed)? else { anyhow::bail!("no update is needed") };
    Ok(Request::update(99, &output.zone, &update, key, now())?)
}

pub async fn stale_leader(env: Arc<TestEnv>) -> Result<()> {
    let server = NameServer::bind(&env, "primary", env.ipv4(), &BindOptions::default()).await?;
    let arena = Arena::create(&env, &[&server], json!({})).await?;
    let _operator = arena.start_operator("a", &[]).await?;
    arena.move_to("primary").await?;
    let spec = api::<mail_failover_api::MailRoute>(&env).get("orders").await?.spec;
    let output = mail_failover_resolve::route(&spec)
        .map_err(|rejection| anyhow::anyhow!(rejection.message))?
        .dns
        .into_iter()
        .next()
        .context("a DNS output")?;
    let owner = Owner { operator: "default".into(), route: ObjectKey::new(env.namespace(), "orders") };
    let key = key()?;
    // An old leader has looked at the zone and made its update, which is on its way.
    let late = update_made_now(server.address(), &output, &owner, "standby", &key).await?;
    // Meanwhile the mail moves there and back: the MX are what the old leader saw, and yet its look is outdated.
    arena.move_to("standby").await?;
    arena.move_to("primary").await?;
    let mut stream = TcpStream::connect(server.address()).await?;
    let refused = exchange(&mut stream, late).await?;
    ensure!(matches!(refused, Err(AnswerError::Overtaken(_))), "{refused:?}");
    println!("the late update: {}", refused.err().map(|error| error.to_string()).unwrap_or_default());
    ensure!(server.dig(BOUNCE, "MX")? == exchanger("primary"));
    // One that was made for the zone as it is goes through: it was the condition that refused the other.
    let timely = update_made_now(server.address(), &output, &owner, "standby", &key).await?;
    let mut stream = TcpStream::connect(server.address()).await?;
    exchange(&mut stream, timely).await??;
    ensure!(server.dig(BOUNCE, "MX")? == exchanger("standby"));
    // The operator sees that within a minute, and puts it right.
    mail_failover_e2e::eventually::eventually(
        std::time::Duration::from_secs(90),
        "the records to be put right",
        async || Ok((server.dig(BOUNCE, "MX")? == exchanger("primary")).then_some(())),
    )
    .await
}
