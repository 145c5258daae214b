//! Removal of what outlives the namespaces of a node: control groups, and the folder with its data.
//!
//! Both carry one name. The process outside holds a lock on a file in the folder as long as it
//! lives. When it ends in order, it removes both. If it is killed, the next start finds the remains
//! by their free lock, and removes them.

use std::fs::{self, File};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::thread::sleep;
use std::time::Duration;

use anyhow::{Context, Result};

/// The prefix of the names of a node's folder and control groups.
pub(super) const NODE_PREFIX: &str = "mail-failover-node-";
/// The folder of data that is useless once the node has ended: images, containers, etcd's files.
const DISPOSABLE: &str = "disposable";
/// The lock file; a folder without it is kept for a person to read.
const LOCK: &str = "in-use";
const CONTROL_GROUPS: &str = "/sys/fs/cgroup";

/// Inside: the folder for data that nobody needs, not even after a failure.
///
/// # Errors
/// When it cannot be made.
pub(crate) fn disposable_folder() -> Result<PathBuf> {
    let folder = std::env::temp_dir().join(DISPOSABLE);
    fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
    Ok(folder)
}

/// Inside: the name that the node's control groups have in each hierarchy, as a path from its root.
///
/// # Errors
/// When this is not inside.
pub(crate) fn control_group() -> Result<String> {
    let folder = std::env::temp_dir();
    let name = folder.file_name().context("a temporary folder has a name")?.to_string_lossy();
    anyhow::ensure!(name.starts_with(NODE_PREFIX), "this process is not inside the namespaces of a node");
    Ok(format!("/{name}"))
}

/// The remains of one node. They are removed when this is dropped, except for what people read
/// after a failure.
pub(super) struct Leftovers {
    folder: PathBuf,
    lock: File,
}

impl Leftovers {
    /// Claims a folder for a new node, makes its control groups, and removes the remains of dead
    /// nodes beside it.
    pub fn of(folder: &Path) -> Result<Self> {
        if let Some(beside) = folder.parent() {
            sweep(beside);
        }
        // The file gets its final name only once it is locked. Otherwise a start at the same time would
        // take it for a dead node's.
        let unfinished = folder.join("in-use.unfinished");
        let lock = File::create(&unfinished).with_context(|| format!("cannot write {}", unfinished.display()))?;
        lock.lock().with_context(|| format!("cannot lock {}", unfinished.display()))?;
        fs::rename(&unfinished, folder.join(LOCK))?;
        let leftovers = Self { folder: folder.to_owned(), lock };
        for group in control_groups(folder) {
            make_control_group(&group)?;
        }
        Ok(leftovers)
    }
}

impl Drop for Leftovers {
    fn drop(&mut self) {
        remove_control_groups(&self.folder);
        if !super::keep() {
            let _ = remove_folder(&self.folder.join(DISPOSABLE));
        }
        let _ = fs::remove_file(self.folder.join(LOCK));
        let _ = self.lock.unlock();
    }
}

/// Removes the remains of killed nodes.
fn sweep(beside: &Path) {
    let Ok(entries) = fs::read_dir(beside) else { return };
    for folder in entries.flatten().map(|entry| entry.path()) {
        let is_node = folder.file_name().is_some_and(|name| name.to_string_lossy().starts_with(NODE_PREFIX));
        let Some(lock) = is_node.then(|| File::open(folder.join(LOCK)).ok()).flatten() else { continue };
        if lock.try_lock().is_ok() {
            eprintln!("removing the remains of a killed node: {}", folder.display());
            remove_control_groups(&folder);
            if let Err(error) = remove_folder(&folder) {
                eprintln!("{} could not be removed: {error}", folder.display());
            }
        }
    }
}

/// The control group of a node in each hierarchy of this machine: one for version 2, many for version 1.
fn control_groups(folder: &Path) -> Vec<PathBuf> {
    let root = Path::new(CONTROL_GROUPS);
    let Some(name) = folder.file_name() else { return Vec::new() };
    if root.join("cgroup.controllers").exists() {
        return vec![root.join(name)];
    }
    let entries = fs::read_dir(root).into_iter().flatten().flatten().map(|entry| entry.path());
    // Some names are links to others.
    let hierarchies = entries.filter(|path| !path.is_symlink() && path.join("cgroup.procs").exists());
    hierarchies.map(|hierarchy| hierarchy.join(name)).collect()
}

fn make_control_group(group: &Path) -> Result<()> {
    fs::create_dir(group).with_context(|| {
        format!("cannot make the control group {}; in a container, run it with `--privileged`", group.display())
    })?;
    let Some(parent) = group.parent() else { return Ok(()) };
    if parent.join("cgroup.controllers").exists() {
        // Version 2: a group has the controllers that its parent enables. The kubelet reports a missing one.
        let controllers = fs::read_to_string(parent.join("cgroup.controllers")).unwrap_or_default();
        for controller in controllers.split_whitespace() {
            for giver in [parent, group] {
                let _ = fs::write(giver.join("cgroup.subtree_control"), format!("+{controller}"));
            }
        }
    }
    // Version 1: a new cpuset is empty, and no process may run in it.
    for file in ["cpuset.cpus", "cpuset.mems"] {
        if let Ok(value) = fs::read_to_string(parent.join(file)) {
            let _ = fs::write(group.join(file), value.trim());
        }
    }
    Ok(())
}

/// Removes the control groups of a node, deepest first. Processes that were just killed may still be leaving them.
fn remove_control_groups(folder: &Path) {
    for group in control_groups(folder) {
        for _ in 0..100 {
            match remove_group(&group) {
                Ok(()) => break,
                Err(error) if error.kind() == ErrorKind::NotFound => break,
                Err(_) => sleep(Duration::from_millis(50)),
            }
        }
        if group.exists() {
            eprintln!("the control group {} could not be removed", group.display());
        }
    }
}

fn remove_group(group: &Path) -> std::io::Result<()> {
    for entry in fs::read_dir(group)?.flatten() {
        if entry.file_type()?.is_dir() {
            remove_group(&entry.path())?;
        }
    }
    fs::remove_dir(group)
}

fn remove_folder(folder: &Path) -> std::io::Result<()> {
    match fs::remove_dir_all(folder) {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use tempfile::TempDir;

    use super::*;

    fn left_by(beside: &TempDir, name: &str) -> PathBuf {
        let folder = beside.path().join(format!("{NODE_PREFIX}{name}"));
        fs::create_dir_all(folder.join(DISPOSABLE)).expect("made");
        folder
    }

    #[test]
    fn what_a_dead_node_left_is_removed_and_nothing_else() {
        let beside = TempDir::new().expect("a folder");
        let dead = left_by(&beside, "dead");
        fs::write(dead.join(LOCK), "").expect("written");
        let kept = left_by(&beside, "kept-for-a-person");
        let running = left_by(&beside, "running");
        let lock = File::create(running.join(LOCK)).expect("made");
        lock.lock().expect("locked");
        let other = beside.path().join("mail-failover-other");
        fs::create_dir_all(&other).expect("made");
        fs::write(other.join(LOCK), "").expect("written");
        sweep(beside.path());
        assert!(!dead.exists());
        for folder in [kept, running, other] {
            assert!(folder.exists(), "{}", folder.display());
        }
    }
}
