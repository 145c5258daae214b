//! One mail transaction: the backend that carries it, its replay on the next one, and what the application is told.
//!
//! ```text
//! recipient, content ───────────┐                ┌─▶ Perform(operation)   ─▶ a connection to a backend
//! result of the operation ──────┼─▶ handle, poll ┼─▶ Answer               ─▶ the application
//!                               ┘                ├─▶ Release              ─▶ the pool of connections
//!                                                └─▶ Evidence             ─▶ breakers and reports
//! ```
//!
//! MAIL and RCPT go to a backend as they come. While no final answer stands, a failure replays all of it on the next
//! way. The application is told that its message is accepted only if one backend has said so, and after a backend may
//! have accepted it no other one gets it unless the user wants that. Pure: it has no timers of its own, for each
//! operation carries its deadline.
//!
//! While the application is silent, its backend's connection may go to another message. The next command then replays the
//! message over another one.
//!
//! A wait for the application costs nothing of the bound on the transaction; all waits for backends together do.

mod failures;
mod replies;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use mail_failover_core::model::{DeliveryStage, EvidenceClass, Stage};
use mail_failover_replies::{Answered, Rulebook};
use mail_failover_smtp::reply::Reply;

use super::answer::Answer;
use super::capabilities::{Capabilities, Lack, Needs};
use super::command::{MailCommand, RecipientCommand};

/// Pause of the application after which a server may have closed the connection.
const IDLE: Duration = Duration::from_secs(3);

/// What follows when a backend may have accepted a message and has not said so.
// ADR-0131: Doubt is told, and no second copy is made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Ambiguity {
    /// The application is told 451. It may send the message again, and then there are two.
    #[default]
    Refuse,
    /// The next backend gets the message, and then there may be two.
    Retry,
}

/// Bounds of a transaction.
#[derive(Clone, Copy, Debug)]
pub struct TransactionBounds {
    /// All waits for backends together.
    pub total: Duration,
    /// Each wait before the end of the content: connection with its session, reply, pause within the content.
    pub stage: Duration,
    /// Part of `total` that is kept for the wait for the final answer: no other step reaches into it.
    pub answer: Duration,
    /// Policy for messages that a backend may have accepted.
    pub ambiguity: Ambiguity,
}

/// A backend that may carry the message.
#[derive(Clone, Debug)]
pub struct Way {
    /// Name of the `SendingBackend`.
    pub backend: Arc<str>,
    /// Rules for its replies.
    pub rulebook: Arc<Rulebook>,
    /// True if only a message that another backend has refused by a 5xx may come here.
    pub after_refusal: bool,
}

/// Input of a transaction.
#[derive(Clone, Debug)]
pub enum TransactionInput {
    /// The application has sent RCPT.
    Recipient(RecipientCommand),
    /// The application has sent the whole content, of so many octets.
    Content(u64),
    /// The operation that was polled is over.
    Done(OperationResult),
}

/// Work on the connection to a backend, to be done before its deadline.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Operation {
    /// Take or make a connection up to the end of its session: TLS, EHLO, AUTH.
    Connect {
        /// Position of the way.
        way: usize,
        /// True if it must not be one that was used before.
        is_fresh: bool,
        /// True if this way has had the message before: it is no new attempt.
        is_again: bool,
    },
    /// Send a command and wait for its reply.
    Command(String),
    /// Send the content without its final dot.
    Content,
    /// Send the final dot and wait for the reply.
    End,
}

/// Result of an operation.
#[derive(Clone, Debug)]
pub enum OperationResult {
    /// The connection is there.
    Ready {
        /// Extensions of the server.
        capabilities: Capabilities,
        /// True if it was used before.
        is_reused: bool,
    },
    /// The server has replied.
    Reply(Reply),
    /// The content is sent.
    Sent,
    /// The operation has failed, and the connection with it.
    Failed(OperationFailure),
}

