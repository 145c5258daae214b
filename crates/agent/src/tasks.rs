//! Tasks of the process, by name: the first end of any, and the end of each in turn.

use futures::future::{pending, select_all};
use tokio::task::JoinHandle;

/// NamedTasks that should run until the process ends.
#[derive(Debug, Default)]
pub(super) struct NamedTasks(Vec<NamedTask>);

#[derive(Debug)]
struct NamedTask {
    name: &'static str,
    handle: JoinHandle<()>,
}

impl NamedTasks {
    /// Adds a task. Several tasks may have one name.
    pub(super) fn add(&mut self, name: &'static str, handle: JoinHandle<()>) {
        self.0.push(NamedTask { name, handle });
    }

    /// Waits until any task ends and returns its name. Safe to cancel.
    pub(super) async fn first_end(&mut self) -> &'static str {
        if self.0.is_empty() {
            return pending().await;
        }
        let (_, at, _) = select_all(self.0.iter_mut().map(|task| &mut task.handle)).await;
        // A handle must not be polled after its end.
        self.0.swap_remove(at).name
    }

    /// Waits for the end of the tasks of this name.
    pub(super) async fn end_of(&mut self, name: &str) {
        while let Some(at) = self.0.iter().position(|task| task.name == name) {
            drop(self.0.swap_remove(at).handle.await);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_first_end_is_told_once_and_the_others_are_waited_for() {
        let mut tasks = NamedTasks::default();
        tasks.add("a", tokio::spawn(pending()));
        tasks.add("b", tokio::spawn(async {}));
        tasks.add("c", tokio::spawn(tokio::task::yield_now()));
        assert!(["b", "c"].contains(&tasks.first_end().await));
        tasks.end_of("b").await;
        tasks.end_of("c").await;
        assert_eq!(tasks.0.iter().map(|task| task.name).collect::<Vec<_>>(), ["a"]);
    }
}
