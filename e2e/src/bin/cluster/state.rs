//! The state of a running cluster that the commands share: a folder in which the service holds a
//! lock as long as it lives.

use std::fs::{self, File};
use std::io::{ErrorKind, Seek, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use mail_failover_e2e::control_plane::binaries::cache_folder;
use mail_failover_e2e::environment;
use rustix::process::Pid;
use serde::{Deserialize, Serialize};

/// The variable that names another folder than the usual one.
const FOLDER: &str = "MAIL_FAILOVER_CLUSTER";

/// The folder of the cluster: the one in `MAIL_FAILOVER_CLUSTER`, else `cluster` in the cache
/// folder.
pub struct ClusterState {
    folder: PathBuf,
}

/// The facts that are known once the cluster is ready.
#[derive(Debug, Deserialize, Serialize)]
pub struct Ready {
    /// The kubeconfig, valid inside the namespaces.
    pub kubeconfig: PathBuf,
}

impl ClusterState {
    /// # Errors
    /// When the folder cannot be made.
    pub fn open() -> Result<Self> {
        let folder = match environment::path(FOLDER) {
            Some(folder) => folder,
            None => cache_folder()?.join("cluster"),
        };
        fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
        Ok(Self { folder })
    }

    /// The log of the service.
    pub fn log(&self) -> PathBuf {
        self.folder.join("cluster.log")
    }

    /// The process outside, if it lives.
    pub fn service(&self) -> Result<Option<Pid>> {
        let path = self.lock_path();
        let file = match File::open(&path) {
            Ok(file) => file,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error).with_context(|| format!("cannot read {}", path.display())),
        };
        if file.try_lock_shared().is_ok() {
            return Ok(None);
        }
        let id = fs::read_to_string(&path)?;
        let id = id.trim().parse().ok().and_then(Pid::from_raw);
        Ok(Some(id.with_context(|| format!("{} holds no process id", path.display()))?))
    }

    /// Makes this process the service, as long as the returned file is open.
    pub fn claim(&self) -> Result<File> {
        let path = self.lock_path();
        let mut file = File::options()
            .create(true)
            .truncate(false)
            .write(true)
            .open(&path)
            .with_context(|| format!("cannot write {}", path.display()))?;
        if file.try_lock().is_err() {
            bail!("another process is the cluster already ({})", path.display());
        }
        file.set_len(0)?;
        file.rewind()?;
        write!(file, "{}", std::process::id())?;
        Ok(file)
    }

    /// The facts of a cluster that is ready; `None` until it is.
    pub fn ready(&self) -> Option<Ready> {
        serde_json::from_slice(&fs::read(self.ready_path()).ok()?).ok()
    }

    /// Records that the cluster is ready.
    pub fn tell_ready(&self, ready: &Ready) -> Result<()> {
        let unfinished = self.folder.join("ready.unfinished");
        fs::write(&unfinished, serde_json::to_vec(ready)?)?;
        fs::rename(&unfinished, self.ready_path()).context("cannot tell that the cluster is ready")
    }

    /// Removes the record of an earlier cluster.
    pub fn clear(&self) -> Result<()> {
        for path in [self.ready_path(), self.log(), self.lock_path()] {
            match fs::remove_file(&path) {
                Err(error) if error.kind() != ErrorKind::NotFound => {
                    return Err(error).with_context(|| format!("cannot remove {}", path.display()));
                }
                _ => {}
            }
        }
        Ok(())
    }

    fn ready_path(&self) -> PathBuf {
        self.folder.join("ready.json")
    }

    fn lock_path(&self) -> PathBuf {
        self.folder.join("service.pid")
    }
}

/// The id, as seen from outside, of process 1 inside: the child of `unshare`, which is the child of
/// the service.
pub fn process_inside(service: Pid) -> Option<u32> {
    let unshare = child_of(u32::try_from(service.as_raw_nonzero().get()).ok()?)?;
    child_of(unshare)
}

fn child_of(parent: u32) -> Option<u32> {
    let entries = fs::read_dir("/proc").ok()?.flatten();
    let mut ids = entries.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    ids.find(|id| parent_of(Path::new("/proc").join(id.to_string()).as_path()) == Some(parent))
}

fn parent_of(process: &Path) -> Option<u32> {
    let stat = fs::read_to_string(process.join("stat")).ok()?;
    // The name, in parentheses, may hold anything (proc(5)).
    stat.rsplit_once(") ")?.1.split(' ').nth(1)?.parse().ok()
}
