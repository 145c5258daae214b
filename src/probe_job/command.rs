//! `mail-failover probe`: one probe round at one backend, and its result in a file.

use std::fs::File;
use std::io::{self, Read, Write};
use std::net::SocketAddr;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use super::arguments::ProbeArguments;
use super::report;
use crate::probe::{self, Settings, Target};
use mail_failover_core::model::{
    Destination, Envelope, EvidenceClass, Login, ObjectKey, Outcome, ProbeKey, ProbeLogin, SmtpHost, Stage, Tls,
    TrustAnchors,
};
use mail_failover_resolve::certificates;
use mail_failover_runtime::clock::Clock;
use mail_failover_runtime::process::hostname;

/// Most bytes of a mounted file. Kubernetes keeps no larger object.
const MAX_FILE: u64 = 1024 * 1024;

/// Runs one round and writes its result. A failing backend is a result and no error.
///
/// # Errors
/// The round could not be started, or the result cannot be written.
pub fn run(arguments: &ProbeArguments, output: &mut impl Write) -> Result<ExitCode, String> {
    // With two providers linked and none chosen rustls panics at the first handshake.
    drop(rustls::crypto::ring::default_provider().install_default());
    let outcome = match target(arguments) {
        Ok(target) => look(arguments, target)?,
        Err(missing) => blocked(&missing),
    };
    let line = report::line(&outcome);
    writeln!(output, "{line}").map_err(|error| format!("the result cannot be written: {error}"))?;
    if let Some(file) = &arguments.result_file {
        std::fs::write(file, &line).map_err(|error| format!("{} cannot be written: {error}", file.display()))?;
    }
    Ok(ExitCode::SUCCESS)
}

fn look(arguments: &ProbeArguments, target: Target) -> Result<Outcome, String> {
    let settings = Settings {
        concurrency: probe::MAX_ADDRESSES,
        dns_servers: Vec::<SocketAddr>::new(),
        ehlo_name: arguments.ehlo_name.clone().unwrap_or_else(hostname),
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| format!("cannot start: {error}"))?;
    let report = runtime.block_on(probe::once(&settings, Clock::system(), target));
    Ok(report.map_err(|error| error.to_string())?.outcome)
}

/// The target of the round, or a message about what is missing for it.
fn target(arguments: &ProbeArguments) -> Result<Target, String> {
    let host: Arc<str> = arguments.host.trim_end_matches('.').into();
    let trust = match &arguments.ca_file {
        None => TrustAnchors::WellKnown,
        Some(file) => {
            let missing = |why: String| format!("tls.caRef: {why}; create the object that it names, with that key");
            let certificates = certificates(&read(file).map_err(missing)?);
            TrustAnchors::Pem(certificates.map_err(|error| missing(error.to_string()))?.into())
        }
    };
    let login = match &arguments.login_folder {
        None => ProbeLogin::None,
        Some(folder) => login(folder),
    };
    Ok(Target {
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
    })
}

/// The login in a mounted Secret.
fn login(folder: &Path) -> ProbeLogin {
    // The Secret is mounted as optional: the pod starts without it, and the result can name what is missing.
    let part = |name: &str| {
        let bytes = read(&folder.join(name)).map_err(|why| format!("key {name}: {why}"))?;
        Login::part(bytes).map_err(|why| format!("key {name}: {why}"))
    };
    match (part("username"), part("password")) {
        (Ok(username), Ok(password)) => ProbeLogin::With(Login::new(username, password)),
        (Err(why), _) | (_, Err(why)) => ProbeLogin::Missing {
            reason: "SecretMalformed",
            message: format!("auth.secretRef: {why}; create the Secret with the keys username and password").into(),
        },
    }
}

fn read(file: &Path) -> Result<Vec<u8>, String> {
    let mut bytes = vec![];
    let read = File::open(file).and_then(|file| file.take(MAX_FILE).read_to_end(&mut bytes));
    read.map_err(|error| {
        if error.kind() == io::ErrorKind::NotFound { "it is not there".to_owned() } else { error.to_string() }
    })?;
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
