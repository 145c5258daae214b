//! Trials of drills on a real node: mail flows through Postfix and the agent while the primary is refused.

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use anyhow::{Context, Result, ensure};
use mail_failover_e2e::environment::exhaustive;
use mail_failover_e2e::eventually::eventually;
use mail_failover_e2e::in_cluster::shop::Shop;
use mail_failover_e2e::mail::load::Account;
use mail_failover_e2e::suite::{Trial, trial};
use mail_failover_e2e::test_env::TestEnv;
use serde_json::{Value, json};
use tokio::time::sleep;

use super::flow;

/// Drills in a row: as many in `make test-all`.
const DRILLS: (usize, usize) = (1, 20);
/// Messages sent per second.
const PER_SECOND: u32 = 25;
/// Messages that the primary carries between two drills.
const MEANWHILE: usize = 50;
/// Messages that the standby carries in each drill at least. A busy node takes seconds for one.
const BY_STANDBY: usize = 5;
/// A time limit for all of one drill.
const WITHIN: Duration = Duration::from_mins(3);

pub fn trials() -> Vec<Trial> {
    vec![
        trial(
            "an application's mail leaves through Postfix and the agent while drills refuse the primary: each passes, and no message is refused or lost",
            drills,
        )
        .needs_own_node(),
    ]
}

async fn drills(env: Arc<TestEnv>) -> Result<()> {
    let shop = flow::open(env, |object| {
        if object["kind"] == "FailoverPolicy" {
            let budget = json!({ "drills": 5, "per": "1s" });
            // Long enough for the standby to carry mail on a busy node, and short enough for twenty in fifteen minutes.
            object["spec"]["drills"] = json!({ "mode": "Blocked", "stay": "15s", "budget": budget });
        }
    })
    .await?;
    let application = shop.start_application(PER_SECOND).await?;
    // Each part begins with a drill and ends with the next one.
    let mut begins = vec![];
    for number in 1..=exhaustive(DRILLS.0, DRILLS.1) {
        let what = || format!("drill {number}");
        shop.wait_stored("a", MEANWHILE).await.with_context(what)?;
        let before = status(&shop).await?["passedAt"].clone();
        begins.push(SystemTime::now());
        let begun = Instant::now();
        let request = json!({ "id": format!("drill-{number}"), "action": "Drill", "mode": "Blocked", "for": "5m", "force": true });
        let annotation = format!("mailfailover.io/request={request}");
        shop.env.kubectl(&["annotate", "--overwrite", "mailroute", "orders", &annotation]).await?;
        wait(&shop, "the drill to begin", |drills| !drills["running"].is_null()).await.with_context(what)?;
        shop.wait_stored("b", BY_STANDBY).await.with_context(what)?;
        // From the decision on the primary gets nothing either. What was on its way has ended long ago.
        let none = shop.record("a")?.len();
        sleep(Duration::from_secs(1)).await;
        let by_primary = shop.record("a")?.len() - none;
        // Asked last: a drill that runs now has run all the time.
        let is_running = !status(&shop).await?["running"].is_null();
        ensure!(!is_running || by_primary == 0, "drill {number}: the primary got {by_primary} messages");
        wait(&shop, "the drill to be over", |drills| drills["running"].is_null()).await.with_context(what)?;
        let drills = status(&shop).await?;
        ensure!(!drills["passedAt"].is_null() && drills["passedAt"] != before, "drill {number}: {drills}");
        shop.wait_active("a").await.with_context(what)?;
        eprintln!("drill {number:>2} has passed, and mail is back after {:.1} s", begun.elapsed().as_secs_f64());
        print_so_far(&shop, &begins).await?;
    }
    shop.wait_stored("a", MEANWHILE).await?;
    // Both providers work: nothing ends in the middle of a message.
    flow::finish(&shop, application, 0, 0).await?;
    let accounts = flow::accounts(&shop, &begins)?;
    for (number, account) in accounts.iter().enumerate() {
        eprintln!("drill {:>2}: {}", number + 1, flow::line(account));
    }
    eprintln!("{} drills in a row: {}", accounts.len(), flow::line(&shop.account()?));
    ensure!(accounts.iter().all(|account| account.accepted >= MEANWHILE), "too little mail: {accounts:?}");
    Ok(())
}

/// Prints the account of the drill that has just ended, some of whose mail is on its way, and that of the one before.
// A trial that is interrupted never comes to the accounts at its end.
async fn print_so_far(shop: &Shop, begins: &[SystemTime]) -> Result<()> {
    let accounts = flow::accounts(shop, begins)?;
    let queued = shop.queued().await?;
    for (number, account) in accounts.iter().enumerate().skip(accounts.len().saturating_sub(2)) {
        let Account { accepted, delivered, lost, extra_copies, .. } = account;
        let missing = lost.len();
        eprintln!(
            "drill {:>2} so far: accepted {accepted:>6}, delivered {delivered:>6}, on its way or lost {missing}, twice {extra_copies}",
            number + 1
        );
    }
    eprintln!("{queued} messages are queued now");
    Ok(())
}

async fn status(shop: &Shop) -> Result<Value> {
    let text = shop.env.kubectl(&["get", "mailroute", "orders", "--output=json"]).await?;
    let route: Value = serde_json::from_str(&text)?;
    Ok(route["status"]["drills"].clone())
}

async fn wait(shop: &Shop, what: &str, is_so: fn(&Value) -> bool) -> Result<()> {
    eventually(WITHIN, what, async || Ok(is_so(&status(shop).await?).then_some(()))).await
}
