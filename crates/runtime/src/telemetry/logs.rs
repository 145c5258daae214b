//! Structured logs to standard error.

use std::io::{IsTerminal, stderr};
use std::str::FromStr;

use tracing_subscriber::EnvFilter;
use tracing_subscriber::util::SubscriberInitExt;

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
    let builder = tracing_subscriber::fmt().with_env_filter(self::filter(filter)?).with_writer(stderr);
    match format {
        LogFormat::Text => builder.with_ansi(stderr().is_terminal()).finish().try_init()?,
        LogFormat::Json => builder.json().flatten_event(true).finish().try_init()?,
    }
    Ok(())
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

    fn logged(filter: &str) -> String {
        let buffer = Buffer::default();
        let writer = buffer.clone();
        let filter = super::filter(filter).expect("a valid filter");
        let subscriber = tracing_subscriber::fmt()
            .with_env_filter(filter)
            .with_ansi(false)
            .with_writer(move || writer.clone())
            .finish();
        tracing::subscriber::with_default(subscriber, || {
            tracing::info!("ours at info");
            tracing::debug!("ours at debug");
            tracing::error!(target: "kube_client::client", "kube's");
        });
        let text = buffer.0.lock().expect("not poisoned").clone();
        String::from_utf8(text).expect("text")
    }

    #[test]
    fn libraries_are_quiet_unless_the_filter_names_them() {
        for (filter, want) in [
            ("info", vec!["ours at info"]),
            ("debug", vec!["ours at info", "ours at debug"]),
            ("warn", vec![]),
            ("info,kube_client=error", vec!["ours at info", "kube's"]),
        ] {
            let text = logged(filter);
            let have: Vec<_> =
                ["ours at info", "ours at debug", "kube's"].into_iter().filter(|line| text.contains(line)).collect();
            assert_eq!(have, want, "{filter}");
        }
    }

    #[test]
    fn a_filter_that_cannot_be_read_is_named() {
        let error = filter("loud=very").expect_err("no such level").to_string();
        assert!(error.contains("loud=very"), "{error}");
    }
}
