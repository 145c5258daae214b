//! The place in a reply from which a server quotes another one.
//!
//! A relay, a gateway or a callout repeats what the next server said, in a form of its own: `said: 550 …`,
//! `(user@example.org:550 …)`, `<<< 550 …`. The forms are many. Their common part is a second reply code, which no
//! server writes for itself but at the start of a further line (RFC 5321 §4.2.1).

use std::sync::LazyLock;

use aho_corasick::AhoCorasick;

use crate::reply::EnhancedCode;

/// Phrases after which a server quotes another one, with or without a code.
const INTRODUCERS: [&str; 30] = [
    "unverified address:",
    "undeliverable address:",
    "unverified address :",
    "undeliverable address :",
    "said:",
    "said :",
    // Exim's callouts, and what gateways tell of the next server.
    "callout verification failed:",
    "response:",
    "response was:",
    "responded:",
    "responded with:",
    "replied:",
    "replied with:",
    "answered:",
    "answered with:",
    "diagnostic-code:",
    "diagnostic code:",
    "last error:",
    "<<<",
    "smtp error from remote",
    "remote server was:",
    "remote server said",
    "remote server says",
    "remote said",
    "remote response",
    "remote host says",
    "remote host said",
    "next hop",
    "callout to",
    TAKEN_OUT,
];
/// End of the line after which Exim repeats its own words, and no other server's.
const OWN_WORDS_AGAIN: &str = "commands were rejected with this error:";
/// Words beside which a number of three digits is a number: a limit's, or one of a thing that is counted.
const LIMITS: [&str; 30] = [
    "limit",
    "limits",
    "limited",
    "of",
    "exceeded",
    "exceeds",
    "exceed",
    "maximum",
    "max",
    "than",
    "over",
    "quota",
    "allowed",
    "to",
    "only",
    "sent",
    "your",
    "last",
    "size",
    "at",
    "within",
    "wait",
    "for",
    "in",
    "after",
    "every",
    "about",
    "reached",
    "the",
    "allowance",
];
/// Words of limits and counts: one of them shortly before a number makes it one of these.
const OF_LIMITS: [&str; 19] = [
    "limit",
    "limits",
    "limite",
    "tageslimit",
    "kontingent",
    "quota",
    "quotas",
    "max",
    "maximum",
    "allowance",
    "allowed",
    "sent",
    "used",
    "count",
    "cap",
    "reached",
    "customer",
    "tenant",
    "id",
];
/// Words before a number that names something.
const NAMED: [&str; 13] = [
    "line",
    "port",
    "section",
    "rfc",
    "version",
    "page",
    "case",
    "ticket",
    "incident",
    "reference",
    "ref",
    "rule",
    "reason",
];
/// Words with which a server leads to its own code, where nothing else stands before them: `Error 550: …`.
const BEFORE_OWN_CODE: [&str; 4] = ["error", "err", "code", "status"];
/// Words for what limits count.
const COUNTED: [&str; 50] = [
    "of",
    "messages",
    "message",
    "mails",
    "mail",
    "emails",
    "email",
    "e-mails",
    "e-mail",
    "letters",
    "recipients",
    "recipient",
    "rcpts",
    "per",
    "a",
    "an",
    "bytes",
    "byte",
    "kb",
    "mb",
    "gb",
    "kib",
    "mib",
    "gib",
    "k",
    "m",
    "octets",
    "connections",
    "sessions",
    "times",
    "users",
    "seconds",
    "second",
    "secs",
    "sec",
    "s",
    "ms",
    "minutes",
    "min",
    "hours",
    "hour",
    "days",
    "day",
    "%",
    "percent",
    "outgoing",
    "sent",
    "in",
    "credits",
    "attempts",
];
/// Verbs that hand on what somebody else said.
const SPEECH: [&str; 14] = [
    "said",
    "says",
    "replied",
    "replies",
    "answered",
    "answers",
    "returned",
    "returns",
    "responded",
    "responds",
    "response",
    "reply",
    "reported",
    "reports",
];
/// Words that may stand before a code of somebody else's, and at the end of a line, too.
const BEFORE_CODE: [&str; 14] = [
    "with",
    "was",
    "is",
    "got",
    "received",
    "error",
    "status",
    "code",
    "smtp",
    "rejected",
    "failed",
    "from",
    "downstream",
    "upstream",
];

static INTRODUCER: LazyLock<AhoCorasick> = LazyLock::new(|| match AhoCorasick::new(INTRODUCERS) {
    Ok(searcher) => searcher,
    // Two dozen short texts.
    Err(error) => unreachable!("{error}"),
});

