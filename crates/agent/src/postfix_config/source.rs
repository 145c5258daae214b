//! Sources of a configuration: `postconf`, with a deadline, or files.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::os::unix::fs::FileTypeExt as _;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use mail_failover_contract::routing::{self, Refusal, Routing};
use tokio::process::Command;
use tokio::time::timeout;

use super::configuration::{Configuration, Machine};
use crate::domain_files::{self, DomainFileError};
use crate::domains::{keys, source_of};

/// Limit for `postconf`, which reads a few files.
const DEADLINE: Duration = Duration::from_secs(10);

/// Error of a configuration that cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum ConfigReadError {
    /// A file cannot be read.
    #[error("{} cannot be read: {source}", path.display())]
    File {
        /// Path of the file.
        path: PathBuf,
        /// Error of the operating system.
        source: std::io::Error,
    },
    /// A file with local domains cannot be read.
    #[error(transparent)]
    Domains(#[from] DomainFileError),
    /// The document is none.
    #[error("{}: {source}", path.display())]
    Document {
        /// Path of the document.
        path: PathBuf,
        /// Reason for refusing it.
        source: Refusal,
    },
    /// There is no `postconf` that can be run.
    #[error("postconf cannot be run: {0}; give the files by --main-cf and --master-cf")]
    Start(std::io::Error),
    /// It does not end in time.
    #[error("postconf has not ended within {DEADLINE:?}")]
    Deadline,
    /// It ends with an error.
    #[error("postconf: {0}")]
    Refused(String),
}

/// Asks `postconf` about its own configuration, or the one in a folder.
///
/// # Errors
/// [`ConfigReadError`], with the command that failed.
pub async fn from_postconf(folder: Option<&Path>) -> Result<Configuration, ConfigReadError> {
    let main_cf = postconf(folder, "-x").await?;
    let master_cf = postconf(folder, "-M").await?;
    let types = postconf(folder, "-m").await?;
    let configuration = Configuration::parse(&main_cf).with_services(&master_cf).with_table_types(&types);
    let machine = machine(&configuration);
    Ok(configuration.on(machine))
}

/// Returns true for a named pipe, which somebody has to read. The standard output of a container has its reader.
fn is_named_pipe(log: &str) -> bool {
    !log.starts_with("/dev/") && std::fs::metadata(log).is_ok_and(|found| found.file_type().is_fifo())
}

/// Parameters whose tables and lists the rules look into.
const TABLES: [&str; 5] = [
    "transport_maps",
    "sender_dependent_default_transport_maps",
    "mydestination",
    "virtual_mailbox_domains",
    "relay_domains",
];

/// Reads the keys of the tables that have a text file beside them. The others are left out.
fn tables(configuration: &Configuration) -> BTreeMap<String, Vec<String>> {
    let mut tables = BTreeMap::new();
    for name in TABLES.into_iter().flat_map(|parameter| configuration.list(parameter)) {
        if !name.starts_with('/') && !name.contains(":/") {
            continue;
        }
        let text = source_of(name).ok().and_then(|file| domain_files::read(&file).ok());
        if let Some(text) = text {
            tables.insert(name.to_owned(), keys(&text).map(str::to_owned).collect());
        }
    }
    tables
}

/// Looks at the parts of this machine that the rules ask about.
fn machine(configuration: &Configuration) -> Machine {
    let (log, ca_file) = (configuration.value("maillog_file"), configuration.value("smtp_tls_CAfile"));
    let addresses = std::fs::read_to_string("/proc/net/if_inet6").unwrap_or_default();
    Machine {
        has_global_ipv6: has_global(&addresses),
        log_is_pipe: is_named_pipe(log),
        is_ca_file_missing: !ca_file.is_empty() && !Path::new(ca_file).exists(),
        tables: tables(configuration),
    }
}

/// True if the kernel's list of addresses (`proc_net(5)`) has a global one: `address index length scope flags device`.
fn has_global(addresses: &str) -> bool {
    const GLOBAL: &str = "00";
    addresses.lines().any(|line| {
        let mut words = line.split_whitespace();
        let (address, scope) = (words.next().unwrap_or_default(), words.nth(2));
        // fc00::/7 is global by its scope, and routed nowhere.
        scope == Some(GLOBAL) && !address.starts_with("fc") && !address.starts_with("fd")
    })
}

/// Reads main.cf and master.cf from files.
///
/// # Errors
/// [`ConfigReadError::File`], with its path.
pub fn from_files(main_cf: &Path, master_cf: Option<&Path>) -> Result<Configuration, ConfigReadError> {
    let configuration = Configuration::parse(&read(main_cf)?);
    Ok(match master_cf {
        Some(path) => configuration.with_services(&read(path)?),
        None => configuration,
    })
}

/// Reads the document of an agent.
///
/// # Errors
/// [`ConfigReadError::File`] and [`ConfigReadError::Document`], with its path.
pub fn document(path: &Path) -> Result<Routing, ConfigReadError> {
    routing::parse(&read(path)?).map_err(|source| ConfigReadError::Document { path: path.to_owned(), source })
}

fn read(path: &Path) -> Result<String, ConfigReadError> {
    std::fs::read_to_string(path).map_err(|source| ConfigReadError::File { path: path.to_owned(), source })
}

async fn postconf(folder: Option<&Path>, flag: &str) -> Result<String, ConfigReadError> {
    let mut command = Command::new("postconf");
    if let Some(folder) = folder {
        command.args([OsStr::new("-c"), folder.as_os_str()]);
    }
    let output = command.arg(flag).stdin(Stdio::null()).kill_on_drop(true).output();
    let output =
        timeout(DEADLINE, output).await.map_err(|_| ConfigReadError::Deadline)?.map_err(ConfigReadError::Start)?;
    if !output.status.success() {
        return Err(ConfigReadError::Refused(String::from_utf8_lossy(&output.stderr).trim().to_owned()));
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_an_address_of_the_internet_is_global() {
        let line = |address: &str, scope: &str| format!("{address} 02 40 {scope} 80     eth0\n");
        for (lines, expected) in [
            (line("00000000000000000000000000000001", "10"), false),
            (line("fe800000000000000000000000000001", "20"), false),
            (line("fd000000000000000000000000000001", "00"), false),
            (line("20010db8000000000000000000000001", "00"), true),
            (String::new(), false),
        ] {
            assert_eq!(has_global(&lines), expected, "{lines}");
        }
    }
}
