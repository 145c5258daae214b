//! Time from a decision until every authority answers with the records, beside nsupdate.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use anyhow::{Context, Result, ensure};
use mail_failover_e2e::dns_looks::shown_everywhere;
use mail_failover_e2e::fixture::route_status;
use mail_failover_e2e::mail::server::Fault;
use mail_failover_e2e::name_server::{BindOptions, NameServer};
use mail_failover_e2e::test_env::TestEnv;
use serde_json::json;

use crate::arena::{Arena, BOUNCE};

/// Moves that are measured; a hundred by `make bench-actuation`.
const MOVES: usize = 6;
/// The bound on the 99th percentile.
const BOUND: Duration = Duration::from_millis(300);

/// The median and the 99th percentile, in milliseconds.
fn percentiles(mut took: Vec<Duration>) -> (f64, f64) {
    took.sort_unstable();
    let at = |percent: usize| took[(took.len() * percent).div_ceil(100).saturating_sub(1)].as_secs_f64() * 1000.0;
    (at(50), at(99))
}

pub async fn actuation(env: Arc<TestEnv>) -> Result<()> {
    let (first, second) = (env.ipv4(), env.ipv4());
    let options = BindOptions { told: vec![second], name_servers: vec![first, second], ..BindOptions::default() };
    let primary = NameServer::bind(&env, "primary", first, &options).await?;
    let secondary = NameServer::bind_secondary(&env, "secondary", second, &primary).await?;
    let servers = [primary.address(), secondary.address()];
    let authorities = servers.map(|server| server.to_string());
    let arena = Arena::create(&env, &[&primary], json!({ "rfc2136": { "authorities": authorities } })).await?;
    let _operator = arena.start_operator("a", &[]).await?;
    arena.move_to("primary").await?;
    // No other trial of this suite runs beside the measurement.
    let _alone = env.alone().await;
    let (mut at_primary, mut everywhere) = (vec![], vec![]);
    for turn in 0..MOVES {
        let backend = if turn % 2 == 0 { "standby" } else { "primary" };
        let exchanger = format!("10 mx.{backend}.example");
        let looks = async {
            tokio::try_join!(
                shown_everywhere(&servers[..1], BOUNCE, &exchanger),
                shown_everywhere(&servers, BOUNCE, &exchanger)
            )
        };
        let moves = async {
            if backend == "primary" {
                arena.fixture.primary.repair().await?;
            } else {
                arena.fixture.primary.set_fault(Fault::Refuse).await?;
            }
            Ok(())
        };
        let ((one, all), ()) = tokio::try_join!(looks, moves)?;
        arena.wait_led(backend).await?;
        let last = route_status(&env, "orders").await?.last_transition.context("a transition")?;
        ensure!(last.to == backend, "{last:?}");
        let decided = SystemTime::from(last.decided_at.0);
        at_primary.push(one.duration_since(decided).unwrap_or_default());
        everywhere.push(all.duration_since(decided).unwrap_or_default());
    }
    let (mut peer_primary, mut peer_everywhere) = (vec![], vec![]);
    for turn in 0..MOVES {
        let exchanger = format!("10 mx{turn}.peer.example");
        let delete = "update delete peer.shop.example MX".to_owned();
        let add = format!("update add peer.shop.example 60 MX {exchanger}.");
        let begun = SystemTime::now();
        let server = &primary;
        let looks = async {
            tokio::try_join!(
                shown_everywhere(&servers[..1], "peer.shop.example", &exchanger),
                shown_everywhere(&servers, "peer.shop.example", &exchanger)
            )
        };
        let update = async { tokio::task::block_in_place(|| server.nsupdate(&[&delete, &add])) };
        let ((one, all), ()) = tokio::try_join!(looks, update)?;
        peer_primary.push(one.duration_since(begun).unwrap_or_default());
        peer_everywhere.push(all.duration_since(begun).unwrap_or_default());
    }
    let ours = percentiles(everywhere);
    for (who, one, all) in [
        ("decision of the operator", percentiles(at_primary), ours),
        ("start of nsupdate", percentiles(peer_primary), percentiles(peer_everywhere)),
    ] {
        println!(
            "from the {who} to BIND's primary: p50 {:.1} ms, p99 {:.1} ms; to primary and secondary: p50 {:.1} ms, p99 {:.1} ms ({MOVES} changes)",
            one.0, one.1, all.0, all.1
        );
    }
    // Other programs of the machine may run; the figure of a quiet one is in docs/benchmarks.md.
    ensure!(ours.1 < BOUND.as_secs_f64() * 1000.0 * 10.0, "p99 {:.1} ms", ours.1);
    Ok(())
}
