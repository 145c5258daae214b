//! Compilation of test programs by cargo, and their paths.

use std::collections::BTreeSet;
use std::env;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};
use serde_json::Value;

use super::Set;
use super::table::set_of;

/// A compiled test program.
#[derive(Clone, Debug)]
pub struct Executable {
    /// The name of its target; of unit tests, that of the library or program and `unit`.
    pub name: String,
    pub path: PathBuf,
    /// The folder of its package, in which cargo would start it.
    pub folder: PathBuf,
}

/// The folder that cargo builds into: this program lies in a profile's folder of it.
///
/// # Errors
/// When this program has no path.
pub fn target_folder() -> Result<PathBuf> {
    let us = env::current_exe().context("the path of this program")?;
    us.ancestors().nth(2).map(Path::to_owned).context("this program lies in a target folder")
}

/// Compiles the test programs of a set, and the programs that they start.
///
/// # Errors
/// When something does not compile; cargo has said what.
pub fn compile(set: Set) -> Result<Vec<Executable>> {
    let mut targets: Vec<String> = Vec::new();
    match set {
        Set::All => targets.push("--tests".to_owned()),
        Set::Check | Set::Test | Set::E2e => {
            if set != Set::E2e {
                targets.extend(["--lib", "--bins"].map(ToOwned::to_owned));
            }
            for name in test_targets()?.into_iter().filter(|name| set_of(name).is_part_of(set)) {
                targets.extend(["--test".to_owned(), name]);
            }
        }
    }
    if set != Set::Check {
        cargo(
            // Tests of a package take its programs along, with the features that tests unite: `cargo build` would
            // compile all dependencies a second time, without them.
            &["test", "--workspace", "--locked", "--no-run", "--test", "agent_process", "--test", "cluster"],
            &[],
        )?;
    }
    let messages = cargo(
        &["test", "--workspace", "--locked", "--no-run", "--message-format", "json-render-diagnostics"],
        &targets,
    )?;
    Ok(messages.lines().filter_map(|line| executable(&serde_json::from_str(line).ok()?)).collect())
}

/// The names of all integration tests of the workspace.
fn test_targets() -> Result<BTreeSet<String>> {
    let metadata = cargo(&["metadata", "--no-deps", "--format-version", "1", "--locked"], &[])?;
    let metadata: Value = serde_json::from_str(&metadata).context("cargo metadata")?;
    let packages = metadata["packages"].as_array().context("packages")?;
    let targets = packages.iter().flat_map(|package| package["targets"].as_array().into_iter().flatten());
    let tests = targets.filter(|target| is_of_kind(target, "test"));
    Ok(tests.filter_map(|target| target["name"].as_str().map(ToOwned::to_owned)).collect())
}

fn is_of_kind(target: &Value, kind: &str) -> bool {
    target["kind"].as_array().is_some_and(|kinds| kinds.iter().any(|one| one == kind))
}

/// The test program in one of cargo's messages, if the message is about one.
fn executable(message: &Value) -> Option<Executable> {
    if message["reason"] != "compiler-artifact" || message["profile"]["test"] != true {
        return None;
    }
    let path = PathBuf::from(message["executable"].as_str()?);
    let folder = Path::new(message["manifest_path"].as_str()?).parent()?.to_owned();
    let name = message["target"]["name"].as_str()?;
    let name = if is_of_kind(&message["target"], "test") { name.to_owned() } else { format!("{name} unit") };
    Some(Executable { name, path, folder })
}

/// Runs cargo in the workspace and returns its standard output.
fn cargo(arguments: &[&str], more: &[String]) -> Result<String> {
    let program = env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let output = Command::new(program)
        .args(arguments)
        .args(more)
        .current_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/.."))
        .env("CARGO_TARGET_DIR", target_folder()?)
        .stdin(Stdio::null())
        .stderr(Stdio::inherit())
        .output()
        .context("cannot start cargo")?;
    if !output.status.success() {
        bail!("cargo {} failed ({})", arguments.first().unwrap_or(&""), output.status);
    }
    String::from_utf8(output.stdout).context("cargo's output is UTF-8")
}