/// Reason why an operation failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OperationFailure {
    /// Class of the evidence.
    pub class: EvidenceClass,
    /// Stage that the session has reached.
    pub stage: Stage,
    /// Refusal within the session before MAIL, if it was one.
    pub refusal: Option<Reply>,
    /// Description in one line, without any part of a login.
    pub summary: Arc<str>,
    /// True if the server is not to blame: our own bounds, or no login to send.
    pub is_own: bool,
}

/// Action of a transaction.
#[derive(Clone, Debug, PartialEq)]
pub enum TransactionAction {
    /// Do this, and hand in the result.
    Perform {
        /// The work.
        operation: Operation,
        /// Time at which it has failed.
        deadline: Instant,
    },
    /// Answer the command or the content that the application waits for.
    Answer(Answer),
    /// Give the connection back. It is closed if it is not in step.
    Release {
        /// True if the server waits for a command.
        is_in_step: bool,
    },
    /// Tell breakers, metrics and reports.
    Evidence(Evidence),
}

/// Result of a message at one backend.
#[derive(Clone, Debug, PartialEq)]
pub struct Evidence {
    /// Position of the way.
    pub way: usize,
    /// Class.
    pub class: EvidenceClass,
    /// Stage that was reached.
    pub stage: DeliveryStage,
    /// Reply, with the command that it answers.
    pub reply: Option<(Answered, Reply)>,
    /// Description in one line.
    pub summary: Arc<str>,
    /// Consequence for the message.
    pub fate: Fate,
    /// Beginning of the attempt.
    pub since: Instant,
    /// True if the backend may have accepted the message.
    pub is_ambiguous: bool,
}

impl Evidence {
    /// A session that has failed before any message: what it was for goes another way.
    pub fn of_session(failure: OperationFailure, since: Instant) -> Self {
        let OperationFailure { class, stage, refusal, summary, is_own: _ } = failure;
        let reply = refusal.map(|reply| (mail_failover_smtp::dialogue::answered(stage), reply));
        let stage = DeliveryStage::Session(stage);
        Self { way: 0, class, stage, reply, summary, fate: Fate::PassedOn, since, is_ambiguous: false }
    }
}

/// Consequence of a result for the message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// The backend has it.
    Accepted,
    /// The next backend is tried.
    PassedOn,
    /// The application is told a 4yz.
    Deferred,
    /// The application is told a 5yz.
    Refused,
}

/// What the application waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Target {
    Mail,
    Recipient,
    Content,
}

/// Step of an attempt that is being performed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    Connect,
    Mail,
    /// RCPT of the recipient at this position.
    Recipient(usize),
    Data,
    Content,
    End,
}

/// Failure of a way in this transaction.
#[derive(Clone, Debug)]
enum WayFailure {
    Unavailable(Arc<str>),
    Refused { reply: Reply, waits: bool },
    Lacking(Lack),
}

/// A mail transaction; the module describes it.
#[derive(Debug)]
pub struct Transaction {
    bounds: TransactionBounds,
    ways: Vec<Way>,
    /// Position of the present way.
    at: usize,
    mail: MailCommand,
    needs: Needs,
    /// Recipients that the application was told to be accepted, and the one that it waits for.
    recipients: Vec<RecipientCommand>,
    /// Extensions of the present server.
    capabilities: Capabilities,
    /// True while a connection is held.
    is_connected: bool,
    /// Positions of the ways that have had the message.
    visited: BTreeSet<usize>,
    /// Position of the way that goes on with the others if nobody takes the recipient under way.
    fallback: Option<usize>,
    /// Name of the backend that may have accepted the message, if one may have.
    doubt: Option<Arc<str>>,
    /// Time at which the present operation has failed.
    deadline: Instant,
    /// True if the connection was not used for a while and has not replied since.
    is_untried: bool,
    /// Number of recipients that the present server has accepted.
    accepted_here: usize,
    /// What the application waits for, and the step towards it.
    pending: Option<(Target, Step)>,
    /// Beginning of the attempt on the present way.
    since: Instant,
    /// Beginning of the present wait for backends.
    waits_since: Instant,
    /// Time of the latest answer to the application.
    answered_at: Instant,
    /// True if the present step has less time than a stage, because the transaction has no more.
    is_cut: bool,
    /// Time spent in earlier waits.
    spent: Duration,
    /// Answer to everything that follows: the transaction has failed after recipients were accepted.
    broken: Option<Answer>,
    is_over: bool,
    failures: Vec<(usize, WayFailure)>,
    actions: Vec<TransactionAction>,
}

