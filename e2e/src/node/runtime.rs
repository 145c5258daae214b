use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use serde_json::json;
use tokio::process::Command;

use super::images::TOOLBOX;
use super::packages::CNI_PLUGINS;
use crate::command;
use crate::control_plane::binaries::search_path;
use crate::control_plane::component::Component;
use crate::control_plane::{Binaries, Program};

/// The socket of containerd. In the mount namespace `/run` is our own.
pub(super) const SOCKET: &str = "/run/containerd/containerd.sock";
/// The range of this node: the first one that the controllers assign.
const PODS: &str = "10.244.0.0/24";
const START: Duration = Duration::from_mins(1);
/// The time limit of loading one image.
const LOAD: Duration = Duration::from_mins(2);

/// A running containerd.
pub(super) struct Runtime {
    containerd: Component,
    ctr: PathBuf,
}

impl Runtime {
    /// Starts containerd and waits until it answers. Logs go to `folder`, images and containers to
    /// `data`.
    pub async fn start(binaries: &Binaries, folder: &Path, data: &Path) -> Result<Self> {
        let root = data.join("containerd");
        fs::create_dir_all(&root)?;
        let networks = folder.join("cni");
        fs::create_dir_all(&networks)?;
        write(&networks.join("10-pods.conflist"), &network())?;
        let configuration = folder.join("containerd.toml");
        write(&configuration, &configuration_text(&root, &networks, snapshotter(&root)?))?;

        let program = binaries.path(Program::Containerd)?;
        let shims = binaries.path(Program::ContainerdShim)?.parent().context("a program's path has a parent")?;
        let arguments = vec!["--config".to_owned(), configuration.display().to_string()];
        let containerd = Component::new("containerd", program, arguments, folder).with("PATH", search_path(&[shims]));
        containerd.start()?;
        let runtime = Self { containerd, ctr: binaries.path(Program::Ctr)?.to_owned() };
        runtime.containerd.ready(START, async || runtime.ctr(&["version"], START).await.map(drop)).await?;
        Ok(runtime)
    }

    /// Loads an image from an archive, and returns the duration.
    pub async fn load(&self, archive: &Path) -> Result<Duration> {
        let begun = Instant::now();
        let path = archive.to_str().context("the path of an archive is UTF-8")?;
        // --local keeps the name that the archive gives; the transfer service loses it.
        self.ctr(&["--namespace", "k8s.io", "images", "import", "--local", path], LOAD).await?;
        Ok(begun.elapsed())
    }

    async fn ctr(&self, arguments: &[&str], deadline: Duration) -> Result<String> {
        let mut command = Command::new(&self.ctr);
        command.args(["--address", SOCKET]).args(arguments);
        command::output(&mut command, &format!("ctr {}", arguments.join(" ")), "", deadline).await
    }
}

/// The snapshotter overlayfs, unless the folder lies on an overlay already, as in a container: the
/// kernel does not stack them.
fn snapshotter(folder: &Path) -> Result<&'static str> {
    const OVERLAYFS: u64 = 0x794c_7630;
    let kind = rustix::fs::statfs(folder).with_context(|| format!("cannot look at {}", folder.display()))?.f_type;
    Ok(if u64::try_from(kind).is_ok_and(|kind| kind == OVERLAYFS) { "native" } else { "overlayfs" })
}

fn configuration_text(root: &Path, networks: &Path, snapshotter: &str) -> String {
    format!(
        r#"version = 3
root = "{root}"
state = "/run/containerd"

[grpc]
  address = "{SOCKET}"

# Made at the start, in a place of the machine unless told otherwise.
[plugins."io.containerd.internal.v1.opt"]
  path = "{root}/opt"

[plugins."io.containerd.cri.v1.images"]
  snapshotter = "{snapshotter}"

[plugins."io.containerd.cri.v1.images".pinned_images]
  sandbox = "{TOOLBOX}"

[plugins."io.containerd.cri.v1.runtime"]
  # A root without CAP_SYS_RESOURCE may not lower the score; without this no sandbox would start.
  restrict_oom_score_adj = true

[plugins."io.containerd.cri.v1.runtime".cni]
  bin_dirs = ["{CNI_PLUGINS}"]
  conf_dir = "{networks}"
"#,
        root = root.display(),
        networks = networks.display(),
    )
}

/// The configuration of the pods' network: a point-to-point link for each pod. On a bridge, pods of
/// one node would answer one another past kube-proxy's and a policy's rules unless the machine has
/// a kernel module loaded (`br_netfilter`).
fn network() -> String {
    json!({
        // The version of CNI that Debian 12's plugins support.
        "cniVersion": "0.4.0",
        "name": "pods",
        "plugins": [
            {
                "type": "ptp",
                "ipMasq": false,
                "ipam": { "type": "host-local", "ranges": [[{ "subnet": PODS }]], "routes": [{ "dst": "0.0.0.0/0" }] },
            },
            { "type": "portmap", "capabilities": { "portMappings": true } },
        ],
    })
    .to_string()
}

pub(super) fn write(path: &Path, text: &str) -> Result<()> {
    if path.to_str().is_none_or(|path| path.contains(['"', '\\', '\n'])) {
        bail!("{} has letters that a configuration cannot hold", path.display());
    }
    fs::write(path, text).with_context(|| format!("cannot write {}", path.display()))
}
