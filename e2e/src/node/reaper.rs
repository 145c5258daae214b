//! Removal of processes that no process waits for.
//!
//! This program is process 1 inside, so the kernel makes it the parent of every process whose own
//! parent has ended. A container runtime leaves one such process for each pod.

use std::fs;
use std::time::Duration;

use rustix::process::{Pid, WaitOptions, waitpid};
use tokio::task::JoinHandle;

/// The program that containerd starts beside each pod, as the kernel shortens its name. This
/// program starts none itself, so waiting for one takes no child from another part of this program.
const SHIM: &str = "containerd-shim";
const PERIOD: Duration = Duration::from_secs(1);

/// Waits for shims that have ended, until it is aborted.
pub(super) fn start() -> JoinHandle<()> {
    tokio::spawn(async {
        loop {
            tokio::time::sleep(PERIOD).await;
            for entry in fs::read_dir("/proc").into_iter().flatten().flatten() {
                let stat = fs::read_to_string(entry.path().join("stat")).unwrap_or_default();
                if let Some(id) = dead_shim(&stat).and_then(Pid::from_raw) {
                    let _ = waitpid(Some(id), WaitOptions::NOHANG);
                }
            }
        }
    })
}

/// The id of a shim that has ended and that process 1 must wait for, from a line of
/// `/proc/<id>/stat` (`proc(5)`).
fn dead_shim(stat: &str) -> Option<i32> {
    let (id, rest) = stat.split_once(" (")?;
    let (name, rest) = rest.rsplit_once(") ")?;
    let mut fields = rest.split(' ');
    let (state, parent) = (fields.next()?, fields.next()?);
    (name == SHIM && state == "Z" && parent == "1").then(|| id.parse().ok()).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_dead_shims_without_a_parent_are_waited_for() {
        let cases = [
            ("712 (containerd-shim) Z 1 710 1", Some(712)),
            ("712 (containerd-shim) S 1 710 1", None),
            ("712 (containerd-shim) Z 44 710 1", None),
            ("712 (kubectl) Z 1 710 1", None),
            ("712 (a) Z 1 (containerd-shim) Z 1 1", None),
            ("", None),
        ];
        for (stat, expected) in cases {
            assert_eq!(dead_shim(stat), expected, "{stat}");
        }
    }
}
