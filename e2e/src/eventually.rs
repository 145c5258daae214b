//! Repeated checks with a deadline.

use std::fmt::Debug;
use std::time::Duration;

use anyhow::{Result, anyhow, bail};
use tokio::time::{Instant, sleep, timeout_at};

/// The pause after the first check. Each further pause is half as long again.
const FIRST_PAUSE: Duration = Duration::from_millis(20);
/// The upper limit of a pause, so that long waits do not load the machine with checks.
const LONGEST_PAUSE: Duration = Duration::from_millis(200);

/// Repeats `look` until it returns a value.
///
/// `Ok(None)` and errors mean "not yet". The failure message shows the text of the last error, so a
/// check that wants to report what it saw returns `bail!("the state is {state}")`.
///
/// # Errors
/// When the deadline passes; the message says what was waited for and what was seen last.
pub async fn eventually<T>(
    deadline: Duration,
    what: &str,
    mut look: impl AsyncFnMut() -> Result<Option<T>>,
) -> Result<T> {
    let end = Instant::now() + deadline;
    let (mut seen, mut pause) = (String::from("nothing"), FIRST_PAUSE);
    loop {
        match timeout_at(end, look()).await {
            Ok(Ok(Some(value))) => return Ok(value),
            Ok(Ok(None)) => {}
            Ok(Err(error)) => seen = format!("{error:#}"),
            Err(_) => bail!("waited {deadline:?} for {what}: the last look did not end in time; seen before: {seen}"),
        }
        if Instant::now() + pause >= end {
            bail!("waited {deadline:?} for {what}; seen last: {seen}");
        }
        sleep(pause).await;
        pause = (pause * 3 / 2).min(LONGEST_PAUSE);
    }
}

/// Repeats `look` until its value satisfies `accept`, and returns the value.
///
/// # Errors
/// When the deadline passes; the message says what was waited for and what was seen last.
pub async fn eventually_is<T: Debug>(
    deadline: Duration,
    what: &str,
    mut look: impl AsyncFnMut() -> Result<T>,
    accept: impl Fn(&T) -> bool,
) -> Result<T> {
    eventually(deadline, what, async || {
        let value = look().await?;
        if accept(&value) { Ok(Some(value)) } else { Err(anyhow!("{value:?}")) }
    })
    .await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_value_that_comes_in_time_is_returned() {
        let mut looks = 0;
        let value = eventually_is(
            Duration::from_secs(5),
            "three looks",
            async || {
                looks += 1;
                Ok(looks)
            },
            |looks| *looks == 3,
        )
        .await;
        assert_eq!(value.expect("in time"), 3);
    }

    #[tokio::test]
    async fn a_value_that_does_not_come_is_reported_with_what_was_seen_last() {
        let error =
            eventually_is(Duration::from_millis(50), "the route to fail over", async || Ok("Preferred"), |_| false)
                .await
                .expect_err("never accepted");
        assert_eq!(error.to_string(), "waited 50ms for the route to fail over; seen last: \"Preferred\"");
    }

    #[tokio::test]
    async fn a_look_that_never_ends_does_not_outlast_the_deadline() {
        let error = eventually(Duration::from_millis(50), "an answer", async || {
            std::future::pending::<()>().await;
            Ok(Some(()))
        })
        .await
        .expect_err("never ends");
        assert!(error.to_string().contains("the last look did not end in time"), "{error}");
    }
}