/// Stands for a quotation that was taken out.
pub(crate) const TAKEN_OUT: &str = "[…]";

/// Finds where a server's own words end, if it goes on with another's. The text of its reply is in lower case and begins
/// with `-` where lines follow.
/// Without `code`, the code of the first further line is taken for the reply's.
pub(crate) fn quotation(lower: &str, code: Option<u16>) -> Option<usize> {
    let introduces = |end: &usize| !is_own_response(&lower[..*end]);
    let phrase = INTRODUCER.find_iter(lower).map(|found| found.end()).find(introduces);
    let searched = phrase.map_or(lower, |end| &lower[..end]);
    second_code(searched, code).or(phrase)
}

/// True for `SMTP response:` at the start: the server's own words follow.
fn is_own_response(begun: &str) -> bool {
    let mut words = begun.split_whitespace().map(bare).filter(|word| EnhancedCode::parse(word).is_none());
    let (first, second, third) = (words.next(), words.next(), words.next());
    let is_response = |word: Option<&str>| matches!(word, Some("response" | "answer" | "reply"));
    third.is_none()
        && begun.ends_with(':')
        && (is_response(first)
            || (is_response(second) && matches!(first, Some("smtp" | "server" | "provider" | "our" | "the"))))
}

// ADR-0121: A second reply code begins a quotation.
fn second_code(lower: &str, mut code: Option<u16>) -> Option<usize> {
    let mut lines = if lower.starts_with('-') { Lines::Several } else { Lines::NotKnown };
    let bytes = lower.as_bytes();
    for at in digit_runs(bytes) {
        let Some(found) = code_at(bytes, at) else { continue };
        let before = lower[..at].trim_end();
        // `550 550 5.1.1 …`, `550 Error 550: …`: some say their code twice.
        if before.split_whitespace().all(is_code) || (code == Some(found) && is_own_code_again(before)) {
            continue;
        }
        let follows_line = bytes.get(at + 3) == Some(&b'-');
        let is_own = code.is_none_or(|code| code == found)
            && (follows_line || lines == Lines::Several)
            && bytes[at - 1].is_ascii_whitespace()
            && !lines.is_introduced(before, follows_line);
        if is_own {
            code = Some(found);
            lines = if follows_line { Lines::Several } else { Lines::Last };
            continue;
        }
        let after = &lower[at + 3..];
        // `… [550]` at the end quotes nothing.
        let has_words = after.contains(char::is_alphanumeric);
        if has_words && !is_number(before, after) {
            return Some(at);
        }
    }
    None
}

/// Lines of a reply, as far as its text tells.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Lines {
    /// A log or a table may have lost the `-` after the first code.
    NotKnown,
    Several,
    Last,
}

impl Lines {
    /// True if the words before a code lead to somebody else's, so that it begins no line of the server's own.
    fn is_introduced(self, before: &str, follows_line: bool) -> bool {
        let token = before.rsplit(char::is_whitespace).next().unwrap_or_default();
        let is_address = token.starts_with('<') && token.ends_with('>');
        // `550-"Your message was refused." 550 …`: what ends here is a quotation of the server's own.
        let ends_quotation =
            self == Self::Several && token.ends_with('"') && before.matches('"').count().is_multiple_of(2);
        let ends_open =
            !ends_quotation && token.ends_with([':', '(', '[', '{', '"', '\'', '`', '=', '|', '<', '>', '»', '→']);
        // Exim answers DATA with what it answered each RCPT with.
        if self == Self::Several && before.ends_with(OWN_WORDS_AGAIN) {
            return false;
        }
        // `550-unrouteable mail domain "localhost" 550 Sender verify failed`.
        let is_name = self == Self::Several && is_quoted_name(token);
        if (ends_open && !is_address && !is_name) || self == Self::Last {
            return true;
        }
        let spoken = if is_name { before[..before.len() - token.len()].trim_end() } else { before };
        let word = without_code(bare(spoken.rsplit(char::is_whitespace).next().unwrap_or_default()));
        // A line may end within a sentence.
        let may_end_line = follows_line && self == Self::Several;
        SPEECH.contains(&word)
            || (BEFORE_CODE.contains(&word) && !may_end_line)
            || (is_host(token) && self == Self::NotKnown)
    }
}

/// True for a token such as `mx.example.org` or `mx.example.org[192.0.2.1]`.
fn is_host(token: &str) -> bool {
    token.ends_with(']') || (token.contains('.') && !token.ends_with('.') && !token.contains('/'))
}

