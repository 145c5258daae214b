//! Conditions of a route.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;

use super::{OutputsState, StatusBuilder, kept_note, time_of_failover};
use crate::controller::route::LongKept;
use crate::controller::route::dns::DnsFreshness;
use crate::controller::route::installations::{self, rivals};
use crate::controller::route::objectives;
use crate::controller::route::progress::ProgressState;
use crate::controller::status::{Conditions, condition_message, is_true, joined};
use mail_failover_api::conditions::{condition, reason};
use mail_failover_api::{MailRouteStatus, RouteState};
use mail_failover_core::engine::{Eligibility, Health};
use mail_failover_resolve::Rejection;

/// Text of `Ready` while mail is stuck.
// Without a count and an age: the status must not change with each report.
const MAIL_WAITS: &str = "mail has waited beside Postfix for more than 5 min, and none has left there meanwhile; \
                          `mail-failover agent status` and `mailq` there tell why";

impl StatusBuilder<'_> {
    pub(super) fn conditions(&self, status: &MailRouteStatus) -> Vec<Condition> {
        let mut conditions = Conditions::new(&self.before.conditions, self.generation, self.now);
        self.set_outputs_applied(&mut conditions, status);
        self.set_ready(&mut conditions, status);
        self.set_failed_over(&mut conditions, status);
        self.set_redundant(&mut conditions, status);
        self.set_recovery_time_met(&mut conditions, status);
        objectives::set_condition(&mut conditions, status.objectives.as_ref());
        self.set_mail_kept(&mut conditions);
        self.set_webhooks_applied(&mut conditions);
        self.set_dns_applied(&mut conditions);
        self.set_installation_conflict(&mut conditions, status);
        if self.problems.iter().any(Rejection::is_of_spec) {
            conditions.set_stalled(&self.problems);
        }
        conditions.build()
    }

    fn set_outputs_applied(&self, conditions: &mut Conditions<'_>, status: &MailRouteStatus) {
        let (applied, reason, message) = self.outputs_applied(status);
        conditions.set(condition::OUTPUTS_APPLIED, applied, reason, &message);
    }

    /// Status, reason and message of `OutputsApplied`.
    fn outputs_applied(&self, status: &MailRouteStatus) -> (Option<bool>, &'static str, String) {
        match self.outputs {
            OutputsState::Complete => {
                let carriers: Vec<_> = status.active.iter().map(|active| active.backend.as_str()).collect();
                if carriers.is_empty() {
                    return (Some(true), reason::APPLIED, "no output leads to any backend".to_owned());
                }
                (Some(true), reason::APPLIED, format!("every output leads to {}", carriers.join(", ")))
            }
            OutputsState::AddressesUnknown(unknown) => (Some(false), reason::ADDRESSES_UNKNOWN, joined(unknown)),
            OutputsState::Refused(rejections) => {
                let reason = rejections.first().map_or(reason::REFUSED, |rejection| rejection.reason);
                (Some(false), reason, joined(rejections))
            }
            OutputsState::Failing(error) => (Some(false), reason::WRITE_FAILED, error.clone()),
            OutputsState::Unanswered(rejections) => {
                let reason = rejections.first().map_or(reason::WEBHOOK_FAILING, |rejection| rejection.reason);
                (Some(false), reason, joined(rejections))
            }
            OutputsState::Waiting if is_true(&self.before.conditions, condition::OUTPUTS_APPLIED) => {
                let message = condition_message(&self.before.conditions, condition::OUTPUTS_APPLIED);
                (Some(true), reason::APPLIED, message.to_owned())
            }
            OutputsState::Waiting => (None, reason::WAITING, "not written yet".to_owned()),
        }
    }

    fn set_ready(&self, conditions: &mut Conditions<'_>, status: &MailRouteStatus) {
        let sentence = self.sentence();
        // Mail that stands still comes before any defect, which alone may leave the mail flowing.
        let (is_ready, reason, message) = if let Some(held) = self.held() {
            let is_momentary = held.is_momentary(self.now);
            (false, if is_momentary { reason::AWAITING_CONFIRMATION } else { reason::HELD_ON_DEAD_BACKEND }, sentence)
        } else if let Some(problem) = self.problems.first() {
            (false, problem.reason, joined(&self.problems))
        } else if status.state == Some(RouteState::NoneHealthy) {
            (false, reason::NONE_HEALTHY, sentence)
        } else if status.active.is_empty() {
            (
                false,
                status.waiting_for.as_ref().map_or(reason::AWAITING_EVIDENCE, |hold| hold.reason.as_str()),
                sentence,
            )
        } else {
            match self.outputs_applied(status) {
                (Some(true), _, _) if self.is_mail_stuck => (false, reason::MAIL_WAITS, MAIL_WAITS.to_owned()),
                (Some(true), _, _) => (true, reason::DELIVERING, sentence),
                (Some(false), reason, message) => (false, reason, message),
                (None, _, _) => (false, reason::OUTPUTS_WAITING, "the outputs are not written yet".to_owned()),
            }
        };
        conditions.set(condition::READY, Some(is_ready), reason, &message);
    }

    fn set_failed_over(&self, conditions: &mut Conditions<'_>, status: &MailRouteStatus) {
        let active = status.active.first().map(|active| active.backend.as_str());
        match (active, self.decision.map(|decision| decision.is_preferred)) {
            (Some(_), Some(_)) if self.decision.is_some_and(|decision| decision.memory.leading_drill().is_some()) => {
                conditions.set(condition::FAILED_OVER, Some(false), reason::DRILL, &self.sentence());
            }
            (Some(_), Some(true)) => {
                conditions.set(condition::FAILED_OVER, Some(false), reason::PREFERRED, &self.sentence());
            }
            (Some(active), Some(false)) => {
                let last = status.last_transition.as_ref().filter(|last| last.to == active);
                let reason = last.map_or(reason::PREFERRED_NOT_HEALTHY, |last| last.reason.as_str());
                conditions.set(condition::FAILED_OVER, Some(true), reason, &self.sentence());
            }
            // Without a decision nothing new is said.
            (Some(_), None) if !condition_message(&self.before.conditions, condition::FAILED_OVER).is_empty() => {
                conditions.keep(condition::FAILED_OVER);
            }
            (_, _) => {
                let message = "no backend is chosen yet";
                conditions.set(condition::FAILED_OVER, None, reason::AWAITING_EVIDENCE, message);
            }
        }
    }

    fn set_redundant(&self, conditions: &mut Conditions<'_>, status: &MailRouteStatus) {
        let active = status.active.first().map(|active| active.backend.as_str());
        let standby = self.candidates.iter().find(|candidate| {
            Some(&*candidate.name) != active
                && candidate.eligibility == Eligibility::InService
                && candidate.health == Health::Healthy
        });
        let (reason, message) = match standby {
            Some(standby) => (reason::STANDBY_HEALTHY, format!("{} could take over", standby.name)),
            None => (reason::NO_STANDBY, "no other backend could take over".to_owned()),
        };
        conditions.set(condition::REDUNDANT, Some(standby.is_some()), reason, &message);
    }

    /// Compares the latest failover that evidence led to with the policy's `objectives.recoveryTime`.
    fn set_recovery_time_met(&self, conditions: &mut Conditions<'_>, status: &MailRouteStatus) {
        let Some(objective) = self.recovery_time else { return };
        let Some(took) = status.history.iter().find_map(time_of_failover) else {
            return conditions.set(condition::RECOVERY_TIME_MET, None, reason::NO_FAILOVER, "no failover is on record");
        };
        let is_met = took <= objective;
        let reason = if is_met { reason::WITHIN_OBJECTIVE } else { reason::OBJECTIVE_MISSED };
        let message =
            format!("the latest failover took {:.3} s of {:.3} s", took.as_secs_f64(), objective.as_secs_f64());
        conditions.set(condition::RECOVERY_TIME_MET, Some(is_met), reason, &message);
    }

    fn set_mail_kept(&self, conditions: &mut Conditions<'_>) {
        match self.kept {
            Some(LongKept::Messages { about, backend }) => {
                conditions.set(condition::MAIL_KEPT, Some(true), about, &kept_note(about, backend));
            }
            Some(LongKept::Nothing) if is_true(&self.before.conditions, condition::MAIL_KEPT) => {
                let message = "no message waits for long because a backend refuses it";
                conditions.set(condition::MAIL_KEPT, Some(false), reason::NOTHING_KEPT, message);
            }
            // A route whose mail was never kept has no such condition. Agents report every few seconds; until then what
            // is persisted stays.
            Some(LongKept::Nothing) | None => conditions.keep(condition::MAIL_KEPT),
        }
    }

    /// The conditions as another installation has written them, with what we see of installations.
    pub(super) fn conditions_of_another(&self, status: &MailRouteStatus) -> Vec<Condition> {
        let mut conditions = Conditions::new(&status.conditions, self.generation, self.now);
        for other in status.conditions.iter().filter(|one| one.type_ != condition::INSTALLATION_CONFLICT) {
            conditions.keep(&other.type_);
        }
        self.set_installation_conflict(&mut conditions, status);
        conditions.build()
    }

    fn set_installation_conflict(&self, conditions: &mut Conditions<'_>, status: &MailRouteStatus) {
        let rivals = rivals(&status.installations);
        if !rivals.is_empty() {
            let message = installations::words(&rivals, &self.resource.key);
            conditions.set(condition::INSTALLATION_CONFLICT, Some(true), reason::SEVERAL_INSTALLATIONS, &message);
        }
    }

    fn set_webhooks_applied(&self, conditions: &mut Conditions<'_>) {
        let type_ = condition::WEBHOOKS_APPLIED;
        match &self.webhooks_state {
            Some(ProgressState::Applied) => {
                let message = "every receiver has accepted where the route leads";
                conditions.set(type_, Some(true), reason::APPLIED, message);
            }
            Some(ProgressState::Pending(names)) => {
                let message = format!("not accepted yet: {}", names.join(", "));
                conditions.set(type_, None, reason::WEBHOOK_PENDING, &message);
            }
            Some(ProgressState::Failing(rejections)) => {
                set_failing(conditions, type_, rejections, reason::WEBHOOK_FAILING);
            }
            None => self.keep_without_decision(conditions, type_),
        }
    }

    fn set_dns_applied(&self, conditions: &mut Conditions<'_>) {
        let type_ = condition::DNS_APPLIED;
        match &self.dns_state {
            Some((ProgressState::Applied, freshness)) => {
                conditions.set(type_, Some(true), reason::APPLIED, &self.dns_applied(freshness));
            }
            Some((ProgressState::Pending(names), _)) => {
                let message = format!("not seen at every authority yet: {}", names.join(", "));
                conditions.set(type_, None, reason::DNS_PENDING, &message);
            }
            Some((ProgressState::Failing(rejections), _)) => {
                set_failing(conditions, type_, rejections, reason::DNS_FAILING);
            }
            None => self.keep_without_decision(conditions, type_),
        }
    }

    /// Message for DNS records that are applied.
    fn dns_applied(&self, DnsFreshness { ttl, is_seen, staying }: &DnsFreshness) -> String {
        let longer = self.recovery_time.filter(|objective| objective < ttl).map_or_else(String::new, |objective| {
            let objective = objective.as_secs_f64();
            format!(", which is longer than objectives.recoveryTime ({objective} s): set a shorter ttl")
        });
        let seen = if *is_seen {
            "every authority answers with the records of the active backend"
        } else {
            "external-dns has the records of the active backend; name authorities to have it seen that it publishes them"
        };
        // ADR-0141: Records outlive the route, and a route that nobody may carry.
        let staying = if staying.is_empty() {
            String::new()
        } else {
            format!("; when the route is deleted the records of {} stay in the zone", staying.join(", "))
        };
        let ttl = ttl.as_secs_f64();
        format!("{seen}; after a failover caches may keep the records before for {ttl} s{longer}{staying}")
    }

    /// Keeps a condition of outputs that the route has, while nothing can be decided.
    fn keep_without_decision(&self, conditions: &mut Conditions<'_>, type_: &str) {
        if self.decision.is_none() {
            conditions.keep(type_);
        }
    }
}

/// Sets a condition of outputs whose calls have failed for a while.
fn set_failing(conditions: &mut Conditions<'_>, type_: &str, rejections: &[Rejection], otherwise: &'static str) {
    let reason = rejections.first().map_or(otherwise, |rejection| rejection.reason);
    conditions.set(type_, Some(false), reason, &joined(rejections));
}
