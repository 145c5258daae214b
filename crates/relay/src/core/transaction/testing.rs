//! A transaction with an application and servers that fail on demand, for tests.

use super::super::command::{Command, parse};
use super::*;

pub(super) const STAGE: Duration = Duration::from_secs(5);

pub(super) fn bounds(ambiguity: Ambiguity) -> TransactionBounds {
    TransactionBounds { total: Duration::from_secs(25), stage: STAGE, answer: Duration::from_secs(10), ambiguity }
}

pub(super) fn reply(code: u16, text: &str) -> Reply {
    Reply { code, text: text.to_owned() }
}

/// Behaviour of a server at one step.
#[derive(Clone, Debug)]
pub(super) enum Act {
    Reply(u16, &'static str),
    Close,
    Hang,
    /// Take the message and say nothing: only at the end.
    TakeAndClose,
}

pub(super) const OK: Act = Act::Reply(250, "2.0.0 ok");
pub(super) const PAUSED: Act = Act::Reply(554, "Message rejected: Sending paused for this account");
pub(super) const NO_USER: Act = Act::Reply(550, "5.1.1 no such user");
pub(super) const BUSY: Act = Act::Reply(451, "4.3.0 internal error");

/// A server that does as told at each step, and as usual beyond.
#[derive(Clone, Debug, Default)]
pub(super) struct Server {
    pub(super) connect: Option<Act>,
    pub(super) mail: Option<Act>,
    /// By the number of the recipient.
    pub(super) recipients: Vec<Option<Act>>,
    pub(super) data: Option<Act>,
    pub(super) content: Option<Act>,
    pub(super) end: Option<Act>,
    pub(super) is_idle_closed: bool,
    /// True if it takes content for ever, a little at a time.
    pub(super) is_slow: bool,
    pub(super) capabilities: Capabilities,
    /// Recipients of each message that it took.
    pub(super) taken: Vec<Vec<String>>,
    pub(super) open: Vec<String>,
}

/// A relay with one transaction, an application and servers.
pub(super) struct Trial {
    pub(super) now: Instant,
    pub(super) transaction: Transaction,
    pub(super) servers: Vec<Server>,
    pub(super) answers: Vec<Answer>,
    pub(super) evidence: Vec<Evidence>,
    /// True for each connection that was given back in step.
    pub(super) released: Vec<bool>,
    pub(super) at: usize,
    pub(super) performed: usize,
}

pub(super) fn mail(line: &str) -> MailCommand {
    match parse(line.as_bytes(), true) {
        Ok(Command::Mail(mail)) => mail,
        other => panic!("{other:?}"),
    }
}

pub(super) fn recipient(line: &str) -> RecipientCommand {
    match parse(line.as_bytes(), true) {
        Ok(Command::Recipient(recipient)) => recipient,
        other => panic!("{other:?}"),
    }
}

pub(super) fn ways(count: usize) -> Vec<Way> {
    let way = |number| Way { backend: format!("b{number}").into(), rulebook: Arc::default(), after_refusal: false };
    (0..count).map(way).collect()
}

impl Trial {
    pub(super) fn new(servers: Vec<Server>, bounds: TransactionBounds, line: &str) -> Self {
        let ways = ways(servers.len());
        Self::on(ways, servers, bounds, line)
    }

    pub(super) fn on(ways: Vec<Way>, servers: Vec<Server>, bounds: TransactionBounds, line: &str) -> Self {
        let now = Instant::now();
        let transaction = Transaction::new(now, bounds, ways, mail(line));
        let mut trial = Self {
            now,
            transaction,
            servers,
            answers: vec![],
            evidence: vec![],
            released: vec![],
            at: 0,
            performed: 0,
        };
        trial.work();
        trial
    }

    pub(super) fn of(servers: Vec<Server>) -> Self {
        Self::new(servers, bounds(Ambiguity::Refuse), "MAIL FROM:<a@example.net>")
    }

    pub(super) fn recipient(&mut self, name: &str) -> Answer {
        self.transaction.handle(self.now, TransactionInput::Recipient(recipient(&format!("RCPT TO:<{name}>"))));
        self.work();
        self.answers.last().unwrap().clone()
    }

