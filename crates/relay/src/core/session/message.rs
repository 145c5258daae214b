//! The message under way: MAIL, RCPT, DATA, its content, and its end.

use std::time::Instant;

use super::super::answer::Answer;
use super::super::command::{MailCommand, RecipientCommand};
use super::super::content::{ContentFault, ContentReader};
use super::super::trace::MAX_TRACE;
use super::super::transaction::{Operation, Transaction, TransactionAction, TransactionInput, Way};
use super::{Chunk, Rejection, Session, SessionAction, State, TransactionEnd};

/// Octets from which on a chunk that is refused is no idle command.
const GOOD_CHUNK: u64 = 1024;
/// Most recipients of a message that are refused and are no idle commands.
const MAX_REFUSED: u32 = 10_000;

impl Session {
    pub(super) fn mail(&mut self, now: Instant, mut mail: MailCommand) {
        if self.hello.is_none() {
            self.out_of_order(now, "5.5.1 EHLO comes first");
        } else if self.transaction.is_some() {
            self.out_of_order(now, "5.5.1 a message is begun already");
        } else if self.settings.requires_tls && !self.is_encrypted {
            self.say(530, "5.7.0 STARTTLS comes first");
        } else if !self.is_allowed && self.user.is_none() {
            self.actions.push_back(SessionAction::Rejected(Rejection::Client));
            self.say(530, "5.7.0 a login is needed");
        } else if mail.needs.size.is_some_and(|size| size > self.settings.max_message) {
            let (code, text) = ContentFault::TooLarge.refusal();
            self.actions.push_back(SessionAction::Rejected(Rejection::Content(ContentFault::TooLarge)));
            self.say(code, text);
        } else {
            let domain = mail.domain();
            // So much more may come to a backend than the application has said.
            mail.needs.size = mail.needs.size.map(|size| size.saturating_add(MAX_TRACE));
            self.mail = Some(mail);
            self.begun_at = Some(now);
            self.state = State::Waiting;
            self.actions.push_back(SessionAction::Plan { domain });
        }
    }

    pub(super) fn planned(&mut self, now: Instant, planned: Result<Vec<Way>, Answer>) {
        self.state = State::Command;
        let Some(mail) = self.mail.clone() else { return };
        match planned {
            Ok(ways) if !ways.is_empty() => {
                self.attempts = 0;
                self.transaction = Some(Transaction::new(now, self.settings.bounds, ways, mail));
                self.take_transaction_actions(now);
            }
            Ok(_) => self.unplanned(now, Answer::own(451, "4.4.1 no backend may carry the mail now")),
            Err(answer) => self.unplanned(now, answer),
        }
    }

    fn unplanned(&mut self, now: Instant, answer: Answer) {
        self.tell(&answer);
        self.end_transaction(now, Some(answer));
    }

    pub(super) fn recipient(&mut self, now: Instant, recipient: RecipientCommand) {
        let Some(transaction) = &mut self.transaction else {
            self.out_of_order(now, "5.5.1 MAIL comes first");
            return;
        };
        if self.content.is_some() {
            self.out_of_order(now, "5.5.1 the content is begun already");
            return;
        }
        if transaction.recipients() >= self.settings.max_recipients {
            self.refused_recipient();
            self.say(452, "4.5.3 too many recipients; send the rest in another message");
            return;
        }
        self.pending_recipient = Some(recipient.path.clone());
        transaction.handle(now, TransactionInput::Recipient(recipient));
        self.take_transaction_actions(now);
    }

    /// A refused recipient is no idle command: those that were accepted must not be lost by it.
    fn refused_recipient(&mut self) {
        if self.refused < MAX_REFUSED {
            self.refused += 1;
            self.idle_commands = self.idle_commands.saturating_sub(1);
        }
    }

    pub(super) fn data(&mut self, now: Instant) {
        let Some(transaction) = &self.transaction else {
            self.out_of_order(now, "5.5.1 MAIL comes first");
            return;
        };
        if self.content.is_some() {
            self.out_of_order(now, "5.5.1 the content is begun already, by BDAT");
            return;
        }
        let answer = transaction.answer_to_data();
        self.tell(&answer);
        if answer.code == 354 {
            self.content = Some(ContentReader::new(self.settings.max_message));
            self.actions.push_back(SessionAction::BeginContent);
            self.state = State::Content;
        } else if answer.code != 554 {
            self.end_transaction(now, Some(answer));
        }
    }

    pub(super) fn take_content(&mut self, now: Instant) -> bool {
        let Some(reader) = &mut self.content else { return false };
        let unread = self.input.get(self.used..).unwrap_or_default();
        if unread.is_empty() {
            return false;
        }
        let mut part = vec![];
        let (taken, is_end) = reader.read(unread, &mut part);
        self.used += taken;
        let fault = reader.fault();
        if !part.is_empty() && fault.is_none() {
            self.actions.push_back(SessionAction::Store(part));
        }
        if is_end {
            match fault {
                None => {
                    self.state = State::Waiting;
                    self.actions.push_back(SessionAction::EndContent);
                }
                Some(fault) => {
                    self.actions.push_back(SessionAction::Rejected(Rejection::Content(fault)));
                    let (code, text) = fault.refusal();
                    self.refuse_content(now, Answer::own(code, text));
                }
            }
        }
        true
    }

