//! The words of a reply, without what a stranger may have put there.

use std::ops::Range;

use crate::quotes::{TAKEN_OUT, quotation};
use crate::reply::EnhancedCode;

/// No more of a reply is read: RFC 5321 §4.5.3.1.5 allows 512 octets a line, and what decides stands at the front.
pub(crate) const MAX_LENGTH: usize = 2048;
/// No more sentences are told apart; the last one holds the rest.
pub(crate) const MAX_SENTENCES: usize = 32;
/// Words with which Postfix begins every refusal at RCPT, whatever it is about: a rule reads them as one word, and what
/// follows decides.
const FRAMES: [&str; 2] = ["recipient address rejected", "recipient addresses rejected"];
/// The words with which all of them begin.
const FRAME_BEGINS: &str = "recipient address";
/// Tokens whose dot ends no sentence.
const ABBREVIATIONS: [&str; 12] =
    ["inc.", "ltd.", "llc.", "corp.", "co.", "no.", "nr.", "mr.", "mrs.", "st.", "e.g.", "i.e."];
/// The word for [`FRAMES`].
const FRAME: &str = "rcptframe";

/// The words of a reply, in a form in which phrases can be found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Words {
    /// Lower-case words with one blank before and after each. Addresses, hosts and URLs are blanked.
    pub(crate) plain: String,
    /// Offsets in `plain` at which sentences end.
    pub(crate) sentences: Vec<usize>,
    /// Offsets in `plain` of the words before which a sentence ends or pauses: no phrase goes across.
    pub(crate) pauses: Vec<usize>,
    /// Places in `plain` that hold the words of one token, such as `sending-paused`: it may be a recipient's name.
    pub(crate) compounds: Vec<Range<usize>>,
    /// The same with hosts and URLs: the only place of many a block list's name.
    pub(crate) names: String,
    /// True if the reply goes on with what another server said. Nothing of that is here.
    pub(crate) quotes: bool,
}

impl Words {
    /// Reads the text of a reply with this code.
    pub(crate) fn of(code: u16, text: &str) -> Self {
        let (mut own, quotes) = own_words(&lowered(text), code);
        if own.contains(FRAME_BEGINS) {
            for frame in FRAMES {
                own = own.replace(frame, FRAME);
            }
        }
        let begun = || {
            let mut text = String::with_capacity(own.len() + 16);
            text.push(' ');
            text
        };
        let mut words = Self {
            plain: begun(),
            sentences: Vec::with_capacity(4),
            pauses: Vec::with_capacity(8),
            compounds: Vec::with_capacity(4),
            names: begun(),
            quotes,
        };
        let code = code.to_string();
        let mut phrase = Phrase::default();
        for token in own.split_whitespace() {
            let start = words.plain.len();
            words.push_token(token, &code);
            phrase.take(token, start, &mut words);
        }
        phrase.end(&mut words);
        words.sentences.push(words.plain.len());
        words
    }

    fn push_token(&mut self, token: &str, code: &str) {
        let token = without_line_code(token, code);
        if is_mail_address(token) {
            self.names.push_str("addr ");
            push_words(&mut self.names, after_address(token));
            self.plain.push_str("addr ");
            self.push_plain(after_address(token));
            return;
        }
        if is_quoted_name(token) {
            self.names.push_str("addr ");
            self.plain.push_str("addr ");
            return;
        }
        push_words(&mut self.names, token);
        if is_code(token, code) {
            return;
        }
        if let Some(kind) = machine_token(token) {
            self.plain.push_str(kind);
            self.plain.push(' ');
        } else {
            self.push_plain(token);
        }
        // A `?` is a letter that Postfix could not write, more often than a question.
        let ends = token.ends_with(['.', ';', '!']) && !ABBREVIATIONS.contains(&token);
        if ends && self.sentences.len() < MAX_SENTENCES - 1 {
            self.sentences.push(self.plain.len());
        }
        if ends || token.ends_with([',', ':']) {
            self.pauses.push(self.plain.len());
        }
    }

    fn push_plain(&mut self, token: &str) {
        let start = self.plain.len();
        push_words(&mut self.plain, token);
        let is_compound = token.trim_matches(is_punctuation).contains(is_punctuation);
        if is_compound && self.plain[start..].trim_end().contains(' ') && !is_name_of_exchange(token) {
            self.compounds.push(start..self.plain.len());
        }
    }

