//! The server on real sockets.

use std::os::unix::net::UnixListener as StdListener;

use mail_failover_contract::routing::parse;
use prometheus_client::registry::Registry;
use tokio::net::{TcpStream, UnixStream};
use tokio::sync::watch;

use super::super::{LocalDomains, MapSettings, SocketmapMetrics, SocketmapView};
use super::*;
use crate::authorities::AuthorityFiles;
use crate::sessions::BegunSessions;
use crate::supervise::Intake;
use mail_failover_dataplane::answers::{Answers, Trial};
use mail_failover_dataplane::credentials::Credentials;
use mail_failover_dataplane::pacing::Paces;
use mail_failover_dataplane::testing::Folder;

struct Running {
    folder: Folder,
    socket: PathBuf,
    address: SocketAddr,
    registry: Registry,
    shutdown: CancellationToken,
    task: tokio::task::JoinHandle<()>,
    view: watch::Sender<Arc<SocketmapView>>,
}

fn settings(folder: &Folder) -> ListenSettings {
    let address = Some(([127, 0, 0, 1], 0).into());
    ListenSettings { socket: folder.path().join("mail-failover/socketmap"), mode: 0o640, owner: None, address }
}

async fn start() -> Running {
    let folder = Folder::new();
    let mut registry = Registry::default();
    let (sender, view) = watch::channel(Arc::new(SocketmapView {
        waiting_for: "no document yet".to_owned(),
        ..SocketmapView::default()
    }));
    let fixed =
        MapSettings { local_domains: LocalDomains::default(), shield: |_, _, _| None, intake: Intake::default() };
    let credentials = Credentials::new(folder.path().join("credentials"), &mut registry);
    let responder = Responder::new(
        view,
        fixed,
        credentials,
        SocketmapMetrics::new(&mut registry),
        BegunSessions::default(),
        Paces::default(),
    );
    let settings = settings(&folder);
    let server = SocketmapServer::bind(&settings).await.unwrap();
    let address = server.address().unwrap();
    let shutdown = CancellationToken::new();
    let task = tokio::spawn(server.serve(responder, shutdown.clone()));
    Running { socket: settings.socket, folder, address, registry, shutdown, task, view: sender }
}

impl Running {
    fn counted(&self, line: &str) -> bool {
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &self.registry).unwrap();
        text.lines().any(|have| have == format!("mail_failover_agent_socketmap_{line}"))
    }
}

/// Sends this and returns the bytes that come back until the other end closes, or for a while.
async fn exchange<S: AsyncRead + AsyncWrite + Unpin>(mut stream: S, request: &[u8]) -> (String, bool) {
    stream.write_all(request).await.unwrap();
    let mut answer = vec![];
    let mut piece = [0; 1_000];
    loop {
        match timeout(Duration::from_millis(300), stream.read(&mut piece)).await {
            Err(_elapsed) => return (String::from_utf8(answer).unwrap(), false),
            Ok(Ok(0) | Err(_)) => return (String::from_utf8(answer).unwrap(), true),
            Ok(Ok(count)) => answer.extend_from_slice(&piece[..count]),
        }
    }
}

#[tokio::test]
async fn it_answers_on_both_sockets_and_keeps_connections() {
    let server = start().await;
    let request = b"13:transport a@b,11:transport *,";
    let want = ("41:TEMP mail-failover agent: no document yet,9:NOTFOUND ,".to_owned(), false);
    assert_eq!(exchange(UnixStream::connect(&server.socket).await.unwrap(), request).await, want);
    assert_eq!(exchange(TcpStream::connect(server.address).await.unwrap(), request).await, want);
    assert!(server.counted("answers_total{map=\"transport\",answer=\"temporary\"} 2"));
    let mode = fs::metadata(&server.socket).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o640);
}

#[tokio::test]
async fn the_question_before_a_session_shows_that_the_message_of_a_trial_tries_the_backend() {
    let server = start().await;
    let document = serde_json::json!({
        "apiVersion": "agent.mailfailover.io/v1alpha1", "route": {"namespace": "shop", "name": "orders", "uid": "u"},
        "decision": {"transition": 1},
        "backends": [{"name": "a", "percent": 100, "standby": true, "host": "a.example", "port": 25, "tls": {"mode": "None"}}],
        "deliveries": {"consecutive": 3, "lastingMilliseconds": 0, "cooldownMilliseconds": 1000},
    });
    let trial = Arc::new(Trial::new("a".into(), 1));
    let decided = Answers::as_decided(Arc::new(parse(&document.to_string()).unwrap()));
    let answers = Answers { trials: vec![trial.clone()], ..decided };
    server.view.send_replace(Arc::new(SocketmapView::default().next(Arc::new(answers), AuthorityFiles::new())));
    assert!(trial.take(1));
    for (question, is_session) in [("sasl [a.example]:25", false), ("tls-policy [a.example]:25", true)] {
        let request = format!("{}:{question},", question.len());
        exchange(UnixStream::connect(&server.socket).await.unwrap(), request.as_bytes()).await;
        assert_eq!(trial.has_session(), is_session, "{question}");
    }
}

