//! Tests of the loop, with channels in the place of its neighbours.

use prometheus_client::registry::Registry;
use serde_json::json;
use tokio::task::JoinHandle;

use super::*;

use crate::sessions::BegunSessions;
use mail_failover_dataplane::drill_metrics::DrillMetrics;
use mail_failover_dataplane::reporter;
use mail_failover_dataplane::source::{NoDocument, SourceError};
use mail_failover_dataplane::state_writer::{StateMetrics, StateWriter};
use mail_failover_dataplane::store::StateStore;
use mail_failover_dataplane::testing::Folder;

struct Agent {
    folder: Folder,
    findings: mpsc::Sender<SourceMessage>,
    orders: watch::Receiver<Option<SwitchOrder>>,
    reports: mpsc::Sender<SwitchProgress>,
    questions: mpsc::Sender<oneshot::Sender<Status>>,
    view: watch::Receiver<Arc<SocketmapView>>,
    readiness: Readiness,
    registry: Registry,
    shutdown: CancellationToken,
    end: CancellationToken,
    tasks: [JoinHandle<()>; 3],
    _log_events: mpsc::Sender<LogEvent>,
}

fn file() -> DocumentSource {
    DocumentSource::File("agent.json".to_owned())
}

fn document(transition: i64, carrier: &str) -> String {
    let backend = |name: &str| {
        json!({"name": name, "percent": if name == carrier { 100 } else { 0 }, "standby": true, "host": format!("{name}.example"),
            "port": 25, "tls": {"mode": "StartTLS", "ca": "PEM"}, "secret": format!("{name}-login")})
    };
    json!({
        "apiVersion": "agent.mailfailover.io/v1alpha1", "route": {"namespace": "shop", "name": "orders", "uid": "u"},
        "decision": {"transition": transition, "summary": "why"}, "backends": [backend("a"), backend("b")],
        "deliveries": {"consecutive": 3, "lastingMilliseconds": 0, "cooldownMilliseconds": 1000},
    })
    .to_string()
}

async fn start(folder: Folder) -> Agent {
    let (mut registry, end, shutdown) = (Registry::default(), CancellationToken::new(), CancellationToken::new());
    let metrics = DriverMetrics::new(&mut registry);
    let store = StateStore::new(folder.path().join("state"));
    let saved: BTreeMap<StateRecord, Arc<str>> =
        StateRecord::ALL.into_iter().filter_map(|record| Some((record, store.load(record).unwrap()?.into()))).collect();
    let (state_writer, keeping) =
        StateWriter::start(store, saved.clone(), StateMetrics::new(&mut registry), end.clone());
    let (view, views) = watch::channel(Arc::new(SocketmapView::default()));
    let (findings, found) = mpsc::channel(16);
    let (log_events, logged) = mpsc::channel(16);
    let (switch_orders, orders) = watch::channel(None);
    let (reports, reported) = mpsc::channel(16);
    let (questions, asked) = mpsc::channel(16);
    let settings = reporter::Settings {
        agent: "a".to_owned(),
        token_file: None,
        heartbeat: reporter::HEARTBEAT,
        tells_accounts_apart: false,
    };
    let (reporter, reporting) =
        Reporter::start(settings, Clock::system(), reporter::ReporterMetrics::new(&mut registry), end.clone());
    let readiness = Readiness::default();
    let settings = DriverSettings {
        queue_directory: folder.path().to_owned(),
        state_directory: folder.path().join("state"),
        clock: Clock::system(),
        credentials: Credentials::new(folder.path().join("credentials"), &mut registry),
        mail_log_source: "/var/log/mail.log".to_owned(),
        mail_log: Reading::default(),
        sessions: BegunSessions::default(),
        queue: watch::channel(None).1,
    };
    let heartbeat = Heartbeat::new(Duration::from_secs(10));
    let outputs = DriverOutputs {
        view,
        switch_orders,
        throttling: watch::channel(false).0,
        reporter,
        state_writer,
        heartbeat,
        readiness: readiness.clone(),
        metrics,
        traffic: TrafficMetrics::new(&mut registry),
        drills: DrillMetrics::new(&mut registry),
    };
    let mut driver = Driver::new(AgentCore::new(None), settings, outputs, vec![file()]);
    if let Some(document) = saved.get(&StateRecord::Document) {
        driver.begin_with(DocumentSource::Disk("state/document".to_owned()), document).await;
    }
    let inputs = DriverInputs { source_events: found, log_events: logged, switch_progress: reported, questions: asked };
    let driving = tokio::spawn(driver.run(inputs, shutdown.clone()));
    Agent {
        folder,
        findings,
        orders,
        reports,
        questions,
        view: views,
        readiness,
        registry,
        shutdown,
        end,
        tasks: [driving, keeping, reporting],
        _log_events: log_events,
    }
}

impl Agent {
    async fn finds(&self, finding: SourceEvent) {
        self.findings.send((file(), finding)).await.unwrap();
    }

    async fn order(&mut self) -> SwitchOrder {
        self.orders.changed().await.unwrap();
        self.orders.borrow_and_update().clone().unwrap()
    }

    async fn status(&self) -> Status {
        let (answer, status) = oneshot::channel();
        self.questions.send(answer).await.unwrap();
        status.await.unwrap()
    }