    /// True if the words at this place, without the blank before them, are of one token with more words.
    pub(crate) fn is_within_compound(&self, place: &Range<usize>) -> bool {
        self.compounds.iter().any(|compound| compound.start <= place.start && place.end <= compound.end)
    }

    /// True if a sentence ends or pauses between the words at this place, which begins with the first word.
    pub(crate) fn is_interrupted(&self, place: &Range<usize>) -> bool {
        self.pauses.iter().any(|pause| place.start < *pause && *pause < place.end)
    }

    /// The sentence that holds this offset of `plain`.
    pub(crate) fn sentence_at(&self, offset: usize) -> u32 {
        let index = self.sentences.iter().position(|end| offset < *end).unwrap_or(self.sentences.len());
        u32::try_from(index.min(MAX_SENTENCES - 1)).unwrap_or(0)
    }
}

/// A phrase in quotes that has begun: it names something, a subject or a word of a message for example.
#[derive(Default)]
struct Phrase {
    /// The quote that ends it, and its place in [`Words::plain`].
    open: Option<(char, usize)>,
}

impl Phrase {
    /// Takes the next token, which stands in the plain words from `start` on.
    fn take(&mut self, token: &str, start: usize, words: &mut Words) {
        let mut before = None;
        for (at, letter) in token.char_indices() {
            let after = token[at + letter.len_utf8()..].chars().next();
            let (is_begun, is_ended) = (before.is_none_or(is_punctuation), after.is_none_or(is_punctuation));
            before = Some(letter);
            match self.open {
                _ if !matches!(letter, '"' | '\'' | '`') => {}
                // A text that is one quotation is the server's own.
                None if is_begun && !is_ended && !words.plain[..start].trim().is_empty() => {
                    self.open = Some((letter, start));
                }
                // "`" is ended by "'", too.
                Some((open, from)) if is_ended && (open == letter || (open == '`' && letter == '\'')) => {
                    words.compounds.push(from..words.plain.len());
                    self.open = None;
                }
                None | Some(_) => {}
            }
        }
    }

    /// An apostrophe without an end is none; a phrase may have been cut off.
    fn end(self, words: &mut Words) {
        if let Some(('"', from)) = self.open {
            words.compounds.push(from..words.plain.len());
        }
    }
}

fn is_punctuation(letter: char) -> bool {
    !letter.is_alphanumeric()
}

/// The text in which the user's own rules look for words: as the server wrote it, but in lower case and one line,
/// without codes and accents; an address is read as `addr`, a host as `host`, an IP address as `ip`, a URL as `weblink`.
pub(crate) fn plain(code: u16, text: &str) -> String {
    let (own, _) = own_words(&lowered(text), code);
    let code = code.to_string();
    let mut plain = String::with_capacity(own.len());
    for token in own.split_whitespace().map(|token| without_line_code(token, &code)) {
        if is_mail_address(token) {
            push_token(&mut plain, &["addr", after_address(token)]);
        } else if !is_code(token, &code) {
            push_token(&mut plain, &[machine_token(token).unwrap_or(token)]);
        }
    }
    plain
}

pub(crate) fn without_addresses(code: u16, text: &str) -> String {
    let lower = lowered(text);
    let quotation = quotation(&lower, Some(code));
    let own = without_brackets(quotation.map_or(&*lower, |end| &lower[..end]));
    let mut plain = String::with_capacity(own.len());
    for token in own.split_whitespace() {
        if is_mail_address(token) {
            push_token(&mut plain, &["addr", after_address(token)]);
        } else {
            push_token(&mut plain, &[token]);
        }
    }
    if quotation.is_some() {
        // So that it is seen again.
        push_token(&mut plain, &[TAKEN_OUT]);
    }
    plain
}

fn push_token(text: &mut String, parts: &[&str]) {
    if !text.is_empty() {
        text.push(' ');
    }
    text.extend(parts.iter().copied());
}

/// A text as words are compared: without accents. ASCII stays in its case, which means something in an expression.
pub(crate) fn folded(text: &str) -> String {
    text.chars().flat_map(|letter| lowered_beyond_ascii(fold(letter))).collect()
}

fn lowered_beyond_ascii(letter: char) -> impl Iterator<Item = char> {
    // One letter in two lower-case ones (`İ`) keeps the first only.
    std::iter::once(if letter.is_ascii() { letter } else { letter.to_lowercase().next().unwrap_or(letter) })
}

