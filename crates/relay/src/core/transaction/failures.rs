//! Failures of a way: the next one, or what the application is told after the last.

use std::time::Instant;

use mail_failover_core::model::{DeliveryStage, EvidenceClass, Stage};

use super::super::answer::Answer;
use super::{
    Ambiguity, Evidence, Fate, OperationFailure, Step, Target, Transaction, TransactionAction, WayFailure,
    session_stage, stage_of,
};

impl Transaction {
    pub(super) fn operation_failed(&mut self, now: Instant, target: Target, step: Step, failure: OperationFailure) {
        self.is_connected = false;
        if failure.class == EvidenceClass::ConnectionLost && self.may_reconnect(step) {
            // It was closed while nobody used it, and that says nothing about the server.
            self.actions.push(TransactionAction::Release { is_in_step: false });
            self.perform(now, target, Step::Connect);
            return;
        }
        self.is_untried = false;
        self.actions.push(TransactionAction::Release { is_in_step: false });
        let OperationFailure { class, stage, refusal, summary, is_own } = failure;
        let is_ambiguous = step == Step::End;
        let stage = match step {
            Step::Connect => DeliveryStage::Session(stage),
            Step::Mail | Step::Recipient(_) | Step::Data | Step::Content | Step::End => stage_of(step),
        };
        let reply = refusal.map(|reply| (mail_failover_smtp::dialogue::answered(session_stage(stage)), reply));
        let evidence = Evidence { is_ambiguous, ..self.evidence(class, stage, reply, summary.clone()) };
        // Of who had no time nobody knows if it would have answered. Content that comes slowly is cut off by the bound on
        // all waits together, and each of its pauses was short.
        let is_cut = self.is_cut || (step == Step::Content && now >= self.deadline);
        let is_own = is_own || (is_cut && class == EvidenceClass::NoAnswer && !is_ambiguous);
        let evidence = (!is_own).then_some(evidence);
        if is_ambiguous && self.bounds.ambiguity == Ambiguity::Refuse {
            self.push_evidence(evidence, Fate::Deferred);
            let backend = &self.ways[self.at].backend;
            let text = format!("4.4.2 {backend} may have accepted the message and has not said so: {summary}");
            self.is_over = true;
            self.answer(now, Answer::own(451, text));
            return;
        }
        if is_ambiguous {
            self.doubt.get_or_insert_with(|| self.ways[self.at].backend.clone());
        }
        self.failed(now, WayFailure::Unavailable(summary), evidence);
    }

    pub(super) fn out_of_step(&mut self, now: Instant, target: Target, step: Step, what: &str) {
        let failure = OperationFailure {
            class: EvidenceClass::ProtocolError,
            stage: Stage::Mail,
            refusal: None,
            summary: what.into(),
            is_own: false,
        };
        self.operation_failed(now, target, step, failure);
    }

    /// The position of the next way, if there is one. Some are only for what was refused by a 5xx.
    pub(super) fn next_way(&self, is_refused: bool) -> Option<usize> {
        let mut ways = self.ways.iter().enumerate().skip(self.at + 1);
        ways.find(|(_, way)| is_refused || !way.after_refusal).map(|(at, _)| at)
    }

    /// The present way has failed: goes on with the next one, or tells the application.
    pub(super) fn failed(&mut self, now: Instant, failure: WayFailure, evidence: Option<Evidence>) {
        let Some((target, _)) = self.pending else { return };
        self.is_untried = false;
        let is_refused = matches!(&failure, WayFailure::Refused { reply, .. } if reply.code >= 500);
        self.failures.retain(|(at, _)| *at != self.at);
        self.failures.push((self.at, failure));
        // What is left must do for a step and for the final answer.
        let has_time = now < self.end_of_bound().checked_sub(self.bounds.answer).unwrap_or(now);
        if let Some(next) = self.next_way(is_refused).filter(|_| has_time) {
            self.push_evidence(evidence, Fate::PassedOn);
            self.at = next;
            self.accepted_here = 0;
            self.since = now;
            self.perform(now, target, Step::Connect);
            return;
        }
        let answer = self.exhausted(has_time);
        self.push_evidence(evidence, self.fate(answer.code));
        if target == Target::Recipient && self.is_connected {
            // Only this recipient was refused; the backend goes on with the others.
            self.drop_recipient();
            self.answer(now, answer);
        } else {
            self.fail(now, answer);
        }
    }

    /// Ends the transaction with this answer: at once if the application waits for the final one, and otherwise it is
    /// told to everything that follows.
    pub(super) fn fail(&mut self, now: Instant, answer: Answer) {
        let Some((target, _)) = self.pending else { return };
        match target {
            Target::Mail | Target::Content => self.is_over = true,
            Target::Recipient => {
                self.drop_recipient();
                if let Some(at) = self.fallback {
                    // Only this recipient is refused: that backend has taken the others.
                    self.release(true);
                    self.at = at;
                    self.failures.retain(|(failed, _)| *failed < at);
                } else if !self.recipients.is_empty() || answer.code < 500 {
                    let text = match answer.code {
                        ..500 => answer.text.clone(),
                        _ => format!("4.3.0 {}", without_enhanced(&answer.text)),
                    };
                    self.broken = Some(Answer::own(451, text));
                } else {
                    self.broken = Some(answer.clone());
                }
            }
        }
        self.answer(now, answer);
    }

    /// The answer after every way has failed.
    fn exhausted(&self, has_time: bool) -> Answer {
        let mut lacks = self.failures.iter().map(|(_, failure)| match failure {
            WayFailure::Lacking(lack) => Some(*lack),
            WayFailure::Unavailable(_) | WayFailure::Refused { .. } => None,
        });
        if let (Some(first), true) = (lacks.clone().next().flatten(), lacks.all(|lack| lack.is_some()) && has_time) {
            let (code, text) = first.refusal();
            return Answer::own(code, text);
        }
        let others: Vec<_> =
            self.failures.iter().filter(|(_, failure)| !matches!(failure, WayFailure::Lacking(_))).collect();
        let are_final = others
            .iter()
            .all(|(_, failure)| matches!(failure, WayFailure::Refused { reply, waits: false } if reply.code >= 500));
        match others.first() {
            // Each of them has said no for good, and no other one could say yes.
            Some((_, WayFailure::Refused { reply, .. })) if are_final && has_time => return Answer::of(reply),
            // 421 would say that we close the connection.
            Some((_, WayFailure::Refused { reply, .. })) if (400..500).contains(&reply.code) && reply.code != 421 => {
                return Answer::of(reply);
            }
            Some(_) | None => {}
        }
        let mut reasons = vec![];
        for (at, failure) in &self.failures {
            let backend = &self.ways[*at].backend;
            reasons.push(match failure {
                WayFailure::Unavailable(summary) => format!("{backend}: {summary}"),
                WayFailure::Refused { reply, .. } => format!("{backend}: {}", reply.line()),
                WayFailure::Lacking(lack) => format!("{backend}: no {}", lack.as_str()),
            });
        }
        let why = if has_time { "no backend takes the message now" } else { "no backend took the message in time" };
        Answer::own(451, format!("4.4.1 {why} ({})", reasons.join("; ")))
    }
}

/// The text without an enhanced code (RFC 3463) at its beginning.
pub(super) fn without_enhanced(text: &str) -> &str {
    match text.split_once(' ') {
        Some((code, rest)) if code.split('.').count() == 3 && code.split('.').all(is_number) => rest,
        Some(_) | None => text,
    }
}

fn is_number(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit())
}