/// True for one name in double quotes: `"localhost"`.
fn is_quoted_name(token: &str) -> bool {
    let name = token.strip_prefix('"').and_then(|rest| rest.strip_suffix('"'));
    name.is_some_and(|name| name.starts_with(char::is_alphabetic) && !name.contains(['"', ':', '=', '<', '>']))
}

/// The word with which a line begins: `550-said`.
fn without_code(token: &str) -> &str {
    token.split_at_checked(4).filter(|(code, _)| code.ends_with('-')).map_or(token, |(_, word)| word)
}

fn bare(token: &str) -> &str {
    token.trim_matches(|letter: char| !letter.is_alphanumeric())
}

fn is_code(token: &str) -> bool {
    let token = token.trim_matches(['-', '#', '(', ')']);
    token.is_empty() || EnhancedCode::parse(token).is_some() || (token.len() == 3 && token.parse::<u16>().is_ok())
}

/// True if nothing but words such as `Error` stands before a code that is the reply's own.
fn is_own_code_again(before: &str) -> bool {
    let mut words = before.split_whitespace().filter(|word| !is_code(word));
    words.all(|word| BEFORE_OWN_CODE.contains(&bare(word)))
}

/// Places at which a run of digits begins.
fn digit_runs(bytes: &[u8]) -> impl Iterator<Item = usize> {
    (1..bytes.len()).filter(|at| bytes[*at].is_ascii_digit() && !bytes[*at - 1].is_ascii_digit())
}

/// The reply code that stands at this place alone: `550 `, `"550-`, `:550 `, `[550]`.
fn code_at(bytes: &[u8], at: usize) -> Option<u16> {
    let [class @ (b'4' | b'5'), ten, one] = *bytes.get(at..at + 3)? else { return None };
    // RFC 5321 §4.2.1: the second digit is 0, 1, 2 or 5; servers use 3 to 9, too.
    let is_code = ten.is_ascii_digit() && one.is_ascii_digit();
    let before = bytes[at - 1];
    let is_begun = before.is_ascii_whitespace() || b":;([{\"'`<>=|,".contains(&before) || before >= 0x80;
    let is_ended = match bytes.get(at + 3) {
        None => true,
        Some(b':' | b'.' | b',' | b';') => bytes.get(at + 4).is_none_or(u8::is_ascii_whitespace),
        Some(after) => after.is_ascii_whitespace() || b"-\"'`)]}_".contains(after) || *after >= 0x80,
    };
    let digits = [class, ten, one].iter().fold(0, |sum, digit| sum * 10 + u16::from(digit.wrapping_sub(b'0')));
    (is_code && is_begun && is_ended).then_some(digits)
}

/// True for `limit of 500 messages`: a number of what is counted. One before an enhanced code is a reply's.
fn is_number(before: &str, after: &str) -> bool {
    let is_closed = after.starts_with(')');
    // `case 512: …`; of a count, what follows a colon may be another's.
    let is_labelled = after.starts_with(':');
    let Some(after) = after.strip_prefix([' ', ')', ',', '.', '-', ':']) else { return false };
    let next = after.split_whitespace().next().unwrap_or_default();
    let is_counted = COUNTED.contains(&bare(next)) || next.starts_with('%');
    if before.ends_with(['>', '→', '<', '"', '\'', '`', '»']) {
        return false;
    }
    let token = before.rsplit(char::is_whitespace).next().unwrap_or_default();
    let previous = without_code(bare(token));
    let is_open = token.ends_with([':', '(', '=', '[']);
    // `line 479`, `port 465`.
    let is_named = NAMED.contains(&previous) && !is_open && EnhancedCode::parse(next).is_none();
    let is_introduced = is_open || is_host(token) || SPEECH.contains(&previous) || BEFORE_CODE.contains(&previous);
    // `messages (500)`.
    let is_in_brackets = token == "(" || token.ends_with('(');
    let of_what = bare(before.trim_end_matches('(').trim_end().rsplit(char::is_whitespace).next().unwrap_or_default());
    let is_count = is_in_brackets && is_closed && COUNTED.contains(&of_what) && of_what.len() > 2;
    // `limit is 500`, `Sent: 500, Limit: 500`.
    let is_of_limit = before.split_whitespace().rev().take(3).any(|word| OF_LIMITS.contains(&bare(word)))
        && !after.trim_start_matches(['-', ' ']).starts_with(|letter: char| letter.is_ascii_digit());
    // At the start nobody else can have spoken.
    let is_first = before.split_whitespace().nth(1).is_none();
    (is_named && (!is_labelled || is_first))
        || (!is_labelled && (is_count || is_of_limit || (is_counted && (LIMITS.contains(&previous) || !is_introduced))))
}
