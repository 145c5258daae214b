use std::sync::{Arc, Mutex};

use prometheus_client::registry::Registry;
use tokio::time::sleep;

use super::*;

/// Writes down what is done to it, and when.
#[derive(Clone, Debug, Default)]
struct Recorder {
    done: Arc<Mutex<Vec<(&'static str, Duration)>>>,
    queued: Arc<Mutex<u64>>,
    down_until: Option<Instant>,
    began: Option<Instant>,
}

impl Recorder {
    fn note(&self, what: &'static str) {
        self.done.lock().unwrap().push((what, self.began.unwrap().elapsed()));
    }

    fn milliseconds(&self, what: &str) -> Vec<u128> {
        self.done.lock().unwrap().iter().filter(|(done, _)| *done == what).map(|(_, at)| at.as_millis()).collect()
    }
}

impl Mta for Recorder {
    async fn reload(&self) -> Result<(), MtaError> {
        if self.down_until.is_some_and(|until| Instant::now() < until) {
            return Err(MtaError::NotRunning("not yet".to_owned()));
        }
        self.note("reload");
        Ok(())
    }

    async fn flush(&self) -> Result<(), MtaError> {
        self.note("flush");
        Ok(())
    }

    async fn queued(&self) -> Option<u64> {
        Some(*self.queued.lock().unwrap())
    }
}

struct Stage {
    mta: Recorder,
    orders: watch::Sender<Option<SwitchOrder>>,
    reports: mpsc::Receiver<SwitchReport>,
    done: PathBuf,
}

fn stage(name: &str, mta: Recorder) -> Stage {
    let folder = std::env::temp_dir().join(format!("mail-failover-switch-{name}-{}", std::process::id()));
    fs::create_dir_all(&folder).unwrap();
    let done = folder.join("switched");
    let (orders, receiver) = watch::channel(None);
    let (sender, reports) = mpsc::channel(100);
    let mta = Recorder { began: Some(Instant::now()), ..mta };
    let metrics = MtaMetrics::new(&mut Registry::default());
    let executor = Executor { mta: mta.clone(), done: done.clone(), orders: receiver, reports: sender, metrics };
    tokio::spawn(executor.run());
    Stage { mta, orders, reports, done }
}

fn order(number: u64, cause: Cause) -> SwitchOrder {
    SwitchOrder {
        number,
        cause,
        at: crate::model::Timestamp::default(),
        mark: format!("mark {number}"),
        gained: vec![],
        lost: vec![],
    }
}

#[tokio::test(start_paused = true)]
async fn it_reloads_and_then_flushes_while_the_queue_holds_anything() {
    let mut stage = stage("order", Recorder::default());
    *stage.mta.queued.lock().unwrap() = 50;
    stage.orders.send(Some(order(1, Cause::Operator))).unwrap();
    let report = stage.reports.recv().await.unwrap();
    assert_eq!((report.number, report.done_before, report.queued_before), (1, false, Some(50)));
    sleep(Duration::from_secs(5)).await;
    *stage.mta.queued.lock().unwrap() = 0;
    sleep(Duration::from_secs(40)).await;
    // One whose attempt hung for a minute.
    *stage.mta.queued.lock().unwrap() = 1;
    sleep(Duration::from_secs(40)).await;
    *stage.mta.queued.lock().unwrap() = 0;
    sleep(Duration::from_secs(1000)).await;
    assert_eq!(stage.mta.milliseconds("reload"), [0]);
    assert_eq!(stage.mta.milliseconds("flush"), [0, 300, 1000, 3000, 60_000]);
    assert_eq!(fs::read_to_string(&stage.done).unwrap(), "mark 1");
    let mut last = report;
    while let Ok(report) = stage.reports.try_recv() {
        last = report;
    }
    assert_eq!(last.queued_after, Some(0));
    fs::remove_dir_all(stage.done.parent().unwrap()).unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_start_repeats_a_switch_only_when_its_mark_was_not_kept() {
    let mut stage = stage("start", Recorder::default());
    fs::write(&stage.done, "mark 1").unwrap();
    stage.orders.send(Some(order(1, Cause::Start))).unwrap();
    assert!(stage.reports.recv().await.unwrap().done_before);
    stage.orders.send(Some(order(2, Cause::Start))).unwrap();
    assert!(!stage.reports.recv().await.unwrap().done_before);
    assert_eq!(stage.mta.milliseconds("reload").len(), 1);
    fs::remove_dir_all(stage.done.parent().unwrap()).unwrap();
}

#[tokio::test(start_paused = true)]
async fn flapping_reloads_postfix_no_more_than_three_times_in_fifteen_seconds_and_the_last_word_counts() {
    let mut stage = stage("flapping", Recorder::default());
    for number in 1..=200 {
        stage.orders.send(Some(order(number, Cause::Operator))).unwrap();
        sleep(Duration::from_millis(100)).await;
        while stage.reports.try_recv().is_ok() {}
    }
    sleep(Duration::from_secs(30)).await;
    let reloads = stage.mta.milliseconds("reload");
    assert!(reloads.windows(4).all(|window| window[3] - window[0] >= 15_000), "{reloads:?}");
    assert_eq!(fs::read_to_string(&stage.done).unwrap(), "mark 200");
    fs::remove_dir_all(stage.done.parent().unwrap()).unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_postfix_that_does_not_run_yet_is_waited_for() {
    let down_until = Some(Instant::now() + Duration::from_secs(20));
    let mut stage = stage("down", Recorder { down_until, ..Recorder::default() });
    stage.orders.send(Some(order(1, Cause::Start))).unwrap();
    let mut report = stage.reports.recv().await.unwrap();
    while report.took.is_zero() {
        report = stage.reports.recv().await.unwrap();
    }
    assert!(report.took >= Duration::from_secs(20) && report.troubles.len() == 5, "{report:?}");
    fs::remove_dir_all(stage.done.parent().unwrap()).unwrap();
}