impl Transaction {
    /// Begins a transaction with MAIL, on these ways in their order. There is one at least.
    pub fn new(now: Instant, bounds: TransactionBounds, ways: Vec<Way>, mail: MailCommand) -> Self {
        let mut transaction = Self {
            bounds,
            ways,
            at: 0,
            needs: mail.needs,
            mail,
            recipients: vec![],
            capabilities: Capabilities::default(),
            is_connected: false,
            visited: BTreeSet::new(),
            fallback: None,
            doubt: None,
            deadline: now,
            is_untried: false,
            accepted_here: 0,
            pending: None,
            since: now,
            waits_since: now,
            answered_at: now,
            is_cut: false,
            spent: Duration::ZERO,
            broken: None,
            is_over: false,
            failures: vec![],
            actions: vec![],
        };
        transaction.begin(now, Target::Mail, Step::Connect);
        transaction
    }

    /// True if MAIL was refused or the message has its final answer: a new transaction may begin.
    pub fn is_over(&self) -> bool {
        self.is_over
    }

    /// True while an operation is under way.
    pub fn is_busy(&self) -> bool {
        self.pending.is_some()
    }

    /// Number of recipients that the application was told to be accepted.
    pub fn recipients(&self) -> usize {
        self.recipients.len()
    }

    /// True if the message uses SMTPUTF8.
    pub fn uses_utf8(&self) -> bool {
        self.needs.utf8
    }

    /// The answer to DATA: 354 while the message can still be carried.
    pub fn answer_to_data(&self) -> Answer {
        match &self.broken {
            Some(answer) => answer.clone(),
            None if self.recipients.is_empty() => Answer::own(554, "5.5.1 no valid recipients"),
            None => Answer::own(354, "end the message with <CRLF>.<CRLF>"),
        }
    }

    /// The name of the backend that carries it now.
    pub fn backend(&self) -> Option<&Arc<str>> {
        self.ways.get(self.at).map(|way| &way.backend)
    }

    /// The next actions since the last call, in their order.
    pub fn poll(&mut self) -> Vec<TransactionAction> {
        std::mem::take(&mut self.actions)
    }

    /// Ends the transaction without its message: RSET, QUIT, or an application that is gone.
    pub fn abort(&mut self) {
        self.pending = None;
        self.is_over = true;
        self.release(true);
    }

    /// Gives the connection back while nothing is under way. The next input goes on over another one.
    pub fn yield_connection(&mut self) {
        if !self.is_busy() && !self.is_over {
            self.release(true);
        }
    }

    /// Takes an input.
    pub fn handle(&mut self, now: Instant, input: TransactionInput) {
        match input {
            TransactionInput::Recipient(_) | TransactionInput::Content(_) if self.is_over || self.is_busy() => {}
            TransactionInput::Recipient(_) | TransactionInput::Content(_) if self.broken.is_some() => {
                let answer = self.broken.clone();
                self.is_over = matches!(input, TransactionInput::Content(_));
                self.actions.extend(answer.map(TransactionAction::Answer));
            }
            TransactionInput::Recipient(recipient) => self.recipient(now, recipient),
            TransactionInput::Content(size) => {
                self.needs.size = Some(size);
                // Only now is the size known: what it declared may have been smaller.
                match self.capabilities.lack(&self.needs) {
                    Some(lack) => {
                        self.waits_since = now;
                        self.pending = Some((Target::Content, Step::Data));
                        self.release(true);
                        self.failed(now, WayFailure::Lacking(lack), None);
                    }
                    None => self.begin(now, Target::Content, Step::Data),
                }
            }
            TransactionInput::Done(result) => {
                if let Some((target, step)) = self.pending {
                    self.done(now, target, step, result);
                }
            }
        }
    }

