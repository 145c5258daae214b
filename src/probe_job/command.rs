//! `mail-failover probe`: one probe round at one backend, and its result in a file.

use std::fs::File;
use std::io::{self, Read, Write};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use super::arguments::ProbeArguments;
use super::report;
use crate::probe::{self, ProbeTarget, Settings, StartError};
use mail_failover_api::conditions::reason;
use mail_failover_core::engine::ConfirmationRule;
use mail_failover_core::model::{
    Destination, Envelope, EvidenceClass, Login, LoginError, ObjectKey, Outcome, ProbeKey, ProbeLogin, ReplyRules,
    SmtpHost, Stage, Tls, TrustAnchors,
};
use mail_failover_replies::provider_of;
use mail_failover_resolve::{PemError, certificates};
use mail_failover_runtime::clock::Clock;
use mail_failover_runtime::process::hostname;

/// Most bytes of a mounted file. Kubernetes keeps no larger object.
const MAX_FILE: u64 = 1024 * 1024;

/// Error of a round that cannot be started, or of a result that cannot be written.
#[derive(Debug, thiserror::Error)]
pub enum ProbeCommandError {
    /// The standard output does not take the result.
    #[error("the result cannot be written: {0}")]
    Output(#[source] io::Error),
    /// The file does not take the result.
    #[error("{} cannot be written: {source}", .file.display())]
    ResultFile {
        /// The file of `--result-file`.
        file: PathBuf,
        /// The operating system's error.
        source: io::Error,
    },
    /// The asynchronous runtime does not start.
    #[error("cannot start: {0}")]
    Runtime(#[source] io::Error),
    /// The prober does not start.
    #[error(transparent)]
    Prober(#[from] StartError),
}

/// Runs one round and writes its result. A failing backend is a result and no error.
///
/// # Errors
/// The round could not be started, or the result cannot be written.
pub fn run(arguments: &ProbeArguments, output: &mut impl Write) -> Result<ExitCode, ProbeCommandError> {
    // With two providers linked and none chosen rustls panics at the first handshake.
    drop(rustls::crypto::ring::default_provider().install_default());
    let outcome = match target(arguments) {
        Ok(target) => run_round(arguments, target)?,
        Err(error) => blocked(&error.to_string()),
    };
    let line = report::line(&outcome);
    writeln!(output, "{line}").map_err(ProbeCommandError::Output)?;
    if let Some(file) = &arguments.result_file {
        std::fs::write(file, &line).map_err(|source| ProbeCommandError::ResultFile { file: file.clone(), source })?;
    }
    Ok(ExitCode::SUCCESS)
}

fn run_round(arguments: &ProbeArguments, target: ProbeTarget) -> Result<Outcome, ProbeCommandError> {
    let settings = Settings {
        // More than it needs: one namespace never has all of them.
        concurrency: 4 * probe::MAX_ADDRESSES,
        dns_servers: Vec::<SocketAddr>::new(),
        ehlo_name: probe::ehlo_name(arguments.ehlo_name.as_deref(), &hostname()),
        guard: arguments.guard.clone(),
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(ProbeCommandError::Runtime)?;
    let report = runtime.block_on(probe::once(&settings, Clock::system(), target))?;
    Ok(report.outcome)
}

/// Error of a mounted file with the certificates of an authority.
#[derive(Debug, thiserror::Error)]
#[error("tls.caRef: {0}; create the object that it names, with that key")]
enum CaFileError {
    Read(#[from] MountError),
    Content(#[from] PemError),
}

/// Error of a mounted file with a part of a login. Contains nothing of the login.
#[derive(Debug, thiserror::Error)]
enum MountedLoginError {
    #[error("key {key}: {source}")]
    Read { key: &'static str, source: MountError },
    #[error("key {key}: {source}")]
    Content { key: &'static str, source: LoginError },
}

/// Error of a mounted file that cannot be read.
#[derive(Debug, thiserror::Error)]
enum MountError {
    #[error("it is not there")]
    Absent,
    #[error(transparent)]
    Io(io::Error),
}

impl From<io::Error> for MountError {
    fn from(error: io::Error) -> Self {
        if error.kind() == io::ErrorKind::NotFound { Self::Absent } else { Self::Io(error) }
    }
}

/// The target of the round.
fn target(arguments: &ProbeArguments) -> Result<ProbeTarget, CaFileError> {
    let host: Arc<str> = arguments.host.trim_end_matches('.').into();
    let trust = match &arguments.ca_file {
        None => TrustAnchors::WellKnown,
        Some(file) => {
            let certificates = certificates(&read(file)?)?;
            TrustAnchors::Pem(certificates.into())
        }
    };
    let login = match &arguments.login_folder {
        None => ProbeLogin::None,
        Some(folder) => login(folder),
    };
    Ok(ProbeTarget {
        key: ProbeKey { backend: ObjectKey::new("", host.clone()), probe: "probe".into() },
        revision: 0,
        destination: Destination::Host(SmtpHost { host: host.clone(), port: arguments.port }),
        tls: Tls { mode: arguments.tls, server_name: arguments.server_name.as_deref().map_or(host, Into::into), trust },
        interval: Duration::ZERO,
        timeout: arguments.timeout,
        depth: arguments.depth,
        envelope: Envelope {
            sender: arguments.from.as_deref().map(Into::into),
            recipient: arguments.to.as_deref().map(Into::into),
        },
        login,
        replies: ReplyRules {
            provider: arguments.provider.clone().or_else(|| provider_of(&arguments.host).map(Arc::from)),
            rules: arguments.reply_rules.iter().flat_map(|rules| rules.iter().cloned()).map(Into::into).collect(),
            rejected: vec![],
        },
        is_used: true,
        confirmation: ConfirmationRule::default(),
        idle_session: false,
    })
}

/// The login in a mounted Secret.
fn login(folder: &Path) -> ProbeLogin {
    // The Secret is mounted as optional: the pod starts without it, and the result can name what is missing.
    match read_login(folder) {
        Ok(login) => ProbeLogin::With(login),
        Err(error) => ProbeLogin::Missing {
            reason: reason::SECRET_MALFORMED,
            message: format!("auth.secretRef: {error}; create the Secret with both keys, username and password unless it names others").into(),
        },
    }
}

fn read_login(folder: &Path) -> Result<Login, MountedLoginError> {
    Ok(Login::new(read_login_part(folder, "username")?, read_login_part(folder, "password")?))
}

fn read_login_part(folder: &Path, key: &'static str) -> Result<String, MountedLoginError> {
    let bytes = read(&folder.join(key)).map_err(|source| MountedLoginError::Read { key, source })?;
    Login::part(bytes).map_err(|source| MountedLoginError::Content { key, source })
}

fn read(file: &Path) -> Result<Vec<u8>, MountError> {
    let mut bytes = vec![];
    File::open(file)?.take(MAX_FILE).read_to_end(&mut bytes)?;
    Ok(bytes)
}

fn blocked(missing: &str) -> Outcome {
    Outcome {
        class: EvidenceClass::ProbeBlocked,
        stage: Stage::Connect,
        message: missing.to_owned(),
        certificate_not_after: None,
        elapsed: Duration::ZERO,
    }
}

#[cfg(test)]
#[path = "command_tests.rs"]
mod tests;
