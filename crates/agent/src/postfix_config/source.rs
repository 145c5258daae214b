//! Sources of a configuration: `postconf`, with a deadline, or files.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use tokio::process::Command;
use tokio::time::timeout;

use super::configuration::Configuration;

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
    Ok(Configuration::parse(&main_cf).with_services(&master_cf).with_table_types(&types))
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