fn lowered(text: &str) -> String {
    if text.is_ascii() {
        return text[..text.len().min(MAX_LENGTH)].to_ascii_lowercase();
    }
    let letters = text.chars().take(MAX_LENGTH).map(|letter| fold(letter).to_ascii_lowercase());
    letters.flat_map(lowered_beyond_ascii).collect()
}

/// The rest of a token that begins with a mail address: `user@example.org:blocked` says something after it.
fn after_address(token: &str) -> &str {
    let Some((_, host)) = token.split_once('@') else { return "" };
    let end = host.find(|letter: char| !letter.is_ascii_alphanumeric() && !matches!(letter, '.' | '-' | '_'));
    end.map_or("", |at| &host[at..])
}

/// A token without the code of its line: `550-no` begins a line with `no` (RFC 5321 §4.2.1).
fn without_line_code<'a>(token: &'a str, code: &str) -> &'a str {
    let rest = token.strip_prefix(code).and_then(|rest| rest.strip_prefix('-'));
    rest.filter(|rest| !rest.is_empty()).unwrap_or(token)
}

/// True for a code that begins a line, and for an enhanced code.
fn is_code(token: &str, code: &str) -> bool {
    // Most tokens are words.
    if !token.starts_with(|letter: char| letter.is_ascii_digit() || letter == '-') {
        return false;
    }
    token.trim_end_matches('-') == code || EnhancedCode::parse(token.trim_start_matches('-')).is_some()
}

/// Brings letters of Western European languages to ASCII.
fn fold(letter: char) -> char {
    match letter {
        'à' | 'á' | 'â' | 'ã' | 'ä' | 'å' | 'À' | 'Á' | 'Â' | 'Ã' | 'Ä' | 'Å' => 'a',
        'ç' | 'Ç' => 'c',
        'è' | 'é' | 'ê' | 'ë' | 'È' | 'É' | 'Ê' | 'Ë' => 'e',
        'ì' | 'í' | 'î' | 'ï' | 'Ì' | 'Í' | 'Î' | 'Ï' => 'i',
        'ñ' | 'Ñ' => 'n',
        'ò' | 'ó' | 'ô' | 'õ' | 'ö' | 'Ò' | 'Ó' | 'Ô' | 'Õ' | 'Ö' => 'o',
        'ù' | 'ú' | 'û' | 'ü' | 'Ù' | 'Ú' | 'Û' | 'Ü' => 'u',
        '’' | '‘' => '\'',
        '“' | '”' | '„' | '«' | '»' => '"',
        other => other,
    }
}

/// The server's own words of a text, and true if it goes on with what another server said.
fn own_words(lower: &str, code: u16) -> (String, bool) {
    let quotation = quotation(lower, Some(code));
    let own = quotation.map_or(lower, |end| &lower[..end]);
    (without_brackets(own.trim_start_matches(['-', ' '])), quotation.is_some())
}

/// The text without what stands in angle brackets, and without quoted local parts.
fn without_brackets(text: &str) -> String {
    let mut own = text.to_owned();
    // First, because there may be a `>` in one.
    blank_quoted_local_parts(&mut own);
    if own.contains('<') {
        blank_between(&mut own, '<', '>', " addr ");
    }
    own
}

/// Replaces each `<…>` without a blank line of more than 320 letters (RFC 5321 §4.5.3.1: 64 + 1 + 255) inside.
fn blank_between(text: &mut String, open: char, close: char, by: &str) {
    let mut result = String::with_capacity(text.len());
    let mut rest = text.as_str();
    while let Some(start) = rest.find(open) {
        let inside = &rest[start + open.len_utf8()..];
        let end = inside.find(close).filter(|end| *end <= 320 && !inside[..*end].contains("://"));
        result.push_str(&rest[..start]);
        if let Some(end) = end {
            result.push_str(by);
            rest = &inside[end + close.len_utf8()..];
        } else {
            result.push(' ');
            rest = inside;
        }
    }
    result.push_str(rest);
    *text = result;
}

/// Replaces `"…"@host`: a quoted local part may hold anything (RFC 5321 §4.1.2).
fn blank_quoted_local_parts(text: &mut String) {
    while let Some(end) = text.find("\"@") {
        let opening = text[..end].rmatch_indices('"').find(|(at, _)| !text[..*at].ends_with('\\'));
        let start = opening.map_or(end, |(at, _)| at);
        let host = text[end + 2..].find(char::is_whitespace).map_or(text.len(), |length| end + 2 + length);
        text.replace_range(start..host, " addr ");
    }
}

