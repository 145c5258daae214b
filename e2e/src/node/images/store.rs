//! The store of buildah's images, separate from the machine's.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Result;

use super::{Recipe, run};

/// The label in which an image carries the key that it was built with.
pub(super) const KEY: &str = "io.mailfailover.key";

/// The folders of buildah's images.
pub(super) struct Store {
    pub folder: PathBuf,
}

impl Store {
    fn command(&self) -> Command {
        let mut command = Command::new("buildah");
        command.args(["--storage-driver", "vfs"]);
        command.arg("--root").arg(self.folder.join("root")).arg("--runroot").arg(self.folder.join("run"));
        command
    }

    pub fn build(&self, recipe: &Recipe, key: &str, context: &Path, log: &Path) -> Result<()> {
        let mut command = self.command();
        command.args(["bud", "--isolation", "chroot", "--tag", recipe.name, "--label", &format!("{KEY}={key}")]);
        for (name, value) in recipe.arguments {
            command.args(["--build-arg", &format!("{name}={value}")]);
        }
        run(command.arg(context), log)?;
        // Removes the image that had the name before, and the remains of an interrupted build.
        let _ = run(self.command().args(["rmi", "--prune"]), log);
        Ok(())
    }

    pub fn save(&self, name: &str, file: &Path, log: &Path) -> Result<()> {
        run(self.command().args(["push", name, &format!("docker-archive:{}:{name}", file.display())]), log)
    }

    pub fn label(&self, name: &str, label: &str) -> Option<String> {
        let format = format!("{{{{index .OCIv1.Config.Labels {label:?}}}}}");
        let output = self.command().args(["inspect", "--type", "image", "--format", &format, name]).output().ok()?;
        output.status.success().then(|| String::from_utf8_lossy(&output.stdout).trim().to_owned())
    }
}
