//! A look at a future without waiting for it.

/// The result of a future that is ready now; `None` if it would have to wait.
// No timeout of zero: the runtime's timers count in whole milliseconds, and each look would wait for the next one.
pub async fn at_once<T>(future: impl Future<Output = T>) -> Option<T> {
    tokio::select! {
        biased;
        result = future => Some(result),
        () = std::future::ready(()) => None,
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn what_is_not_ready_costs_no_time() {
        let begun = tokio::time::Instant::now();
        assert_eq!(at_once(tokio::time::sleep(Duration::from_millis(1))).await, None);
        assert_eq!(at_once(async { 1 }).await, Some(1));
        assert_eq!(begun.elapsed(), Duration::ZERO);
    }
}
