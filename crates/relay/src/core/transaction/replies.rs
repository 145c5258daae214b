//! Replies of backends, and what follows from each.

use std::time::Instant;

use mail_failover_core::model::{DeliveryStage, EvidenceClass};
use mail_failover_replies::Answered;
use mail_failover_smtp::reply::Reply;

use super::super::answer::Answer;
use super::super::judgement::{Judgement, judge};
use super::{Evidence, Fate, Step, Target, Transaction, TransactionAction, WayFailure, stage_of};

impl Transaction {
    pub(super) fn replied(&mut self, now: Instant, target: Target, step: Step, reply: Reply) {
        let answered = match step {
            Step::Connect | Step::Mail => Answered::Mail,
            Step::Recipient(_) => Answered::Recipient,
            Step::Data | Step::Content | Step::End => Answered::Data,
        };
        let way = &self.ways[self.at];
        let judgement = judge(&way.rulebook, answered, step == Step::Data, &reply, self.mail.is_null());
        let closes = reply.code == 421;
        if closes && self.may_reconnect(step) {
            // It had closed the connection while nobody used it.
            self.release(false);
            self.perform(now, target, Step::Connect);
            return;
        }
        self.is_untried = false;
        match judgement {
            Judgement::Accepted => self.accepted(now, target, step, &reply),
            Judgement::Nonsense => {
                self.out_of_step(now, target, step, &format!("an answer to another command: {}", reply.code));
            }
            Judgement::OfMessage => self.refused(now, target, step, answered, &reply),
            Judgement::OfBackend { class, about } => {
                let evidence =
                    self.evidence(class, stage_of(step), Some((answered, reply.clone())), reply.line().into());
                let is_last = self.next_way(reply.code >= 500).is_none();
                let is_of_this_command = is_last && !closes && self.is_of_this_command(target, step);
                self.release_unless(is_of_this_command, !closes);
                let failure = WayFailure::Refused { reply, waits: about.consequences().waits };
                self.failed(now, failure, Some(evidence));
            }
        }
    }

    /// True if the connection may have ended while nobody used it, which says nothing about the server.
    pub(super) fn may_reconnect(&self, step: Step) -> bool {
        self.is_untried && matches!(step, Step::Mail | Step::Recipient(_) | Step::Data)
    }

    /// True if the step is the one that the application waits for, and not a part of a replay.
    fn is_of_this_command(&self, target: Target, step: Step) -> bool {
        match (target, step) {
            (Target::Recipient, Step::Recipient(at)) => at + 1 == self.recipients.len(),
            (Target::Mail, Step::Mail) | (Target::Content, Step::Data | Step::End) => true,
            (Target::Mail | Target::Recipient | Target::Content, _) => false,
        }
    }

    fn accepted(&mut self, now: Instant, target: Target, step: Step, reply: &Reply) {
        if let Step::Recipient(_) = step {
            self.accepted_here += 1;
        }
        match step {
            Step::End => {
                let summary = reply.line().into();
                let evidence = self.evidence(
                    EvidenceClass::Ok,
                    DeliveryStage::Data,
                    Some((Answered::Data, reply.clone())),
                    summary,
                );
                self.actions.push(TransactionAction::Evidence(Evidence { fate: Fate::Accepted, ..evidence }));
                self.release(true);
                self.is_over = true;
                self.answer(now, Answer::of(reply));
            }
            Step::Data => self.perform(now, target, Step::Content),
            Step::Connect | Step::Mail | Step::Recipient(_) | Step::Content => {
                if self.accepted_here < self.recipients.len() {
                    self.perform(now, target, Step::Recipient(self.accepted_here));
                } else if target == Target::Content {
                    self.perform(now, target, Step::Data);
                } else {
                    self.answer(now, Answer::of(reply));
                }
            }
        }
    }

    /// The backend has refused the sender, a recipient or the message itself.
    fn refused(&mut self, now: Instant, target: Target, step: Step, answered: Answered, reply: &Reply) {
        let fate = self.fate(reply.code);
        let evidence = self.evidence(
            EvidenceClass::RecipientLevel,
            stage_of(step),
            Some((answered, reply.clone())),
            reply.line().into(),
        );
        self.actions.push(TransactionAction::Evidence(Evidence { fate, ..evidence }));
        if self.is_of_this_command(target, step) {
            match target {
                Target::Recipient => self.drop_recipient(),
                Target::Mail | Target::Content => {
                    self.release(true);
                    self.is_over = true;
                }
            }
            self.answer(now, Answer::of(reply));
            return;
        }
        // The application was told otherwise, by another backend: its answers must stay true.
        let what = if let Step::Recipient(_) = step { "a recipient" } else { "the sender" };
        let backend = &self.ways[self.at].backend;
        let text = format!(
            "4.3.0 {what} that was accepted before is refused by {backend}, which has to carry the message now: {}",
            reply.line()
        );
        self.release(true);
        self.fail(now, Answer::own(451, text));
    }
}