#[tokio::test]
async fn what_is_malformed_ends_its_connection_and_is_counted() {
    let server = start().await;
    let other = UnixStream::connect(&server.socket).await.unwrap();
    let connect = || UnixStream::connect(&server.socket);
    let (answer, closed) = exchange(connect().await.unwrap(), b"11:transport *,GET / HTTP/1.1\r\n\r\n").await;
    assert_eq!((answer.as_str(), closed), ("9:NOTFOUND ,", true), "what was asked before is answered");
    assert!(exchange(connect().await.unwrap(), b"99999:").await.1);
    assert!(exchange(connect().await.unwrap(), b"1:xx").await.1);
    for problem in ["length", "too_long", "end"] {
        assert!(server.counted(&format!("connections_malformed_total{{problem=\"{problem}\"}} 1")), "{problem}");
    }
    assert_eq!(exchange(other, b"11:transport *,").await, ("9:NOTFOUND ,".to_owned(), false), "others are not touched");
}

#[tokio::test]
async fn a_request_that_does_not_end_is_cut() {
    let server = start().await;
    let mut stream = UnixStream::connect(&server.socket).await.unwrap();
    let begun = std::time::Instant::now();
    stream.write_all(b"11:trans").await.unwrap();
    let mut piece = [0; 10];
    let read = timeout(TRANSFER_DEADLINE * 2, stream.read(&mut piece)).await.expect("it is cut");
    assert_eq!(read.unwrap(), 0);
    assert!(begun.elapsed() >= TRANSFER_DEADLINE, "{:?}", begun.elapsed());
    assert!(server.counted("connections_cut_total 1"));
}

#[tokio::test]
async fn too_many_are_turned_away_and_the_rest_is_served() {
    let server = start().await;
    let mut connections = vec![];
    for _ in 0..CONNECTIONS {
        connections.push(UnixStream::connect(&server.socket).await.unwrap());
    }
    while !server.counted(&format!("connections {CONNECTIONS}")) {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let mut turned_away = UnixStream::connect(&server.socket).await.unwrap();
    assert_eq!(timeout(Duration::from_secs(5), turned_away.read(&mut [0; 10])).await.expect("at once").unwrap_or(0), 0);
    assert!(server.counted("connections_turned_away_total 1"));
    let last = connections.pop().unwrap();
    assert_eq!(exchange(last, b"11:transport *,").await.0, "9:NOTFOUND ,");
}

#[tokio::test]
async fn a_socket_that_was_left_behind_is_replaced_and_a_living_one_is_not() {
    let server = start().await;
    let error = SocketmapServer::bind(&ListenSettings { address: None, ..settings(&server.folder) }).await.unwrap_err();
    assert!(matches!(error, BindError::InUse(_)), "{error}");
    server.shutdown.cancel();
    server.task.await.unwrap();
    assert!(!server.socket.exists(), "it is removed in the end");
    drop(StdListener::bind(&server.socket).unwrap());
    assert!(server.socket.exists(), "the premise: a process that dies leaves it");
    SocketmapServer::bind(&settings(&server.folder)).await.unwrap();
    fs::remove_file(&server.socket).unwrap();
    fs::write(&server.socket, "precious").unwrap();
    let error = SocketmapServer::bind(&settings(&server.folder)).await.unwrap_err();
    assert!(matches!(error, BindError::NoSocket(_)), "{error}");
    assert_eq!(fs::read_to_string(&server.socket).unwrap(), "precious");
}

#[tokio::test]
async fn only_this_machine_may_ask() {
    let folder = Folder::new();
    let settings = ListenSettings { address: Some(([0, 0, 0, 0], 0).into()), ..settings(&folder) };
    assert!(matches!(SocketmapServer::bind(&settings).await.unwrap_err(), BindError::NotLoopback(_)));
}