fn is_mail_address(token: &str) -> bool {
    if !token.contains('@') {
        return false;
    }
    let token = token.trim_matches(|letter: char| !letter.is_ascii_alphanumeric());
    token.split_once('@').is_some_and(|(local, host)| !local.is_empty() && !host.is_empty())
        || (token.contains('@') && token.len() > 3)
}

/// True for one token in quotes, which is the name of something: of a mailbox, say.
fn is_quoted_name(token: &str) -> bool {
    let token = token.trim_end_matches(['.', ',', ':', ';', ')', '(']);
    token.len() > 2
        && ['"', '\'', '`']
            .iter()
            .any(|quote| token.strip_prefix(*quote).is_some_and(|rest| rest.ends_with(*quote) || rest.ends_with('\'')))
}

/// True for `resolver.rst.notauthorized`: a name of Exchange's transport, not of a host.
fn is_name_of_exchange(token: &str) -> bool {
    ["resolver.", "storedrv.", "transport.", "smtpsend.", "routing."].iter().any(|prefix| token.starts_with(prefix))
}

/// A word for what only machines read: an address, a host, a URL, an identifier.
fn machine_token(token: &str) -> Option<&'static str> {
    if !token.contains(['.', ':']) {
        return None;
    }
    if token.as_bytes().windows(3).any(|three| three == b"://") {
        // Not `url`: servers say that of what stands in a message.
        return Some("weblink");
    }
    let core = token.trim_matches(|letter: char| !letter.is_ascii_alphanumeric());
    if !core.contains(['.', ':']) {
        return None;
    }
    if core.parse::<std::net::IpAddr>().is_ok()
        || core.split('[').next_back().is_some_and(|inner| inner.parse::<std::net::IpAddr>().is_ok())
    {
        return Some("ip");
    }
    let labels = core.split('[').next().unwrap_or(core);
    let is_host = labels.split('.').count() > 1
        && labels.split('.').all(|label| {
            !label.is_empty()
                && label.chars().all(|letter| letter.is_ascii_alphanumeric() || letter == '-' || letter == '_')
        })
        && labels
            .rsplit('.')
            .next()
            .is_some_and(|last| last.len() >= 2 && last.chars().all(|letter| letter.is_ascii_alphabetic()))
        && !is_name_of_exchange(labels);
    is_host.then_some("host")
}

fn push_words(target: &mut String, token: &str) {
    if !token.is_ascii() {
        push_words_beyond_ascii(target, token);
        return;
    }
    let mut previous = "";
    for word in token.split(|letter: char| !letter.is_ascii_alphanumeric()).filter(|word| !word.is_empty()) {
        if previous == "e" && word.starts_with("mail") {
            // `e-mail` is `email`.
            target.pop();
        }
        // A search in each word would cost as much as all rules.
        let british = if word.len() < "authorise".len() { None } else { word.split_once("thoris") };
        match british {
            // `authorised` is `authorized`, and so on.
            Some((start, end)) => target.extend([start, "thoriz", end, " "]),
            None => target.extend([word, " "]),
        }
        previous = word;
    }
}

/// Ideographs have no blanks between them: each is a word.
fn push_words_beyond_ascii(target: &mut String, token: &str) {
    for letter in token.chars() {
        if is_ideograph(letter) && !target.ends_with(' ') {
            target.push(' ');
        }
        if letter.is_alphanumeric() {
            target.push(letter);
        }
        if (is_ideograph(letter) || is_punctuation(letter)) && !target.ends_with(' ') {
            target.push(' ');
        }
    }
    if !target.ends_with(' ') {
        target.push(' ');
    }
}

fn is_ideograph(letter: char) -> bool {
    matches!(letter, '\u{3040}'..='\u{30ff}' | '\u{3400}'..='\u{9fff}' | '\u{f900}'..='\u{faff}')
}

/// A phrase of a rule as it stands in [`Words::plain`], without the blanks around it.
pub(crate) fn words_of(text: &str) -> String {
    let mut words = String::new();
    text.split_whitespace().for_each(|token| push_words(&mut words, token));
    words.trim().to_owned()
}