    fn recipient(&mut self, now: Instant, recipient: RecipientCommand) {
        let needs = Needs { notifications: self.needs.notifications || recipient.needs_notifications, ..self.needs };
        if let Some(lack) = self.capabilities.lack(&needs) {
            if self.next_way(false).is_none() {
                let (code, text) = lack.refusal();
                self.actions.push(TransactionAction::Answer(Answer::own(code, text)));
                return;
            }
            // If nobody takes it, the others stay where they are.
            self.fallback = Some(self.at);
            self.needs = needs;
            self.recipients.push(recipient);
            self.waits_since = now;
            self.pending = Some((Target::Recipient, Step::Recipient(self.accepted_here)));
            self.release(true);
            self.failed(now, WayFailure::Lacking(lack), None);
            return;
        }
        self.needs = needs;
        self.recipients.push(recipient);
        self.begin(now, Target::Recipient, Step::Recipient(self.accepted_here));
    }

    fn begin(&mut self, now: Instant, target: Target, step: Step) {
        if !self.is_connected {
            // The connection went to another message meanwhile.
            self.since = now;
            self.is_untried = false;
            self.accepted_here = 0;
            self.waits_since = now;
            self.perform(now, target, Step::Connect);
            return;
        }
        // The server may have closed the connection meanwhile, as is its right.
        self.is_untried |= now.saturating_duration_since(self.answered_at) >= IDLE;
        self.waits_since = now;
        self.perform(now, target, step);
    }

    /// Time at which the transaction has used up its bound, if it goes on waiting.
    fn end_of_bound(&self) -> Instant {
        self.waits_since + self.bounds.total.saturating_sub(self.spent)
    }

    fn perform(&mut self, now: Instant, target: Target, step: Step) {
        let last = self.end_of_bound();
        let reserved = last.checked_sub(self.bounds.answer).unwrap_or(now);
        let deadline = match step {
            // With another backend to go to, silence must leave time for that.
            Step::End if self.bounds.ambiguity == Ambiguity::Retry && self.next_way(false).is_some() => {
                (now + self.bounds.answer).min(last)
            }
            Step::End => last,
            // A pause within it is bounded by the stage's bound; all of it by the transaction's.
            Step::Content => reserved,
            Step::Connect | Step::Mail | Step::Recipient(_) | Step::Data => (now + self.bounds.stage).min(reserved),
        };
        self.is_cut = deadline < now + self.bounds.stage;
        self.deadline = deadline;
        self.pending = Some((target, step));
        let operation = match step {
            Step::Connect => Operation::Connect {
                way: self.at,
                is_fresh: self.is_untried,
                is_again: self.visited.contains(&self.at),
            },
            Step::Mail => Operation::Command(self.mail.line(&self.capabilities)),
            Step::Recipient(at) => Operation::Command(self.recipients[at].line()),
            Step::Data => Operation::Command("DATA".to_owned()),
            Step::Content => Operation::Content,
            Step::End => Operation::End,
        };
        self.actions.push(TransactionAction::Perform { operation, deadline });
    }

