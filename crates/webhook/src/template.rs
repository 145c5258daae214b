//! Templates of bodies and headers, in a part of Jinja's language that takes bounded time and memory.
//!
//! There are `{{ … }}`, `{% if %}` and `{% for %}`, and a few filters. What could make much out of little (`set`, `with`,
//! macros, multiplication) is refused when a template is checked.

use std::fmt::Write as _;
use std::io;

use minijinja::value::Value;
use minijinja::{AutoEscape, Environment, ErrorKind, UndefinedBehavior};
use serde::Serialize;

use super::event::{SAMPLE_KINDS, WebhookEvent};
use super::secret::{WebhookSecret, is_header_character};

/// Largest template, in bytes.
pub const MAX_TEMPLATE: usize = 8192;
/// Largest rendered body, in bytes.
pub const MAX_BODY: usize = 65_536;
/// Largest rendered value of a header, in bytes.
pub const MAX_HEADER: usize = 8192;
/// Longest data of a DNS record that a template renders, in bytes.
pub const MAX_RECORD: usize = 1024;
/// Steps that a template may take.
const FUEL: u64 = 20_000;
/// Depth of nested loops and expressions.
const RECURSION: usize = 32;
/// Largest result of a filter, in bytes.
const MAX_FILTERED: usize = 16_384;
/// Statements that a template may have.
const STATEMENTS: [&str; 6] = ["if", "elif", "else", "endif", "for", "endfor"];
/// Names that a template may use, each with its fields.
const NAMES: [&str; 10] =
    ["id", "sequence", "type", "time", "namespace", "route", "output", "transition", "backend", "active"];
/// Fields of `transition`.
const TRANSITION_FIELDS: [&str; 6] = ["id", "kind", "from", "to", "reason", "decidedAt"];
/// The name in templates of DNS records.
const BACKEND: &str = "backend";
/// The further name of headers.
const SECRET: &str = "secret";

/// Defect of a template, or of what it renders. No text of it quotes a Secret.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TemplateError {
    /// The template is too long.
    #[error("it has more than {MAX_TEMPLATE} bytes")]
    TooLong,
    /// A statement is not supported.
    #[error("{{% {0} %}} is not supported; there are if, elif, else, endif, for and endfor")]
    Statement(String),
    /// A template with `{{` or `{%` holds an asterisk.
    #[error("* cannot be used in a template; write \\u002a in JSON, or %2A in a form")]
    Asterisk,
    /// A name is unknown.
    #[error("{0} is unknown; there are {names}", names = .1)]
    UnknownName(String, String),
    /// The template cannot be read.
    #[error("line {line}: {detail}")]
    Syntax {
        /// Line of the defect, from 1 on.
        line: usize,
        /// Description of the defect.
        detail: String,
    },
    /// The template cannot be rendered.
    #[error("line {line}: {detail}")]
    Render {
        /// Line of the defect, from 1 on.
        line: usize,
        /// Description of the defect.
        detail: String,
    },
    /// A value that this event or Secret does not have.
    #[error("line {line}: {detail}")]
    Undefined {
        /// Line of the value, from 1 on.
        line: usize,
        /// Description of the defect.
        detail: String,
    },
    /// The template takes too many steps.
    #[error("it takes more than {FUEL} steps; use fewer or shorter loops")]
    Fuel,
    /// The result is too long.
    #[error("it renders more than {0} bytes")]
    Output(usize),
    /// The result is no JSON although the content type says so.
    #[error(
        "it does not render JSON: {0}; values are quoted by themselves, so write {{{{ backend }}}} without quotation marks"
    )]
    Json(String),
    /// The result cannot stand in a header.
    #[error("it renders characters that a header cannot hold")]
    Header,
}

/// Defect of a template that one backend meets, and another does not.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("for backend {backend}: {source}")]
pub struct BackendTemplateError {
    /// Name of the backend.
    pub backend: String,
    /// The defect.
    pub source: TemplateError,
}

