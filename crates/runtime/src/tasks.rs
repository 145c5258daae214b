//! The tasks of a process by name, and the order in which they end.

use std::future::{Future, pending};

use futures::future::{BoxFuture, FutureExt};
use futures::stream::{FuturesUnordered, StreamExt};
use tokio::task::{JoinHandle, JoinSet};
use tokio_util::sync::CancellationToken;

/// Tasks without which a process must not go on. Dropping it leaves them running until the runtime ends.
#[derive(Debug, Default)]
pub struct Tasks {
    /// Resolves to a task's name when the task is over.
    ends: FuturesUnordered<BoxFuture<'static, &'static str>>,
    /// Names of the tasks that are not over; a name may occur more than once.
    running: Vec<&'static str>,
}

impl Tasks {
    /// Spawns a task under a name.
    pub fn spawn<F>(&mut self, name: &'static str, future: F)
    where
        F: Future<Output: Send> + Send + 'static,
    {
        self.add(name, tokio::spawn(future));
    }

    /// Adds a task that runs already. A panic in it counts as its end.
    pub fn add<T: Send + 'static>(&mut self, name: &'static str, task: JoinHandle<T>) {
        self.push(name, async move { drop(task.await) });
    }

    /// Adds tasks of one kind: the end of any of them counts. An empty set never ends.
    pub fn add_set(&mut self, name: &'static str, mut tasks: JoinSet<()>) {
        if tasks.is_empty() {
            return;
        }
        self.push(name, async move {
            drop(tasks.join_next().await);
            // A set that is dropped aborts its tasks; the others of this kind go on until the process ends.
            tasks.detach_all();
        });
    }

    /// Waits for the next task that ends and returns its name. Waits for ever if none is left. Cancel safe.
    pub async fn next_end(&mut self) -> &'static str {
        let Some(name) = self.ends.next().await else { return pending().await };
        if let Some(at) = self.running.iter().position(|running| *running == name) {
            self.running.swap_remove(at);
        }
        name
    }

    /// Takes the next step of the shutdown: cancels `token`, then waits until no task of these names runs any more.
    pub async fn stop(&mut self, token: &CancellationToken, names: &[&'static str]) {
        token.cancel();
        while self.running.iter().any(|running| names.contains(running)) {
            self.next_end().await;
        }
    }

    fn push(&mut self, name: &'static str, end: impl Future<Output = ()> + Send + 'static) {
        self.running.push(name);
        self.ends.push(end.map(move |()| name).boxed());
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};
    use std::time::Duration;

    use super::*;

    /// A task that writes down its name when the token is cancelled.
    async fn until(token: CancellationToken, name: &'static str, log: Arc<Mutex<Vec<&'static str>>>) {
        token.cancelled().await;
        log.lock().expect("not poisoned").push(name);
    }

    #[tokio::test]
    async fn tasks_end_in_the_order_of_the_shutdown() {
        let (first, second, log) = (CancellationToken::new(), CancellationToken::new(), Arc::default());
        let mut tasks = Tasks::default();
        tasks.spawn("late", until(second.clone(), "late", Arc::clone(&log)));
        tasks.spawn("early", until(first.clone(), "early", Arc::clone(&log)));
        tasks.stop(&first, &["early"]).await;
        assert_eq!(*log.lock().expect("not poisoned"), ["early"]);
        tasks.stop(&second, &["late"]).await;
        assert_eq!(*log.lock().expect("not poisoned"), ["early", "late"]);
    }

    #[tokio::test]
    async fn a_task_that_is_over_is_not_waited_for() {
        let mut tasks = Tasks::default();
        tasks.spawn("short", async {});
        tasks.spawn("panics", async { panic!("on purpose") });
        tasks.spawn("endless", pending::<()>());
        let mut ended = [tasks.next_end().await, tasks.next_end().await];
        ended.sort_unstable();
        assert_eq!(ended, ["panics", "short"]);
        tasks.stop(&CancellationToken::new(), &["short", "panics"]).await;
    }

    #[tokio::test(start_paused = true)]
    async fn a_set_ends_with_its_first_task_and_an_empty_one_never() {
        let mut tasks = Tasks::default();
        tasks.add_set("empty", JoinSet::new());
        let mut set = JoinSet::new();
        let (sender, receiver) = tokio::sync::oneshot::channel();
        set.spawn(async {});
        set.spawn(async move {
            tokio::time::sleep(Duration::from_secs(1)).await;
            _ = sender.send(());
        });
        tasks.add_set("set", set);
        assert_eq!(tasks.next_end().await, "set");
        receiver.await.expect("the other task goes on");
        tokio::time::timeout(Duration::from_mins(1), tasks.next_end())
            .await
            .expect_err("nothing is left that could end");
    }
}