    fn done(&mut self, now: Instant, target: Target, step: Step, result: OperationResult) {
        match (step, result) {
            (Step::Connect, OperationResult::Ready { capabilities, is_reused }) => {
                self.is_connected = true;
                self.visited.insert(self.at);
                self.is_untried = is_reused;
                self.capabilities = capabilities;
                self.accepted_here = 0;
                match capabilities.lack(&self.needs) {
                    Some(lack) => {
                        self.release(true);
                        self.failed(now, WayFailure::Lacking(lack), None);
                    }
                    None => self.perform(now, target, Step::Mail),
                }
            }
            (Step::Content, OperationResult::Sent) => self.perform(now, target, Step::End),
            (Step::Mail | Step::Recipient(_) | Step::Data | Step::End, OperationResult::Reply(reply)) => {
                self.replied(now, target, step, reply);
            }
            // The server has refused the content before its end. It would take RSET for a part of it. An acceptance
            // before the end is none: the server may say something else of the whole message.
            (Step::Content, OperationResult::Reply(reply)) if reply.code >= 400 => {
                self.release(false);
                self.replied(now, target, Step::End, reply);
            }
            (Step::Content, OperationResult::Reply(reply)) => {
                self.out_of_step(now, target, step, &format!("{} before the end of the content", reply.code));
            }
            (_, OperationResult::Failed(failure)) => self.operation_failed(now, target, step, failure),
            // By a mistake of the driver: never taken for an acceptance.
            (_, OperationResult::Ready { .. } | OperationResult::Reply(_) | OperationResult::Sent) => {
                self.out_of_step(now, target, step, "out of step");
            }
        }
    }

    fn answer(&mut self, now: Instant, answer: Answer) {
        let answer = match &self.doubt {
            // Whatever others say of their copy, this one may arrive, and a bounce would be false.
            Some(backend) if answer.code >= 400 => {
                let text = format!(
                    "4.4.2 {backend} may have accepted the message and has not said so; after that: {} {}",
                    answer.code,
                    answer.text.replace('\n', " ")
                );
                Answer::own(451, text)
            }
            Some(_) | None => answer,
        };
        self.fallback = None;
        self.spent += now.saturating_duration_since(self.waits_since);
        self.answered_at = now;
        self.pending = None;
        self.actions.push(TransactionAction::Answer(answer));
    }

    /// Consequence of a refusal that the application is told.
    fn fate(&self, code: u16) -> Fate {
        if code >= 500 && self.doubt.is_none() { Fate::Refused } else { Fate::Deferred }
    }

    /// Forgets the recipient that the application waits for, with what only it needs.
    fn drop_recipient(&mut self) {
        drop(self.recipients.pop());
        self.needs.notifications =
            self.mail.needs.notifications || self.recipients.iter().any(|recipient| recipient.needs_notifications);
    }

    fn evidence(
        &self,
        class: EvidenceClass,
        stage: DeliveryStage,
        reply: Option<(Answered, Reply)>,
        summary: Arc<str>,
    ) -> Evidence {
        Evidence {
            way: self.at,
            class,
            stage,
            reply,
            summary,
            fate: Fate::PassedOn,
            since: self.since,
            is_ambiguous: false,
        }
    }

    fn push_evidence(&mut self, evidence: Option<Evidence>, fate: Fate) {
        self.actions.extend(evidence.map(|evidence| TransactionAction::Evidence(Evidence { fate, ..evidence })));
    }

    fn release(&mut self, is_in_step: bool) {
        if self.is_connected {
            self.is_connected = false;
            self.actions.push(TransactionAction::Release { is_in_step });
        }
    }

    fn release_unless(&mut self, keeps: bool, is_in_step: bool) {
        let is_kept = keeps && matches!(self.pending, Some((Target::Recipient, _)));
        if !is_kept {
            self.release(is_in_step);
        }
    }
}

/// Stage of a delivery that fails at this step.
fn stage_of(step: Step) -> DeliveryStage {
    match step {
        Step::Connect => DeliveryStage::Session(Stage::Connect),
        Step::Mail => DeliveryStage::Session(Stage::Mail),
        Step::Recipient(_) => DeliveryStage::Session(Stage::Recipient),
        Step::Data | Step::Content | Step::End => DeliveryStage::Data,
    }
}

fn session_stage(stage: DeliveryStage) -> Stage {
    match stage {
        DeliveryStage::Session(stage) => stage,
        DeliveryStage::Data => Stage::Recipient,
    }
}

#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;
