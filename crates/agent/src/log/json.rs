//! Lines of the log as JSON objects: of journald (`journalctl -o json`), of rsyslog, of container images that have
//! rsyslog write JSON, and of a container engine around a line with a header. Pure.

use serde_json::{Map, Value};

use super::line::{LogLine, split_tag};

/// Names of the field with the message, in the order in which they are looked for.
const MESSAGE: [&str; 5] = ["MESSAGE", "message", "msg", "log", "short_message"];
/// Name of the field in which a container engine writes a line of a container.
const ENGINE: &str = "log";
/// Name and values of the field beside it.
const STREAM: (&str, [&str; 2]) = ("stream", ["stdout", "stderr"]);
/// Names of the field with the program, with its process or without.
// rsyslog's `programname` ends at the first slash, so it comes last.
const PROGRAM: [&str; 12] = [
    "SYSLOG_IDENTIFIER",
    "syslogtag",
    "syslog-tag",
    "syslog_tag",
    "tag",
    "app-name",
    "appname",
    "app_name",
    "ident",
    "program",
    "process",
    "programname",
];
/// Names of the field with the process.
const PROCESS: [&str; 6] = ["_PID", "SYSLOG_PID", "procid", "process_id", "processid", "pid"];

/// Parses a line that is one JSON object, or one of a container engine around such a line.
pub(super) fn parse(line: &str) -> Option<LogLine<'static>> {
    let object: Map<String, Value> = serde_json::from_str(line).ok()?;
    let is_of_engine = object.get(STREAM.0).and_then(Value::as_str).is_some_and(|name| STREAM.1.contains(&name));
    let within = object.get(ENGINE).and_then(Value::as_str).map(str::trim).filter(|line| line.starts_with('{'));
    match within {
        Some(line) if is_of_engine => of_object(&serde_json::from_str(line).ok()?),
        Some(_) | None => of_object(&object),
    }
}

fn of_object(object: &Map<String, Value>) -> Option<LogLine<'static>> {
    let message = MESSAGE.iter().find_map(|name| object.get(*name).and_then(text))?;
    let message = message.trim_end();
    let Some(program) = PROGRAM.iter().find_map(|name| object.get(*name).and_then(Value::as_str)) else {
        // A container engine's: the header stands in the line that it took. What else is written as JSON has no header
        // of Postfix's, but perhaps a stranger's text.
        let line = object.get(ENGINE).and_then(text).filter(|line| !line.starts_with('{'))?;
        return LogLine::parse(&line).map(LogLine::into_owned);
    };
    let program = program.trim_end_matches(':');
    let (program, in_tag) = match program.strip_suffix(']').and_then(split_tag) {
        Some((program, process)) => (program, Some(process)),
        None => (program, None),
    };
    let process = PROCESS.iter().find_map(|name| object.get(*name).and_then(number));
    Some(LogLine::new(program, process.or(in_tag), message.trim_start()).into_owned())
}

/// Returns a text; journald writes one that is no UTF-8 as a list of bytes.
fn text(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Array(bytes) => {
            let bytes: Option<Vec<u8>> = bytes.iter().map(|byte| u8::try_from(byte.as_u64()?).ok()).collect();
            Some(String::from_utf8_lossy(&bytes?).into_owned())
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::Object(_) => None,
    }
}

fn number(value: &Value) -> Option<u32> {
    match value {
        Value::String(text) => text.parse().ok(),
        Value::Number(number) => number.as_u64().and_then(|number| number.try_into().ok()),
        Value::Null | Value::Bool(_) | Value::Array(_) | Value::Object(_) => None,
    }
}
