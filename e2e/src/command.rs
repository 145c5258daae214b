//! Programs that run to their end: their output, or the reason of their failure.

use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use tokio::io::AsyncWriteExt;
use tokio::process::Command;
use tokio::time::timeout;

/// Runs `command` with this standard input, and returns what it prints. `what` names it in
/// messages.
///
/// # Errors
/// When it cannot be started, fails, or does not end within the deadline, at which it is killed. The message is what it
/// said on standard error.
pub async fn output(command: &mut Command, what: &str, input: &str, deadline: Duration) -> Result<String> {
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .with_context(|| format!("cannot start {}", command.as_std().get_program().display()))?;
    let mut pipe = child.stdin.take().context("a standard input")?;
    let run = async {
        // A program that does not read its input may end before all is written. Its own message counts then.
        let _ = pipe.write_all(input.as_bytes()).await;
        drop(pipe);
        child.wait_with_output().await
    };
    let output = timeout(deadline, run)
        .await
        .with_context(|| format!("{what} took longer than {deadline:?}"))?
        .with_context(|| what.to_owned())?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        match said.trim() {
            "" => bail!("{what}: {}: {}", output.status, String::from_utf8_lossy(&output.stdout).trim()),
            said => bail!("{what}: {said}"),
        }
    }
    Ok(String::from_utf8(output.stdout)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str) -> Command {
        let mut command = Command::new("sh");
        command.args(["-c", script]);
        command
    }

    #[tokio::test]
    async fn what_is_given_is_read_and_what_is_printed_returned() {
        let printed = output(&mut shell("tr a-z A-Z"), "tr", "mail", Duration::from_secs(10)).await;
        assert_eq!(printed.expect("it ends well"), "MAIL");
    }

    #[tokio::test]
    async fn a_failure_says_what_was_said() {
        let cases = [
            ("echo no such pod >&2; exit 1", "logs: no such pod"),
            ("echo half; exit 3", "logs: exit status: 3: half"),
        ];
        for (script, expected) in cases {
            let error = output(&mut shell(script), "logs", "", Duration::from_secs(10)).await.expect_err("it fails");
            assert_eq!(error.to_string(), expected);
        }
    }

    #[tokio::test]
    async fn one_that_never_ends_is_not_waited_for() {
        let error = output(&mut shell("sleep 60"), "sleep", "", Duration::from_millis(50)).await.expect_err("late");
        assert_eq!(error.to_string(), "sleep took longer than 50ms");
    }
}