/// Values that a template is rendered with.
#[derive(Serialize)]
struct TemplateContext<'a> {
    #[serde(flatten)]
    event: &'a WebhookEvent,
    #[serde(skip_serializing_if = "Option::is_none")]
    secret: Option<Value>,
}

/// Values that the template of a DNS record is rendered with.
#[derive(Serialize)]
struct RecordContext<'a> {
    backend: &'a str,
}

/// Returns true for a content type of JSON.
pub fn is_json(content_type: &str) -> bool {
    let media_type = content_type.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    media_type == "application/json" || media_type.ends_with("+json")
}

/// Checks the template of a body, by a dry run, too.
///
/// # Errors
/// [`TemplateError`] for what is wrong with it.
pub fn check_body(template: &str, content_type: &str) -> Result<(), TemplateError> {
    check(template, Names::OfEvent(&[]))?;
    match render_body(template, content_type, &WebhookEvent::sample()) {
        // A choice by the name of a backend: which of them there are is not known here.
        Err(TemplateError::Undefined { .. }) => Ok(()),
        checked => checked.map(drop),
    }
}

/// Checks that the template of a body renders for each of these backends if it does for any of them.
///
/// # Errors
/// [`BackendTemplateError`] for the first backend that it fails for.
pub fn check_body_for(template: &str, content_type: &str, backends: &[&str]) -> Result<(), BackendTemplateError> {
    check_for(template, backends, |event| render_body(template, content_type, event).err())
}

/// Renders a body. Values are quoted as JSON if the content type is JSON.
///
/// # Errors
/// [`TemplateError`] for what is wrong with it, and for a result that is too long or no JSON.
pub fn render_body(template: &str, content_type: &str, event: &WebhookEvent) -> Result<Vec<u8>, TemplateError> {
    let (is_json, context) = (is_json(content_type), TemplateContext { event, secret: None });
    let escape = if is_json { AutoEscape::Json } else { AutoEscape::None };
    let body = render(template, escape, &context, MAX_BODY)?;
    if is_json {
        serde_json::from_slice::<serde::de::IgnoredAny>(&body)
            .map_err(|error| TemplateError::Json(error.to_string()))?;
    }
    Ok(body)
}

/// Checks the template of a header's value. What it takes from a Secret is known when it is sent.
///
/// # Errors
/// [`TemplateError`] for what is wrong with it.
pub fn check_header(template: &str) -> Result<(), TemplateError> {
    check(template, Names::OfEvent(&[SECRET]))?;
    // Which keys the Secret has is not known yet.
    if template.contains(SECRET) {
        return Ok(());
    }
    match render_header(template, &WebhookEvent::sample(), &WebhookSecret::sample()) {
        // As in a body.
        Err(TemplateError::Undefined { .. }) => Ok(()),
        checked => checked.map(drop),
    }
}

/// Checks that the template of a header's value renders for each of these backends if it does for any of them. One that
/// takes something from a Secret passes.
///
/// # Errors
/// [`BackendTemplateError`] for the first backend that it fails for.
pub fn check_header_for(template: &str, backends: &[&str]) -> Result<(), BackendTemplateError> {
    if template.contains(SECRET) {
        return Ok(());
    }
    let secret = WebhookSecret::sample();
    check_for(template, backends, |event| render_header(template, event, &secret).err())
}

/// Renders a header's value, which may hold values of the Secret: `{{ secret.token }}`, `{{ secret["api-token"] }}`.
///
/// # Errors
/// [`TemplateError`] for what is wrong with it, and for a result that cannot stand in a header.
pub fn render_header(template: &str, event: &WebhookEvent, secret: &WebhookSecret) -> Result<String, TemplateError> {
    let context = TemplateContext { event, secret: Some(Value::from_serialize(secret.values())) };
    let value = render(template, AutoEscape::None, &context, MAX_HEADER)?;
    let value = String::from_utf8(value).map_err(|_| TemplateError::Header)?;
    if value.chars().all(is_header_character) { Ok(value.trim().to_owned()) } else { Err(TemplateError::Header) }
}