    fn carrier(&self) -> Option<String> {
        let answers = self.view.borrow().answers.clone()?;
        answers.backend_for("x@example.net", |_| true).map(|backend| backend.name.to_string())
    }

    fn counted(&self, line: &str) -> bool {
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &self.registry).unwrap();
        text.lines().any(|have| have == format!("mail_failover_agent_{line}"))
    }

    /// Ends the agent. Every test does so: a write under way would bring the folder back.
    async fn stop(self) -> Folder {
        self.shutdown.cancel();
        let [driving, keeping, reporting] = self.tasks;
        driving.await.unwrap();
        self.end.cancel();
        keeping.await.unwrap();
        reporting.await.unwrap();
        self.folder
    }
}

#[tokio::test]
async fn before_a_document_it_says_what_it_waits_for() {
    let agent = start(Folder::new()).await;
    assert!(agent.view.borrow().waiting_for.contains("file agent.json has not been read yet"));
    agent.finds(SourceEvent::Missing(NoDocument::NoFile)).await;
    let status = agent.status().await;
    assert!(!status.ready);
    assert_eq!(status.waiting_for.as_deref(), Some("no document yet: file agent.json: there is no such file"));
    assert!(agent.view.borrow().waiting_for.contains("there is no such file"));
    agent.finds(SourceEvent::Document("{}".to_owned())).await;
    let status = agent.status().await;
    assert!(status.waiting_for.unwrap().contains("the document of file agent.json is refused: it cannot be read"));
    assert_eq!(agent.readiness.missing().len(), 1);
    agent.stop().await;
}

#[tokio::test]
async fn the_last_good_document_stays_whatever_comes() {
    let mut agent = start(Folder::new()).await;
    agent.finds(SourceEvent::Document(document(2, "a"))).await;
    assert!(agent.status().await.ready);
    assert_eq!(agent.carrier().as_deref(), Some("a"));
    assert_eq!(agent.order().await.cause, Cause::Start);
    for (finding, refused, state) in [
        (SourceEvent::Document(String::new()), Some("it is empty"), SourceState::Following),
        (SourceEvent::Document("garbage".to_owned()), Some("it is no valid JSON"), SourceState::Following),
        (
            SourceEvent::Document(document(1, "b")),
            Some("decision.transition: 1 is older than 2"),
            SourceState::Following,
        ),
        (SourceEvent::Missing(NoDocument::Deleted), None, SourceState::Missing),
        (SourceEvent::Unreachable(SourceError::Io("refused".into())), None, SourceState::Unreachable),
    ] {
        agent.finds(finding.clone()).await;
        agent.finds(finding).await;
        let status = agent.status().await;
        assert_eq!(status.sources[0].state, state);
        let told = status.sources[0].refused.as_deref();
        assert!(refused.is_none_or(|refused| told.unwrap().starts_with(refused)), "{told:?}");
        assert!(status.ready);
        assert_eq!((agent.carrier().as_deref(), status.document.unwrap().transition), (Some("a"), 2));
    }
    for reason in ["empty", "unreadable", "older"] {
        let line = format!("documents_refused_total{{source=\"file\",reason=\"{reason}\"}} 1");
        assert!(agent.counted(&line), "once for each content: {line}");
    }
    agent.finds(SourceEvent::Document(document(3, "b"))).await;
    let status = agent.status().await;
    assert_eq!((agent.carrier().as_deref(), &status.sources[0].refused), (Some("b"), &None));
    assert_eq!(agent.order().await.cause, Cause::Operator);
    assert!(agent.counted("transition 3") && agent.counted("backend_carried_percent{backend=\"b\"} 100"));
    agent.stop().await;
}

#[tokio::test]
async fn a_restart_begins_with_what_was_in_force() {
    let mut agent = start(Folder::new()).await;
    agent.finds(SourceEvent::Document(document(2, "b"))).await;
    let order = agent.order().await;
    let done = SwitchProgress { took: Duration::from_millis(80), ..SwitchProgress::begun(order.number) };
    agent.reports.send(done).await.unwrap();
    assert_eq!(agent.status().await.last_switch.unwrap().state, "Done");
    let mut agent = start(agent.stop().await).await;
    assert_eq!(agent.carrier().as_deref(), Some("b"));
    let status = agent.status().await;
    assert!(status.ready);
    assert_eq!(status.document.unwrap().source, "last good document state/document");
    let again = agent.order().await;
    assert_eq!(
        (again.cause, again.mark),
        (Cause::Start, order.mark),
        "the executor knows whether Postfix has noticed before"
    );
    agent.finds(SourceEvent::Document(document(1, "a"))).await;
    assert!(agent.status().await.sources[0].refused.is_some(), "an older decision than the one that was kept");
    agent.stop().await;
}

#[tokio::test]
async fn the_status_tells_of_files_that_are_missing() {
    let agent = start(Folder::new()).await;
    agent.finds(SourceEvent::Document(document(1, "a"))).await;
    let status = agent.status().await;
    let credentials = status.backends[0].credentials.clone().unwrap();
    assert_eq!((credentials.secret.as_str(), credentials.state), ("a-login", crate::status::CredentialsState::Missing));
    assert_eq!(status.backends[0].authority_problem, None);
    let view = agent.view.borrow().clone();
    let file = view.authorities["PEM"].clone().unwrap();
    assert_eq!(std::fs::read_to_string(agent.folder.path().join(file)).unwrap(), "PEM");
    agent.stop().await;
}