    /// Begins a chunk of the content. Its octets come whatever its answer is (RFC 3030 §2).
    pub(super) fn chunk(&mut self, now: Instant, octets: u64, is_last: bool) {
        let refusal = match &self.transaction {
            None => Some(Answer::own(503, "5.5.1 MAIL comes first")),
            Some(_) if self.content.is_some() => None,
            Some(transaction) => Some(transaction.answer_to_data()).filter(|answer| answer.code != 354),
        };
        // The bound on the message holds for those with content, and those that are refused are as idle as any command.
        if octets >= GOOD_CHUNK || (refusal.is_none() && octets > 0) {
            self.idle_commands = self.idle_commands.saturating_sub(1);
        }
        if refusal.is_none() && self.content.is_none() {
            self.content = Some(ContentReader::new(self.settings.max_message));
            self.actions.push_back(SessionAction::BeginContent);
        }
        if let Some(answer) = refusal.clone().filter(|answer| !matches!(answer.code, 503 | 554)) {
            self.end_transaction(now, Some(answer));
        }
        self.state = State::Chunk(Chunk { octets, left: octets, is_last, refusal });
    }

    pub(super) fn take_chunk(&mut self, now: Instant) -> bool {
        let State::Chunk(chunk) = &mut self.state else { return false };
        let unread = self.input.get(self.used..).unwrap_or_default();
        let taken = usize::try_from(chunk.left).unwrap_or(usize::MAX).min(unread.len());
        if taken == 0 && chunk.left > 0 {
            return false;
        }
        chunk.left -= taken as u64;
        let is_whole = chunk.left == 0;
        let (refusal, octets, is_last) = (chunk.refusal.clone(), chunk.octets, chunk.is_last);
        let mut part = vec![];
        let mut fault = None;
        if let Some(reader) = self.content.as_mut().filter(|_| refusal.is_none()) {
            reader.read_chunk(unread.get(..taken).unwrap_or_default(), &mut part);
            if is_whole && is_last {
                reader.finish(&mut part);
            }
            fault = reader.fault();
        }
        self.used += taken;
        if !part.is_empty() && fault.is_none() {
            self.actions.push_back(SessionAction::Store(part));
        }
        if !is_whole {
            return true;
        }
        match (refusal, fault) {
            (Some(answer), _) => {
                self.tell(&answer);
                self.state = State::Command;
            }
            (None, Some(fault)) => {
                self.actions.push_back(SessionAction::Rejected(Rejection::Content(fault)));
                let (code, text) = fault.refusal();
                self.refuse_content(now, Answer::own(code, text));
            }
            (None, None) if is_last => {
                self.state = State::Waiting;
                self.actions.push_back(SessionAction::EndContent);
            }
            (None, None) => {
                self.say(250, &format!("2.0.0 {octets} octets"));
                self.state = State::Command;
            }
        }
        true
    }

    pub(super) fn refuse_content(&mut self, now: Instant, answer: Answer) {
        self.tell(&answer);
        self.state = State::Command;
        self.end_transaction(now, Some(answer));
    }

    /// Hands on what the transaction wants, and answers the application.
    pub(super) fn take_transaction_actions(&mut self, now: Instant) {
        let Some(transaction) = &mut self.transaction else { return };
        let actions = transaction.poll();
        let (is_busy, is_over) = (transaction.is_busy(), transaction.is_over());
        self.state = if is_busy { State::Waiting } else { State::Command };
        for action in actions {
            match action {
                TransactionAction::Perform { operation, deadline } => {
                    self.attempts += u32::from(matches!(operation, Operation::Connect { is_again: false, .. }));
                    self.actions.push_back(SessionAction::Perform { operation, deadline });
                }
                TransactionAction::Release { is_in_step } => {
                    self.actions.push_back(SessionAction::Release { is_in_step });
                }
                TransactionAction::Evidence(evidence) => self.actions.push_back(SessionAction::Evidence(evidence)),
                TransactionAction::Answer(answer) => {
                    match self.pending_recipient.take() {
                        Some(recipient) if answer.code < 300 => {
                            // Their number has a bound of its own.
                            self.idle_commands = self.idle_commands.saturating_sub(1);
                            self.recipients.push(recipient);
                        }
                        Some(_) => self.refused_recipient(),
                        None => {}
                    }
                    self.tell(&answer);
                    if is_over {
                        self.end_transaction(now, Some(answer));
                    }
                }
            }
        }
    }

    /// Gives the backend's connection back while the application is silent. The message goes on over another one.
    pub(super) fn yield_connection(&mut self) {
        let Some(mut transaction) = self.transaction.take() else { return };
        transaction.yield_connection();
        self.take_releases(&mut transaction);
        self.transaction = Some(transaction);
    }

    fn take_releases(&mut self, transaction: &mut Transaction) {
        for action in transaction.poll() {
            if let TransactionAction::Release { is_in_step } = action {
                self.actions.push_back(SessionAction::Release { is_in_step });
            }
        }
    }

    /// Ends the transaction, if there is one: with its final answer, or without.
    pub(super) fn end_transaction(&mut self, now: Instant, answer: Option<Answer>) {
        let backend = self.transaction.as_ref().and_then(|transaction| transaction.backend().cloned());
        let mut size = 0;
        if let Some(mut transaction) = self.transaction.take() {
            if !transaction.is_over() {
                transaction.abort();
            }
            self.take_releases(&mut transaction);
        }
        if let Some(content) = self.content.take() {
            size = content.size();
            self.actions.push_back(SessionAction::DropContent);
        }
        let recipients = std::mem::take(&mut self.recipients);
        self.pending_recipient = None;
        let Some(mail) = self.mail.take() else { return };
        self.idle_commands = 0;
        self.refused = 0;
        if answer.as_ref().is_some_and(Answer::is_positive) {
            // An application that sends mail over one connection all day long may err now and then.
            self.errors = 0;
        }
        let since = self.begun_at.take().unwrap_or(now);
        let attempts = self.attempts;
        self.actions.push_back(SessionAction::Ended(TransactionEnd {
            backend,
            answer,
            sender: mail.path,
            recipients,
            size,
            since,
            attempts,
        }));
    }
}