/// Renders the data of a DNS record for a backend, which is the only name that its template has.
///
/// # Errors
/// [`TemplateError`] for what is wrong with it, and for a result that is too long.
pub fn render_record(template: &str, backend: &str) -> Result<String, TemplateError> {
    check(template, Names::OfRecord)?;
    let context = RecordContext { backend };
    let data = render(template, AutoEscape::None, &context, MAX_RECORD)?;
    Ok(String::from_utf8_lossy(&data).trim().to_owned())
}

/// Names that a template may use.
#[derive(Clone, Copy)]
enum Names<'a> {
    /// Those of an event, and these.
    OfEvent(&'a [&'static str]),
    /// That of a DNS record.
    OfRecord,
}

impl Names<'_> {
    /// The names that there are instead, if this one is unknown.
    fn instead_of(self, first: &str, field: Option<&str>) -> Option<Vec<&'static str>> {
        let Self::OfEvent(more) = self else {
            return (first != BACKEND || field.is_some()).then(|| vec![BACKEND]);
        };
        let is_known = match first {
            "transition" => field.is_none_or(|field| TRANSITION_FIELDS.contains(&field)),
            // A list.
            "active" => true,
            _ => (NAMES.contains(&first) && field.is_none()) || more.contains(&first),
        };
        let known = NAMES.iter().chain(more).copied();
        let known = if first == "transition" { TRANSITION_FIELDS.to_vec() } else { known.collect() };
        (!is_known).then_some(known)
    }
}

/// Checks by dry runs that no backend has a failure of its own.
// Reasons and times of a transition are not known before. A template that fails for every backend alike may fail
// because of them; if it does not, the first event tells.
fn check_for(
    template: &str,
    backends: &[&str],
    failure: impl Fn(&WebhookEvent) -> Option<TemplateError>,
) -> Result<(), BackendTemplateError> {
    if !depends_on_backend(template) {
        return Ok(());
    }
    let [first, others @ ..] = SAMPLE_KINDS;
    let mut failing = vec![];
    for backend in backends {
        if let Some(source) = failure(&WebhookEvent::sample_to(backend, first)) {
            failing.push(BackendTemplateError { backend: (*backend).to_owned(), source });
        }
    }
    if failing.len() == backends.len() {
        return Ok(());
    }
    for error in failing {
        if others.iter().all(|kind| failure(&WebhookEvent::sample_to(&error.backend, *kind)).is_some()) {
            return Err(error);
        }
    }
    Ok(())
}

/// Returns true if a template uses the backend of an event, and neither the shares nor the backend that was left, which
/// differ between the events that lead to it.
fn depends_on_backend(template: &str) -> bool {
    let environment = environment(AutoEscape::None);
    let Ok(compiled) = environment.template_from_str(template) else { return false };
    let used = compiled.undeclared_variables(true);
    let differs = |name: &String| matches!(&**name, "transition" | "transition.from") || name.starts_with("active");
    used.iter().any(|name| matches!(&**name, BACKEND | "transition.to")) && !used.iter().any(differs)
}

/// Checks what a dry run of one case would not find.
fn check(template: &str, names: Names<'_>) -> Result<(), TemplateError> {
    if template.len() > MAX_TEMPLATE {
        return Err(TemplateError::TooLong);
    }
    for (at, _) in template.match_indices("{%") {
        let statement = template[at + 2..].trim_start_matches(['-', '+']).trim_start();
        let word: String = statement.chars().take_while(char::is_ascii_alphanumeric).take(20).collect();
        if !STATEMENTS.contains(&word.as_str()) {
            return Err(TemplateError::Statement(word));
        }
    }
    // Repeating a list a billion times costs no step.
    if template.contains('*') && (template.contains("{{") || template.contains("{%")) {
        return Err(TemplateError::Asterisk);
    }
    let environment = environment(AutoEscape::None);
    let compiled = environment.template_from_str(template).map_err(|error| syntax(&error))?;
    let mut used: Vec<_> = compiled.undeclared_variables(true).into_iter().collect();
    used.sort();
    for name in used {
        let mut parts = name.split('.');
        let (first, field) = (parts.next().unwrap_or_default(), parts.next());
        if let Some(known) = names.instead_of(first, field) {
            return Err(TemplateError::UnknownName(name, known.join(", ")));
        }
    }
    Ok(())
}

