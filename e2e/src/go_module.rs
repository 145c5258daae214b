//! Sources of Go modules, for files that other projects keep beside their programs, such as
//! resource definitions.
//!
//! It builds nothing; [`Binaries`](crate::control_plane::Binaries) does.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};
use serde::Deserialize;

use crate::helm::{objects, repository};

/// The part of the output of `go mod download -json` that is read here.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Downloaded {
    dir: PathBuf,
}

/// A module that a go.mod in `e2e/tools` requires, whose go.sum has its checksum.
#[derive(Clone, Copy, Debug)]
pub struct GoModule {
    /// The folder in `e2e/tools`.
    pub tools: &'static str,
    /// The module's path: `github.com/fluxcd/source-controller`.
    pub path: &'static str,
}

impl GoModule {
    /// The folder of its read-only source; downloaded if it is missing.
    ///
    /// # Errors
    /// When it is not required there, or when Go cannot download it or finds another checksum.
    pub fn source(self) -> Result<PathBuf> {
        let Self { tools, path } = self;
        let folder = repository("e2e/tools").join(tools);
        let go_mod = fs::read_to_string(folder.join("go.mod")).with_context(|| folder.display().to_string())?;
        let version = required_version(&go_mod, path)
            .with_context(|| format!("{} does not require {path}", folder.join("go.mod").display()))?;
        let what = format!("{path}@{version}");
        let output = Command::new("go")
            .args(["mod", "download", "-json", &what])
            .current_dir(folder)
            .env("GOWORK", "off")
            .output()
            .context("cannot start go")?;
        ensure!(output.status.success(), "go mod download {what}: {}", String::from_utf8_lossy(&output.stdout));
        let Downloaded { dir } = serde_json::from_slice(&output.stdout).with_context(|| what.clone())?;
        Ok(dir)
    }
}

/// All objects in the files of a folder, in the order of their names.
///
/// # Errors
/// When one cannot be read, or is no YAML.
pub fn manifests(folder: &Path) -> Result<Vec<serde_json::Value>> {
    let mut paths = fs::read_dir(folder)
        .with_context(|| folder.display().to_string())?
        .map(|entry| Ok(entry?.path()))
        .collect::<Result<Vec<_>>>()?;
    paths.sort();
    let mut all = Vec::new();
    for path in paths {
        all.extend(objects(&fs::read_to_string(&path)?).with_context(|| path.display().to_string())?);
    }
    Ok(all)
}

/// The version in a go.mod's `require`, in a block or on a line of its own.
pub(crate) fn required_version<'a>(go_mod: &'a str, module: &str) -> Option<&'a str> {
    go_mod.lines().find_map(|line| {
        let mut words = line.trim().trim_start_matches("require ").split_whitespace();
        (words.next() == Some(module)).then(|| words.next()).flatten().filter(|version| version.starts_with('v'))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_version_is_what_go_mod_requires() {
        let cases = [
            ("require k8s.io/kubernetes v1.2.3\n", Some("v1.2.3")),
            ("require (\n\tk8s.io/kubernetes v1.2.3 // indirect\n)\n", Some("v1.2.3")),
            ("replace (\n\tk8s.io/kubernetes => ./here\n)\n", None),
            ("tool k8s.io/kubernetes/cmd/kubectl\n", None),
        ];
        for (go_mod, version) in cases {
            assert_eq!(required_version(go_mod, "k8s.io/kubernetes"), version, "{go_mod}");
        }
    }
}