    pub(super) fn content(&mut self) -> Answer {
        let before = self.answers.len();
        self.transaction.handle(self.now, TransactionInput::Content(1000));
        self.work();
        assert_eq!(self.answers.len(), before + 1, "one answer to the content");
        self.answers.last().unwrap().clone()
    }

    /// Lets the application send a message to these recipients. Returns the codes.
    pub(super) fn send(&mut self, recipients: &[&str]) -> Vec<u16> {
        for recipient in recipients {
            if !self.transaction.is_over() {
                self.recipient(recipient);
            }
        }
        if !self.transaction.is_over() && self.transaction.answer_to_data().code == 354 {
            self.content();
        }
        self.answers.iter().map(|answer| answer.code).collect()
    }

    pub(super) fn taken(&self) -> Vec<usize> {
        self.servers.iter().map(|server| server.taken.len()).collect()
    }

    pub(super) fn work(&mut self) {
        loop {
            let actions = self.transaction.poll();
            if actions.is_empty() {
                return;
            }
            for action in actions {
                match action {
                    TransactionAction::Answer(answer) => self.answers.push(answer),
                    TransactionAction::Evidence(evidence) => self.evidence.push(evidence),
                    TransactionAction::Release { is_in_step } => {
                        self.released.push(is_in_step);
                        self.servers[self.at].open.clear();
                    }
                    TransactionAction::Perform { operation, deadline } => {
                        self.performed += 1;
                        assert!(self.performed < 500, "it ends");
                        let result = self.perform(&operation, deadline);
                        self.transaction.handle(self.now, TransactionInput::Done(result));
                    }
                }
            }
        }
    }

    pub(super) fn perform(&mut self, operation: &Operation, deadline: Instant) -> OperationResult {
        if let Operation::Connect { way, is_fresh, .. } = operation {
            self.at = *way;
            let server = &mut self.servers[*way];
            server.open.clear();
            let is_reused = server.is_idle_closed && !is_fresh;
            let capabilities = server.capabilities;
            return match server.connect.clone() {
                None => OperationResult::Ready { capabilities, is_reused },
                Some(act) => self.act(&act, deadline),
            };
        }
        let server = &mut self.servers[self.at];
        let act = match operation {
            Operation::Connect { .. } => unreachable!(),
            Operation::Command(line) if line.starts_with("MAIL") => {
                if std::mem::take(&mut server.is_idle_closed) {
                    Some(Act::Close)
                } else {
                    server.mail.clone()
                }
            }
            Operation::Command(line) if line.starts_with("RCPT TO:<") => {
                let name = line.trim_start_matches("RCPT TO:<").trim_end_matches('>').to_owned();
                let number: usize = name.split('@').next().unwrap().parse().unwrap();
                let act = server.recipients.get(number).cloned().flatten();
                if act.is_none() {
                    server.open.push(name);
                }
                act
            }
            Operation::Command(line) => {
                assert_eq!(line, "DATA");
                Some(server.data.clone().unwrap_or(Act::Reply(354, "go")))
            }
            Operation::Content if server.is_slow => return self.act(&Act::Hang, deadline),
            Operation::Content => match server.content.clone() {
                None => return OperationResult::Sent,
                // No pause may be longer than a stage.
                Some(act) => return self.act(&act, deadline.min(self.now + STAGE)),
            },
            Operation::End => {
                let act = server.end.clone().unwrap_or(OK);
                if matches!(act, Act::Reply(200..=299, _) | Act::TakeAndClose) {
                    let recipients = std::mem::take(&mut server.open);
                    server.taken.push(recipients);
                }
                Some(act)
            }
        };
        self.act(&act.unwrap_or(OK), deadline)
    }

    pub(super) fn act(&mut self, act: &Act, deadline: Instant) -> OperationResult {
        let class = match act {
            Act::Reply(code, text) => return OperationResult::Reply(reply(*code, text)),
            Act::Close | Act::TakeAndClose => EvidenceClass::ConnectionLost,
            Act::Hang => {
                self.now = self.now.max(deadline);
                EvidenceClass::NoAnswer
            }
        };
        let summary = class.as_str().into();
        OperationResult::Failed(OperationFailure {
            class,
            stage: Stage::Connect,
            refusal: None,
            summary,
            is_own: false,
        })
    }
}
