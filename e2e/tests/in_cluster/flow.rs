//! Mail that flows during a whole trial, and the account of every message at its end.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use anyhow::{Result, ensure};
use mail_failover_e2e::in_cluster::installation::ensure_installed;
use mail_failover_e2e::in_cluster::shop::{Application, Shop};
use mail_failover_e2e::mail::load::{Accepted, Account};
use mail_failover_e2e::mail::record;
use mail_failover_e2e::test_env::TestEnv;
use serde_json::Value;
use tokio::time::sleep;

/// Opens a shop with the route's objects changed by `adapt`, in a cluster with the chart installed.
pub async fn open(env: Arc<TestEnv>, adapt: fn(&mut Value)) -> Result<Shop> {
    ensure_installed(&env).await?;
    Shop::open_with(env, adapt).await
}

/// Ends the application once so many messages are accepted, and checks that none was refused or is lost, and that no more
/// than so many arrived twice.
pub async fn finish(shop: &Shop, application: Application<'_>, at_least: usize, most_copies: usize) -> Result<()> {
    let said = application.finish(at_least).await?;
    shop.wait_drained().await?;
    // Providers record a message before they acknowledge it.
    sleep(Duration::from_secs(1)).await;
    let account = shop.account()?;
    eprintln!("{said:?}; {account:?}");
    ensure!(said.is_smooth(), "{said:?}");
    ensure!(account.accepted == said.accepted && account.delivered == said.accepted, "{account:?}");
    ensure!(account.lost.is_empty(), "{account:?}");
    ensure!(account.extra_copies <= most_copies, "{account:?}");
    Ok(())
}

/// The accounts of the messages that were accepted in each part, the first of which begins at the first of these times.
pub fn accounts(shop: &Shop, begins: &[SystemTime]) -> Result<Vec<Account>> {
    let (accepted, stored) = (shop.record("application")?, [shop.record("a")?, shop.record("b")?].concat());
    let mut parts = vec![];
    for (number, from) in begins.iter().enumerate() {
        let until = begins.get(number + 1);
        let of_part = accepted.iter().filter(|entry| {
            let at = SystemTime::UNIX_EPOCH + entry.at;
            *from <= at && until.is_none_or(|until| at < *until)
        });
        let of_part: Vec<Accepted> = of_part.cloned().map(Into::into).collect();
        let nobody = BTreeSet::new();
        parts.push(Account::of(&of_part, &record::copies(stored.clone()), &nobody, &nobody));
    }
    Ok(parts)
}

/// The account of messages as one line.
pub fn line(account: &Account) -> String {
    let Account { accepted, delivered, lost, extra_copies, .. } = account;
    format!("accepted {accepted:>6}, delivered {delivered:>6}, lost {}, twice {extra_copies}", lost.len())
}
