//! One round: load, a break during it, and the account of every message.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use super::fault::{Cell, Point};
use super::setup::{Mta, Providers, SENDER, STANDBY};
use crate::mail::load::{Accepted, Account, Load, LoadOptions, Stored};
use crate::mail::statistics::{Align, Table, human};

/// The plan of a round.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    /// The fault.
    pub cell: Cell,
    /// The number of messages.
    pub messages: usize,
    /// The number of recipients of each message.
    pub recipients: usize,
    /// Messages per second, over ten connections.
    pub per_second: u32,
    /// The number of messages that Postfix has taken when the primary breaks.
    pub break_after: usize,
    /// The time limit from the last message on. What is then neither delivered nor queued is lost.
    pub within: Duration,
}

/// The result of a round.
#[derive(Clone, Debug)]
pub struct RoundOutcome {
    /// The fault.
    pub cell: Cell,
    /// The account of every message.
    pub account: Account,
    /// The time from the first attempt that met the fault to the first message by the standby that
    /// Postfix had taken after it. For a fault of sessions and not of messages it starts at the
    /// break.
    pub first_by_standby: Option<Duration>,
    /// The time from the same moment until the last message was delivered that Postfix had taken
    /// before mail went by the standby; `None` if one was not delivered.
    pub old_delivered: Option<Duration>,
    /// The time from the same moment until all messages of the load were delivered.
    pub all_delivered: Option<Duration>,
    /// Deliveries of which Postfix's log says that the message may be sent more than once.
    pub unsure_by_log: usize,
    /// The same number as the agent counts it, since its last start.
    pub unsure_by_agent: Option<usize>,
    /// Copies that each of these deliveries can make: one for each recipient of the message.
    pub recipients: usize,
    /// Messages that may have been on their way when Postfix was stopped.
    pub interrupted: usize,
    /// Messages still queued, by the queue's name.
    pub queued_in: BTreeMap<String, usize>,
    pub bounces: usize,
    /// Messages that Postfix refused; they were offered again.
    pub refusals: usize,
}

impl RoundOutcome {
    /// Violations of what must hold while the agent leads the mail, a sentence for each.
    pub fn complaints(&self) -> Vec<String> {
        let Self { account, unsure_by_agent, .. } = self;
        let mut complaints = Vec::new();
        if !account.lost.is_empty() {
            let some: Vec<_> = account.lost.iter().take(3).collect();
            complaints.push(format!("{} lost, such as {some:?}", account.lost.len()));
        }
        if account.bounced > 0 || self.bounces > 0 {
            complaints.push(format!("{} bounced; {} bounces arrived", account.bounced, self.bounces));
        }
        if account.queued > 0 {
            complaints.push(format!("{} still queued at the end, {:?}", account.queued, self.queued_in));
        }
        if !account.by_server.contains_key(STANDBY) {
            complaints.push("nothing went by the standby".to_owned());
        }
        if account.extra_copies > self.interrupted && !self.cell.may_duplicate() {
            complaints.push(format!("{} copies too many where there is no excuse", account.extra_copies));
        }
        let excused = unsure_by_agent.unwrap_or(0) * self.recipients + self.interrupted;
        if account.extra_copies > excused {
            complaints.push(format!(
                "{} copies too many, of which the agent has counted {unsure_by_agent:?}",
                account.extra_copies
            ));
        }
        complaints
    }
}

/// The heading of a table of outcomes.
pub fn table() -> Table {
    let mut columns = vec![("WHERE", Align::Left), ("HOW", Align::Left)];
    columns.extend(
        [
            "ACCEPTED",
            "DELIVERED",
            "LOST",
            "BOUNCED",
            "TWICE",
            "MAY BE",
            "COUNTED",
            "FIRST BY STANDBY",
            "OLD ALL DELIVERED",
        ]
        .map(|name| (name, Align::Right)),
    );
    columns.push(("", Align::Left));
    Table::new(&columns)
}

fn human_or_never(time: Option<Duration>) -> String {
    time.map_or_else(|| "never".to_owned(), human)
}

/// A row of that table.
pub fn row(outcome: &RoundOutcome, verdict: &str) -> Vec<String> {
    let RoundOutcome { cell, account, .. } = outcome;
    let counted = outcome.unsure_by_agent.map_or_else(|| "-".to_owned(), |count| count.to_string());
    vec![
        cell.point.to_string(),
        cell.kind.to_string(),
        account.accepted.to_string(),
        account.delivered.to_string(),
        account.lost.len().to_string(),
        account.bounced.to_string(),
        account.duplicated.to_string(),
        if cell.may_duplicate() { "yes" } else { "no" }.to_owned(),
        counted,
        human_or_never(outcome.first_by_standby),
        human_or_never(outcome.old_delivered),
        verdict.to_owned(),
    ]
}

/// Runs a round. The primary stays broken.
///
/// # Errors
/// When Postfix does not take the mail, or something cannot be asked.
pub async fn run_round(mta: &Mta, providers: &Providers, plan: &Plan) -> Result<RoundOutcome> {
    run_round_and(mta, providers, plan, async || Ok(())).await
}