fn environment<'source>(escape: AutoEscape) -> Environment<'source> {
    let mut environment = Environment::empty();
    environment.set_fuel(Some(FUEL));
    environment.set_recursion_limit(RECURSION);
    environment.set_undefined_behavior(UndefinedBehavior::Strict);
    environment.set_auto_escape_callback(move |_| escape);
    environment.add_filter("upper", |text: String| bounded(text.to_uppercase()));
    environment.add_filter("lower", |text: String| bounded(text.to_lowercase()));
    environment.add_filter("urlencode", |text: String| bounded(url_encoded(&text)));
    environment.add_filter("tojson", |value: Value| {
        let text = serde_json::to_string(&value)
            .map_err(|error| minijinja::Error::new(ErrorKind::BadSerialization, error.to_string()))?;
        bounded(text).map(Value::from_safe_string)
    });
    environment
}

/// The result of a filter, within the bound.
// A chain of filters could double it with each.
fn bounded(text: String) -> Result<String, minijinja::Error> {
    if text.len() > MAX_FILTERED {
        let detail = format!("a filter makes more than {MAX_FILTERED} bytes");
        return Err(minijinja::Error::new(ErrorKind::InvalidOperation, detail));
    }
    Ok(text)
}

/// Text for a form or a query: all but unreserved characters (RFC 3986 §2.3) as escapes.
fn url_encoded(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            encoded.push(char::from(byte));
        } else {
            let _ = write!(encoded, "%{byte:02X}");
        }
    }
    encoded
}

fn render(
    template: &str,
    escape: AutoEscape,
    context: &impl Serialize,
    bound: usize,
) -> Result<Vec<u8>, TemplateError> {
    let environment = environment(escape);
    let compiled = environment.template_from_str(template).map_err(|error| syntax(&error))?;
    let mut output = BoundedOutput { bytes: vec![], bound, is_full: false };
    match compiled.render_captured_to(context, &mut output) {
        Ok(_) => Ok(output.bytes),
        Err(_) if output.is_full => Err(TemplateError::Output(bound)),
        Err(error) if error.kind() == ErrorKind::OutOfFuel => Err(TemplateError::Fuel),
        Err(error) if error.kind() == ErrorKind::UndefinedError => {
            Err(TemplateError::Undefined { line: error.line().unwrap_or(1), detail: detail(&error) })
        }
        Err(error) => Err(TemplateError::Render { line: error.line().unwrap_or(1), detail: detail(&error) }),
    }
}

fn syntax(error: &minijinja::Error) -> TemplateError {
    TemplateError::Syntax { line: error.line().unwrap_or(1), detail: detail(error) }
}

/// The kind of an error and its detail, without the source of the template or any value.
fn detail(error: &minijinja::Error) -> String {
    match error.detail() {
        Some(detail) => format!("{}: {detail}", error.kind()),
        None => error.kind().to_string(),
    }
}

/// Output that takes so many bytes and no more.
struct BoundedOutput {
    bytes: Vec<u8>,
    bound: usize,
    is_full: bool,
}

impl io::Write for BoundedOutput {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.bytes.len() + bytes.len() > self.bound {
            self.is_full = true;
            return Err(io::Error::other("the bound is reached"));
        }
        self.bytes.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
#[path = "template_tests.rs"]
mod tests;
