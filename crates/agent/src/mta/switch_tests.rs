use std::sync::{Arc, Mutex};

use prometheus_client::registry::Registry;
use tokio::time::sleep;

use rustix::io::Errno;

use super::super::MasterProblem;
use super::*;

/// MTA that records the requests, with their times.
#[derive(Clone, Debug, Default)]
struct Recorder {
    done: Arc<Mutex<Vec<(&'static str, Duration)>>>,
    queued: Arc<Mutex<u64>>,
    down_until: Option<Instant>,
    /// True if signals are not permitted.
    unreachable: bool,
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
            self.note("absent");
            return Err(MtaError::NotRunning(MasterProblem::Starting));
        }
        if self.unreachable {
            self.note("refused");
            return Err(MtaError::NotPermitted(MasterProblem::Signal(Errno::PERM)));
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
    throttling: watch::Sender<bool>,
    reports: mpsc::Receiver<SwitchProgress>,
    done: PathBuf,
}

fn stage(name: &str, mta: Recorder) -> Stage {
    let folder = std::env::temp_dir().join(format!("mail-failover-switch-{name}-{}", std::process::id()));
    fs::create_dir_all(&folder).unwrap();
    let done = folder.join("switched");
    let (orders, receiver) = watch::channel(None);
    let (throttling, throttled) = watch::channel(false);
    let (sender, reports) = mpsc::channel(100);
    let mta = Recorder { began: Some(Instant::now()), ..mta };
    let metrics = MtaMetrics::new(&mut Registry::default());
    tokio::spawn(Executor::new(mta.clone(), done.clone(), receiver, throttled, sender, metrics).run());
    Stage { mta, orders, throttling, reports, done }
}

fn order(number: u64, cause: Cause) -> SwitchOrder {
    SwitchOrder {
        number,
        cause,
        at: mail_failover_core::model::Timestamp::default(),
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
async fn a_switch_that_is_done_flushes_no_more_while_a_backend_asks_for_less() {
    let stage = stage("throttled", Recorder::default());
    *stage.mta.queued.lock().unwrap() = 3000;
    stage.throttling.send_replace(true);
    stage.orders.send(Some(order(1, Cause::Operator))).unwrap();
    sleep(Duration::from_secs(50)).await;
    assert_eq!(stage.mta.milliseconds("flush"), [0, 300], "what a switch needs");
    stage.throttling.send_replace(false);
    sleep(Duration::from_secs(30)).await;
    assert_eq!(stage.mta.milliseconds("flush"), [0, 300, 60_000]);
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
async fn a_start_with_nothing_to_switch_flushes_what_was_deferred_meanwhile_without_a_reload() {
    let mut stage = stage("absence", Recorder::default());
    fs::write(&stage.done, "mark 1").unwrap();
    *stage.mta.queued.lock().unwrap() = 7;
    stage.orders.send(Some(order(1, Cause::Start))).unwrap();
    assert!(stage.reports.recv().await.unwrap().done_before);
    sleep(Duration::from_secs(5)).await;
    *stage.mta.queued.lock().unwrap() = 0;
    sleep(Duration::from_secs(100)).await;
    assert_eq!((stage.mta.milliseconds("reload"), stage.mta.milliseconds("flush")), (vec![], vec![0, 2000]));
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
    let down_until = Some(Instant::now() + Duration::from_mins(2));
    let mut stage = stage("down", Recorder { down_until, ..Recorder::default() });
    stage.orders.send(Some(order(1, Cause::Start))).unwrap();
    let waiting = stage.reports.recv().await.unwrap();
    assert!(waiting.took.is_zero());
    assert_eq!(waiting.troubles, ["reload: Postfix does not run (it is just starting)"]);
    let report = stage.reports.recv().await.unwrap();
    assert_eq!(report.troubles, waiting.troubles, "it is told once");
    assert!(report.took >= Duration::from_mins(2) && report.took < Duration::from_secs(131), "{report:?}");
    let looks = stage.mta.milliseconds("absent");
    assert!(looks.len() < 30, "{looks:?}");
    assert_eq!(stage.mta.milliseconds("reload").len(), 1);
    assert_eq!(
        stage.mta.milliseconds("flush"),
        stage.mta.milliseconds("reload"),
        "the switch is done once it is there"
    );
    fs::remove_dir_all(stage.done.parent().unwrap()).unwrap();
}

#[tokio::test(start_paused = true)]
async fn what_was_ordered_while_postfix_was_down_is_done_as_the_last_order_says() {
    let down_until = Some(Instant::now() + Duration::from_secs(20));
    let mut stage = stage("down-twice", Recorder { down_until, ..Recorder::default() });
    stage.orders.send(Some(order(1, Cause::Start))).unwrap();
    sleep(Duration::from_secs(5)).await;
    stage.orders.send(Some(order(2, Cause::Operator))).unwrap();
    let mut numbers = vec![];
    while let Ok(Some(report)) = tokio::time::timeout(Duration::from_mins(1), stage.reports.recv()).await {
        numbers.push((report.number, report.took.is_zero()));
    }
    numbers.dedup();
    assert_eq!(numbers, [(1, true), (2, true), (2, false)]);
    assert_eq!(fs::read_to_string(&stage.done).unwrap(), "mark 2");
    fs::remove_dir_all(stage.done.parent().unwrap()).unwrap();
}

#[tokio::test(start_paused = true)]
async fn without_a_reload_the_queue_is_flushed_once_postfix_has_forgotten_its_latest_answer() {
    let mut stage = stage("no-reload", Recorder { unreachable: true, ..Recorder::default() });
    stage.orders.send(Some(order(1, Cause::Operator))).unwrap();
    let report = stage.reports.recv().await.unwrap();
    let [trouble] = &report.troubles[..] else { panic!("{report:?}") };
    assert!(
        trouble.contains("not permitted") && trouble.contains("CAP_KILL") && trouble.contains("user root"),
        "{trouble}"
    );
    sleep(Duration::from_secs(30)).await;
    assert!(!stage.done.exists(), "an agent that dies now has left mail on the old way");
    sleep(Duration::from_secs(100)).await;
    assert_eq!(stage.mta.milliseconds("refused"), [0], "once");
    assert_eq!(stage.mta.milliseconds("flush"), [0, 300, 1000, 3000, 10_000, 31_000], "though nothing is queued");
    assert_eq!(fs::read_to_string(&stage.done).unwrap(), "mark 1");
    let mut last = report;
    while let Ok(report) = stage.reports.try_recv() {
        last = report;
    }
    assert_eq!((last.troubles.len(), last.queued_after), (1, Some(0)));
    fs::remove_dir_all(stage.done.parent().unwrap()).unwrap();
}