/// Runs a round like [`run_round`]; `meanwhile` begins when the primary is broken, and ends before
/// the account is made.
///
/// # Errors
/// When [`run_round`] or `meanwhile` fails.
pub async fn run_round_and(
    mta: &Mta,
    providers: &Providers,
    plan: &Plan,
    meanwhile: impl AsyncFnOnce() -> Result<()>,
) -> Result<RoundOutcome> {
    let fault = plan.cell.fault().map_err(anyhow::Error::msg)?;
    let unsure_before = unsure_by_agent(mta).await?;
    let received_before = providers.primary.received_count();
    let log_before = mta.postfix.log()?.may_be_sent_more_than_once();

    let mut options = LoadOptions::new(mta.postfix.address(), plan.messages, SENDER);
    (options.recipients, options.per_second) = (plan.recipients, Some(plan.per_second));
    let load = Load::start(options);
    load.wait_accepted(plan.break_after, plan.within).await.context("before the break")?;
    providers
        .primary
        .wait_for_received(received_before + plan.break_after / 2, plan.within)
        .await
        .context("before the break")?;
    let broken = Instant::now();
    providers.primary.set_fault(fault).await?;
    let only_new_sessions = is_before_a_message(plan.cell.point);
    if only_new_sessions {
        // Otherwise sessions that Postfix keeps for reuse would continue unaffected. They meet the
        // break before any new session.
        providers.primary.retire_sessions();
    }
    meanwhile().await?;
    let sent = load.finish(plan.within).await.context("after the break")?;
    mta.postfix.drained(plan.within).await?;

    let zero = providers.primary.first_struck().filter(|_| !only_new_sessions).unwrap_or(broken);
    let stored = Stored::by(&[&providers.primary, &providers.standby]);
    let log = mta.postfix.log()?;
    let queue = mta.postfix.queue()?;
    let mut queued_in: BTreeMap<String, usize> = BTreeMap::new();
    for message in &queue {
        *queued_in.entry(message.queue_name.clone()).or_default() += 1;
    }
    let queued: BTreeSet<_> = queue.into_iter().flat_map(|message| message.recipients).map(|to| to.address).collect();
    let account = Account::of(&sent.accepted, &stored, &log.bounced(), &queued);

    // The first copy of each message.
    let mut delivered: HashMap<&str, Instant> = HashMap::new();
    for copy in &stored {
        delivered.entry(&copy.recipient).and_modify(|at| *at = copy.at.min(*at)).or_insert(copy.at);
    }
    let new: BTreeSet<&str> = of(&sent.accepted, |at| at >= zero).collect();
    let by_standby = stored.iter().filter(|copy| copy.server == providers.standby.name());
    let first = by_standby.filter(|copy| new.contains(copy.recipient.as_str())).map(|copy| copy.at).min();
    let switched = first.unwrap_or_else(Instant::now);
    let old: Vec<_> = of(&sent.accepted, |at| at < switched).map(|to| delivered.get(to).copied()).collect();
    let all: Vec<_> = of(&sent.accepted, |_| true).map(|to| delivered.get(to).copied()).collect();
    Ok(RoundOutcome {
        cell: plan.cell,
        first_by_standby: first.map(|first| first.saturating_duration_since(zero)),
        old_delivered: last_since(zero, &old),
        all_delivered: last_since(zero, &all),
        unsure_by_log: log.may_be_sent_more_than_once() - log_before,
        unsure_by_agent: unsure_by_agent(mta)
            .await?
            .zip(unsure_before)
            .map(|(after, before)| after.saturating_sub(before)),
        recipients: plan.recipients,
        interrupted: 0,
        queued_in,
        bounces: providers.bounces.received_count(),
        refusals: sent.refusals,
        account,
    })
}

fn of<'a>(accepted: &'a [Accepted], when: impl Fn(Instant) -> bool + 'a) -> impl Iterator<Item = &'a str> {
    let chosen = accepted.iter().filter(move |message| when(message.at));
    chosen.flat_map(|message| message.recipients.iter().map(String::as_str))
}

/// The time from `zero` to the last delivery; `None` if one is missing.
fn last_since(zero: Instant, deliveries: &[Option<Instant>]) -> Option<Duration> {
    let times: Option<Vec<_>> = deliveries.iter().copied().collect();
    Some(times?.into_iter().max()?.saturating_duration_since(zero))
}

/// Returns true if only new sessions meet the fault.
pub fn is_before_a_message(point: Point) -> bool {
    match point {
        Point::Connect | Point::Banner | Point::Ehlo | Point::StartTls | Point::Auth => true,
        Point::Mail | Point::Rcpt | Point::Data | Point::EndOfData | Point::AfterAccepting => false,
    }
}

/// The number of deliveries counted by the agent after which a message may be sent once more.
async fn unsure_by_agent(mta: &Mta) -> Result<Option<usize>> {
    let Some(agent) = &mta.agent else { return Ok(None) };
    let count = agent.metrics().await?.sum(POSSIBLE_DUPLICATES, |_| true);
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a counter of deliveries")]
    Ok(Some(count as usize))
}

/// The agent's metric for them.
const POSSIBLE_DUPLICATES: &str = "mail_failover_agent_possible_duplicates_total";
