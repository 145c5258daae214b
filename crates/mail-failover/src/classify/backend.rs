//! The rules of a backend in a manifest.

use std::path::Path;

use mail_failover_api::SendingBackend;
use mail_failover_core::model::{ReplyRules, Timestamp};
use mail_failover_resolve::reply_rules;
use mail_failover_tools::lint::{Linter, ManifestFinding, SchemaError, Severity};
use mail_failover_tools::manifests::{self, Manifest, ManifestError, Objects};

/// Error of a manifest that gives no rules to read replies by.
#[derive(Debug, thiserror::Error)]
pub enum BackendFileError {
    /// The file cannot be read, or an object in it.
    #[error("{}", listed(.0))]
    Unreadable(Vec<ManifestError>),
    /// The file has no such backend.
    #[error("{file} has no SendingBackend{name}; it has {known}")]
    NotFound {
        /// The file.
        file: String,
        /// The name that was asked for, as a part of the sentence; empty for any.
        name: String,
        /// The names that the file has.
        known: String,
    },
    /// The file has several backends.
    #[error("{file} has several SendingBackends: {known}; choose one with --backend")]
    Ambiguous {
        /// The file.
        file: String,
        /// Their names.
        known: String,
    },
    /// This program's own resource definitions cannot be used.
    #[error(transparent)]
    Schema(#[from] SchemaError),
    /// Rules of the backend cannot work.
    #[error("SendingBackend {backend}: {}", .rejected.join("; "))]
    Rejected {
        /// Name of the backend.
        backend: String,
        /// The rules, each with field and reason.
        rejected: Vec<String>,
    },
}

fn listed(errors: &[ManifestError]) -> String {
    errors.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
}

/// Reads the rules of the backend of this name, or of the only one.
///
/// # Errors
/// [`BackendFileError`] if the file has no such backend, or one of its rules cannot work.
pub(super) fn rules(file: &Path, name: Option<&str>) -> Result<ReplyRules, BackendFileError> {
    let manifests = manifests::read(&[file.to_owned()]).map_err(BackendFileError::Unreadable)?.manifests;
    let Objects { backends, .. } = Objects::of(&manifests).map_err(BackendFileError::Unreadable)?;
    let known = backends.iter().map(name_of).collect::<Vec<_>>().join(", ");
    let file = file.display().to_string();
    let mut found = backends.iter().filter(|backend| name.is_none_or(|name| name_of(backend) == name));
    let backend = match (found.next(), found.next()) {
        (Some(backend), None) => backend,
        (Some(_), Some(_)) => return Err(BackendFileError::Ambiguous { file, known }),
        (None, _) => {
            let name = name.map(|name| format!(" {name}")).unwrap_or_default();
            let known = if known.is_empty() { "none".to_owned() } else { known };
            return Err(BackendFileError::NotFound { file, name, known });
        }
    };
    let spec = &backend.spec;
    let host = spec.smtp.as_ref().map(|smtp| smtp.host.as_str());
    let rules = reply_rules(spec.provider, spec.replies.as_deref().unwrap_or_default(), host);
    // What is of no shape is not repeated to the terminal as it stands.
    let (shape, values): (Vec<_>, Vec<_>) =
        refused(&manifests, name_of(backend))?.into_iter().partition(|finding| finding.rule.code == "SchemaViolation");
    let of_rules = || rules.rejected.iter().map(ToString::to_string).collect();
    for rejected in [texts(shape), of_rules(), texts(values)] {
        if !rejected.is_empty() {
            return Err(BackendFileError::Rejected { backend: name_of(backend).to_owned(), rejected });
        }
    }
    Ok(rules)
}

/// Returns what the API server would refuse of the rules of the backend of this name.
fn refused(manifests: &[Manifest], name: &str) -> Result<Vec<ManifestFinding>, SchemaError> {
    let mut findings = Linter::new()?.lint(manifests, Timestamp::default()).findings;
    findings.retain(|finding| {
        finding.rule.severity == Severity::Error
            && finding.object.starts_with("SendingBackend ")
            && finding.object.ends_with(&format!("/{name}"))
            && (finding.field.starts_with("spec.replies") || finding.field.starts_with("spec.provider"))
    });
    Ok(findings)
}

fn texts(findings: Vec<ManifestFinding>) -> Vec<String> {
    findings.into_iter().map(|finding| format!("{}: {}", finding.field, finding.message)).collect()
}

fn name_of(backend: &SendingBackend) -> &str {
    backend.metadata.name.as_deref().unwrap_or_default()
}
