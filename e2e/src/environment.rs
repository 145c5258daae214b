//! Environment variables by which a person configures a suite.

use std::env;
use std::path::{Path, PathBuf};

/// Returns true if a variable is set, and is neither empty nor 0.
pub fn is_set(name: &str) -> bool {
    env::var_os(name).is_some_and(|value| !value.is_empty() && value != "0")
}

/// Returns true if `E2E_EXHAUSTIVE` is set, as `make test-all` does: more mail, and longer outages
/// than the other commands have time for.
pub fn is_exhaustive() -> bool {
    is_set("E2E_EXHAUSTIVE")
}

/// The first value, or the second if [`is_exhaustive`].
pub fn exhaustive<T>(usually: T, exhaustively: T) -> T {
    if is_exhaustive() { exhaustively } else { usually }
}

/// The path in a variable, if it is set. Cargo starts tests in the folder of their package, so a
/// relative path is resolved against the person's working directory, which the shell puts into
/// `PWD`.
pub fn path(name: &str) -> Option<PathBuf> {
    let path = env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from)?;
    Some(from_where_one_stands(env::var_os("PWD").map(PathBuf::from).as_deref(), path))
}

fn from_where_one_stands(pwd: Option<&Path>, path: PathBuf) -> PathBuf {
    match pwd {
        Some(pwd) if pwd.is_absolute() => pwd.join(path),
        Some(_) | None => path,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_meant_from_where_one_stands() {
        let cases = [
            (Some("/home/me"), "kind.yaml", "/home/me/kind.yaml"),
            (Some("/home/me"), "/etc/kind.yaml", "/etc/kind.yaml"),
            (Some("unusable"), "kind.yaml", "kind.yaml"),
            (None, "kind.yaml", "kind.yaml"),
        ];
        for (pwd, path, expected) in cases {
            assert_eq!(from_where_one_stands(pwd.map(Path::new), path.into()), Path::new(expected), "{pwd:?} {path}");
        }
    }
}
