//! Structured logs to standard error. What a terminal would not show as it is, is escaped.

use std::io::{IsTerminal, Write, stderr};
use std::str::FromStr;

use tracing::Subscriber;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::util::SubscriberInitExt;

use crate::terminal::{TerminalWriter, TextForm};

/// Filter for the logs of libraries, unless the user's filter names them.
// kube logs each failure that the operator reports in its own words, and the whole text of an answer that it cannot
// read: that may be a Secret.
const LIBRARIES: &str =
    "kube_client=off,kube_runtime=off,hyper_util=warn,hickory_proto=error,hickory_resolver=error,hickory_net=error";

/// Format of the log's lines.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum LogFormat {
    /// Text for people to read.
    #[default]
    Text,
    /// One JSON object per line.
    Json,
}

/// Errors of setting up logs.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// The filter cannot be read.
    #[error(
        "the log filter {filter:?} cannot be read: {source}; use a level such as info or debug, or directives such as mail_failover=debug,info"
    )]
    Filter {
        /// Filter as it was given.
        filter: String,
        /// Error of the filter's parser.
        source: tracing_subscriber::filter::ParseError,
    },
    /// Logs have been set up before.
    #[error("logs are set up already")]
    Twice(#[from] tracing_subscriber::util::TryInitError),
}

/// Sends the process's logs to standard error from now on. The filter is a level or a list of `tracing` directives.
pub fn init(filter: &str, format: LogFormat) -> Result<(), LogError> {
    Ok(subscriber(self::filter(filter)?, format, stderr().is_terminal(), stderr).try_init()?)
}

fn subscriber<W: Write>(
    filter: EnvFilter,
    format: LogFormat,
    is_terminal: bool,
    writer: impl Fn() -> W + Send + Sync + 'static,
) -> Box<dyn Subscriber + Send + Sync> {
    let form = match format {
        LogFormat::Text if is_terminal => TextForm::StyledLines,
        LogFormat::Text => TextForm::Lines,
        LogFormat::Json => TextForm::Json,
    };
    let builder = tracing_subscriber::fmt().with_env_filter(filter);
    let builder = builder.with_writer(move || TerminalWriter::of(form, writer()));
    match format {
        LogFormat::Text => Box::new(builder.with_ansi(is_terminal).finish()),
        LogFormat::Json => Box::new(builder.json().flatten_event(true).finish()),
    }
}

fn filter(filter: &str) -> Result<EnvFilter, LogError> {
    // Of two directives for the same target the later counts, so the user has the last word about libraries too.
    EnvFilter::from_str(&format!("{LIBRARIES},{filter}"))
        .map_err(|source| LogError::Filter { filter: filter.to_owned(), source })
}

#[cfg(test)]
mod tests {
    use std::io;
    use std::sync::{Arc, Mutex};

    use super::*;

    #[derive(Clone, Default)]
    struct Buffer(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Buffer {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().expect("not poisoned").write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn logged(filter: &str, format: LogFormat, is_terminal: bool, log: fn()) -> String {
        let buffer = Buffer::default();
        let writer = buffer.clone();
        let filter = super::filter(filter).expect("a valid filter");
        tracing::subscriber::with_default(subscriber(filter, format, is_terminal, move || writer.clone()), log);
        let text = buffer.0.lock().expect("not poisoned").clone();
        String::from_utf8(text).expect("text")
    }

    fn log_at_several_levels() {
        tracing::info!("ours at info");
        tracing::debug!("ours at debug");
        tracing::error!(target: "kube_client::client", "kube's");
    }

    fn log_what_a_stranger_wrote() {
        let name = "\x1b[2J\u{202e}evil\u{200b}";
        tracing::info!(%name, debug = ?name, "a reply: {name}");
    }

    #[test]
    fn libraries_are_quiet_unless_the_filter_names_them() {
        for (filter, want) in [
            ("info", vec!["ours at info"]),
            ("debug", vec!["ours at info", "ours at debug"]),
            ("warn", vec![]),
            ("info,kube_client=error", vec!["ours at info", "kube's"]),
        ] {
            let text = logged(filter, LogFormat::Text, false, log_at_several_levels);
            let have: Vec<_> =
                ["ours at info", "ours at debug", "kube's"].into_iter().filter(|line| text.contains(line)).collect();
            assert_eq!(have, want, "{filter}");
        }
    }

    #[test]
    fn no_line_holds_what_a_terminal_would_obey_or_hide() {
        for (format, is_terminal) in [(LogFormat::Text, false), (LogFormat::Text, true), (LogFormat::Json, false)] {
            let text = logged("info", format, is_terminal, log_what_a_stranger_wrote);
            assert!(text.contains("evil"), "{text}");
            for hidden in ["\x1b[2J", "\u{202e}", "\u{200b}"] {
                assert!(!text.contains(hidden), "{format:?}, {is_terminal}: {text:?}");
            }
            // Colours are the log's own.
            assert_eq!(text.contains('\x1b'), is_terminal, "{text:?}");
            if format == LogFormat::Json {
                let line: serde_json::Value = serde_json::from_str(&text).expect("still JSON");
                assert_eq!(line["name"], "\x1b[2J\u{202e}evil\u{200b}", "nothing is lost");
            }
        }
    }

    #[test]
    fn a_filter_that_cannot_be_read_is_named() {
        let error = filter("loud=very").expect_err("no such level").to_string();
        assert!(error.contains("loud=very"), "{error}");
    }
}
