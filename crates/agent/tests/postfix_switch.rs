//! Tests of the agent's core, log reader and executor with a real Postfix: a hung primary with mail in the queue, and a
//! paused account.
//!
//! Needs root and Postfix; says so and does nothing elsewhere.

use std::fs;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use mail_failover_agent::log::follow;
use mail_failover_agent::metrics::{LogMetrics, MtaMetrics};
use mail_failover_agent::mta::{Postfix, switch};
use mail_failover_agent::shield::{self, ReplyLines};
use mail_failover_agent::socketmap::{self, LocalDomains, MapAnswer, MapReply, MapSettings, SocketmapView};
use mail_failover_contract::document::Backend;
use mail_failover_contract::routing::{Routing, parse};
use mail_failover_dataplane::answers::Answers;
use mail_failover_dataplane::core::{AgentCore, CoreAction, CoreInput, SwitchOrder, SwitchProgress};
use mail_failover_runtime::clock::Clock;
use prometheus_client::registry::Registry;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, UnixListener};
use tokio::sync::{mpsc, watch};

/// Behaviour of a server of ours.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Server {
    Works,
    Hangs,
    Paused,
}

/// Messages that came: the time and the name of each.
type Received = Arc<Mutex<Vec<(Instant, String)>>>;

async fn serve(kind: Server) -> (u16, Received) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let received = Received::default();
    let all = received.clone();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let received = all.clone();
            tokio::spawn(async move {
                let (read, mut write) = stream.into_split();
                if kind == Server::Hangs {
                    std::future::pending::<()>().await;
                }
                write.write_all(b"220 test\r\n").await.unwrap();
                let mut lines = BufReader::new(read).lines();
                let (mut in_data, mut recipient) = (false, String::new());
                while let Ok(Some(line)) = lines.next_line().await {
                    let reply = match line.to_ascii_uppercase() {
                        _ if in_data && line != "." => continue,
                        _ if in_data && kind == Server::Paused => {
                            "554 Message rejected: Sending paused for this account."
                        }
                        _ if in_data => {
                            received.lock().unwrap().push((Instant::now(), recipient.clone()));
                            "250 2.0.0 taken"
                        }
                        verb if verb.starts_with("DATA") => {
                            in_data = true;
                            write.write_all(b"354 go\r\n").await.unwrap();
                            continue;
                        }
                        verb if verb.starts_with("RCPT") => {
                            recipient = line;
                            "250 2.1.5 ok"
                        }
                        _ => "250 ok",
                    };
                    in_data = false;
                    if write.write_all(format!("{reply}\r\n").as_bytes()).await.is_err() {
                        return;
                    }
                }
            });
        }
    });
    (port, received)
}

/// Serves a socketmap, as little as this test needs.
async fn answer(socket: PathBuf, answers: Arc<Mutex<Option<Arc<Answers>>>>) {
    let listener = UnixListener::bind(&socket).unwrap();
    fs::set_permissions(&socket, std::os::unix::fs::PermissionsExt::from_mode(0o666)).unwrap();
    while let Ok((mut stream, _)) = listener.accept().await {
        let answers = answers.clone();
        tokio::spawn(async move {
            loop {
                let mut length = 0;
                loop {
                    match stream.read_u8().await {
                        Ok(digit @ b'0'..=b'9') => length = length * 10 + usize::from(digit - b'0'),
                        Ok(_) => break,
                        Err(_) => return,
                    }
                }
                let mut query = vec![0; length + 1];
                stream.read_exact(&mut query).await.unwrap();
                let query = String::from_utf8_lossy(&query[..length]).into_owned();
                let (map, key) = query.split_once(' ').unwrap();
                let known = answers.lock().unwrap().clone();
                let found = known.and_then(|answers| match map {
                    "transport" if key != "*" => Some(route(&answers, key)?),
                    "delivery-status" => shield::replacement(key, &answers, &[]),
                    _ => None,
                });
                let reply = found.map_or_else(|| "NOTFOUND ".to_owned(), |found| format!("OK {found}"));
                stream.write_all(format!("{}:{reply},", reply.len()).as_bytes()).await.unwrap();
            }
        });
    }
}

/// The agent's own answer to a question for the transport of a recipient.
fn route(answers: &Arc<Answers>, recipient: &str) -> Option<String> {
    let view = SocketmapView { answers: Some(answers.clone()), ..SocketmapView::default() };
    let settings = MapSettings {
        local_domains: LocalDomains::new(&[]),
        shield: |_, _, _| None,
        intake: mail_failover_agent::supervise::Intake::default(),
    };
    let request = format!("transport {recipient}");
    match socketmap::answer(&view, &settings, &[], &mut ReplyLines::default(), request.as_bytes()) {
        (Some(_), MapAnswer::Reply(MapReply::Found(transport))) => Some(transport),
        _ => None,
    }
}

/// A Postfix in a folder of its own, that takes mail from `sendmail` only.
struct Instance {
    root: PathBuf,
}

impl Instance {
    fn start(name: &str) -> Option<Self> {
        let has_postfix =
            Command::new("postconf").args(["-d", "mail_version"]).stdout(Stdio::null()).stderr(Stdio::null()).status();
        if !rustix::process::geteuid().is_root() || !has_postfix.is_ok_and(|status| status.success()) {
            assert!(std::env::var_os("E2E_REQUIRE_ALL").is_none(), "needs root and Postfix");
            eprintln!("skipped: needs root and Postfix");
            return None;
        }
        let root = std::env::temp_dir().join(format!("mail-failover-postfix-{name}-{}", std::process::id()));
        let folders = ["etc", "spool/mail-failover", "data", "state"];
        for folder in folders {
            fs::create_dir_all(root.join(folder)).unwrap();
        }
        let at = |path: &str| root.join(path).display().to_string();
        for file in ["postfix-files", "dynamicmaps.cf"] {
            fs::copy(format!("/etc/postfix/{file}"), root.join("etc").join(file)).unwrap();
        }
        let services = fs::read_to_string("/etc/postfix/master.cf").unwrap();
        let services: Vec<_> = services.lines().filter(|line| !line.starts_with("smtp      inet")).collect();
        fs::write(root.join("etc/master.cf"), services.join("\n") + "\n").unwrap();
        fs::write(root.join("etc/shield"), shield::regexp_table()).unwrap();
        let main = format!(
            "compatibility_level = 3.6\nqueue_directory = {}\ndata_directory = {}\ndaemon_directory = /usr/lib/postfix/sbin\n\
             command_directory = /usr/sbin\nmeta_directory = {}\nmaillog_file = {}\nmaillog_file_prefixes = {}\nmail_owner = postfix\n\
             setgid_group = postdrop\nmyhostname = test.example\nmydestination =\ninet_interfaces = 127.0.0.1\ninet_protocols = ipv4\n\
             alias_maps =\nalias_database =\nsmtp_helo_timeout = 5s\nminimal_backoff_time = 300s\nqueue_run_delay = 300s\n\
             transport_maps = socketmap:unix:mail-failover/socketmap:transport\n\
             smtp_delivery_status_filter = regexp:{}, socketmap:unix:mail-failover/socketmap:delivery-status\n",
            at("spool"),
            at("data"),
            at("etc"),
            at("log"),
            root.display(),
            at("etc/shield"),
        );
        fs::write(root.join("etc/main.cf"), main).unwrap();
        let chown = Command::new("chown").arg("postfix").arg(root.join("data")).status().unwrap();
        assert!(chown.success());
        let instance = Self { root };
        assert!(instance.postfix("start"));
        Some(instance)
    }

    fn postfix(&self, verb: &str) -> bool {
        let mut command = Command::new("postfix");
        command.arg("-c").arg(self.root.join("etc")).arg(verb).stdout(Stdio::null()).stderr(Stdio::null());
        command.status().unwrap().success()
    }

    fn send(&self, number: usize) {
        let mut child = Command::new("sendmail");
        child.arg("-C").arg(self.root.join("etc")).args(["-f", "app@test.example", &format!("u{number}@example.net")]);
        let mut child = child.stdin(Stdio::piped()).spawn().unwrap();
        std::io::Write::write_all(child.stdin.as_mut().unwrap(), b"Subject: test\n\ntext\n").unwrap();
        drop(child.stdin.take());
        assert!(child.wait().unwrap().success());
    }

    fn log(&self) -> String {
        fs::read_to_string(self.root.join("log")).unwrap_or_default()
    }
}

impl Drop for Instance {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("{}", self.log());
        }
        self.postfix("stop");
        let _ = fs::remove_dir_all(&self.root);
    }
}

fn routing(transition: i64, backends: &[(&str, u16, u8)]) -> Routing {
    let backend = |(name, port, percent): &(&str, u16, u8)| serde_json::json!({"name": name, "percent": percent, "standby": true, "host": "127.0.0.1", "port": port, "tls": {"mode": "None"}});
    let backends: Vec<_> = backends.iter().map(backend).collect();
    parse(&document(transition, &backends.into()).to_string()).unwrap()
}

fn with_alternates(mut routing: Routing) -> Routing {
    for backend in &mut routing.backends {
        backend.alternate = true;
    }
    routing
}

fn document(transition: i64, backends: &serde_json::Value) -> serde_json::Value {
    serde_json::json!({
        "apiVersion": "agent.mailfailover.io/v1alpha1", "route": {"namespace": "shop", "name": "orders", "uid": "u"},
        "decision": {"transition": transition}, "backends": backends,
        "breaker": {"consecutive": 1000, "firstPauseMilliseconds": 5000, "longestPauseMilliseconds": 60_000},
        "deliveries": {"consecutive": 1000, "lastingMilliseconds": 50_000, "immediately": ["AccountPaused"], "cooldownMilliseconds": 600_000},
    })
}

/// Core, log reader and executor, wired.
struct Agent {
    core: Arc<Mutex<AgentCore>>,
    answers: Arc<Mutex<Option<Arc<Answers>>>>,
    orders: watch::Sender<Option<SwitchOrder>>,
    clock: Clock,
    reports: Arc<Mutex<Vec<SwitchProgress>>>,
}

impl Agent {
    fn start(instance: &Instance) -> Arc<Self> {
        let metrics = MtaMetrics::new(&mut Registry::default());
        let (orders, receiver) = watch::channel(None);
        let (sender, mut done) = mpsc::channel(16);
        let mta = Postfix {
            config_directory: instance.root.join("etc"),
            queue_directory: instance.root.join("spool"),
            metrics: metrics.clone(),
        };
        let mark = instance.root.join("state/switched");
        tokio::spawn(switch::Executor::new(mta, mark, receiver, watch::channel(false).1, sender, metrics).run());
        let answers: Arc<Mutex<Option<Arc<Answers>>>> = Arc::default();
        tokio::spawn(answer(instance.root.join("spool/mail-failover/socketmap"), answers.clone()));
        let agent = Arc::new(Self {
            core: Arc::new(Mutex::new(AgentCore::new(None))),
            answers,
            orders,
            clock: Clock::system(),
            reports: Arc::default(),
        });
        let (sink, mut events) = follow::Sink::new(LogMetrics::default(), agent.clock);
        tokio::spawn(follow::file(instance.root.join("log"), sink));
        let same = agent.clone();
        tokio::spawn(async move {
            loop {
                tokio::select! {
                    Some(event) = events.recv() => same.with(|core, now| core.handle(now, CoreInput::LogEvent(event))),
                    Some(report) = done.recv() => {
                        same.reports.lock().unwrap().push(report.clone());
                        same.with(|core, now| core.handle(now, CoreInput::SwitchProgress(report)));
                    }
                    else => return,
                }
            }
        });
        agent
    }

    fn with(&self, what: impl FnOnce(&mut AgentCore, mail_failover_core::model::Timestamp)) {
        let actions = {
            let mut core = self.core.lock().unwrap();
            what(&mut core, self.clock.now());
            core.poll()
        };
        for action in actions {
            match action {
                CoreAction::Publish(new) => *self.answers.lock().unwrap() = Some(new),
                CoreAction::Switch(order) => _ = self.orders.send(Some(order)),
                CoreAction::Remember(_) | CoreAction::Report => {}
            }
        }
    }
}

async fn wait_for(what: &str, limit: Duration, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + limit;
    while !holds() {
        assert!(Instant::now() < deadline, "not within {limit:?}: {what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Counts the messages that came, and those that came twice.
fn counted(received: &Received) -> (usize, usize) {
    let received = received.lock().unwrap();
    let unique: std::collections::BTreeSet<_> = received.iter().map(|(_, recipient)| recipient.clone()).collect();
    (unique.len(), received.len() - unique.len())
}

#[tokio::test(flavor = "multi_thread")]
async fn mail_queued_for_a_hung_primary_leaves_by_the_standby() {
    let Some(instance) = Instance::start("hung") else { return };
    let (hung, _) = serve(Server::Hangs).await;
    let (standby, received) = serve(Server::Works).await;
    let agent = Agent::start(&instance);
    agent.with(|core, now| core.handle(now, CoreInput::Routing(routing(1, &[("a", hung, 100), ("b", standby, 0)]))));
    for number in 0..50 {
        instance.send(number);
    }
    wait_for("most are deferred", Duration::from_secs(30), || {
        instance.log().matches("delivery temporarily suspended").count() >= 20
    })
    .await;
    let switched = Instant::now();
    agent.with(|core, now| core.handle(now, CoreInput::Routing(routing(2, &[("a", hung, 0), ("b", standby, 100)]))));
    instance.send(1000);
    wait_for("all by the standby", Duration::from_secs(40), || counted(&received).0 == 51).await;
    let times: Vec<Duration> = received.lock().unwrap().iter().map(|(at, _)| at.duration_since(switched)).collect();
    let new = received.lock().unwrap().iter().find(|(_, recipient)| recipient.contains("u1000@")).unwrap().0 - switched;
    wait_for("the first delivery is seen", Duration::from_secs(5), || {
        agent.core.lock().unwrap().view().unwrap().last_switch.unwrap().first_delivery_after.is_some()
    })
    .await;
    let view = agent.core.lock().unwrap().view().unwrap().last_switch.unwrap();
    println!(
        "hung primary: new mail {new:?}, first {:?}, median {:?}, last {:?}; seen in the log after {:?}; {:?}",
        times[0],
        times[times.len() / 2],
        times[times.len() - 1],
        view.first_delivery_after,
        view.report
    );
    assert_eq!(counted(&received), (51, 0));
    assert!(times[0] < Duration::from_secs(3), "{times:?}");
    assert_eq!(instance.log().matches("status=bounced").count(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_first_refusal_of_a_paused_account_leads_all_mail_to_the_alternate_and_none_bounces() {
    let Some(instance) = Instance::start("paused") else { return };
    let (paused, _) = serve(Server::Paused).await;
    let (standby, received) = serve(Server::Works).await;
    let agent = Agent::start(&instance);
    agent.with(|core, now| {
        core.handle(now, CoreInput::Routing(with_alternates(routing(1, &[("a", paused, 100), ("b", standby, 0)]))));
    });
    tokio::time::sleep(Duration::from_secs(2)).await;
    let began = Instant::now();
    for number in 0..50 {
        instance.send(number);
    }
    wait_for("all by the standby", Duration::from_secs(40), || counted(&received).0 == 50).await;
    let last = received.lock().unwrap().iter().map(|(at, _)| at.duration_since(began)).max();
    let view = agent.core.lock().unwrap().view().unwrap();
    println!("paused account: all by the standby {last:?} after the first was sent; {:?}", view.last_switch);
    assert_eq!((view.backends[0].carries, view.backends[1].carries), (0, 100));
    assert_eq!(instance.log().matches("status=bounced").count(), 0);
    assert_eq!(counted(&received), (50, 0));
}

/// Beside an agent that knows `withdrawn`, and beside an older one, which takes the only backend of the document.
#[tokio::test(flavor = "multi_thread")]
async fn withdrawn_mail_waits_in_the_queue_and_leaves_as_soon_as_somebody_may_carry_it() {
    for knows_the_field in [true, false] {
        let Some(instance) = Instance::start(if knows_the_field { "withdrawn" } else { "withdrawn-older" }) else {
            return;
        };
        let (works, received) = serve(Server::Works).await;
        let agent = Agent::start(&instance);
        let decide = |routing| agent.with(|core, now| core.handle(now, CoreInput::Routing(routing)));
        decide(routing(1, &[("a", works, 100)]));
        instance.send(0);
        wait_for("it leaves", Duration::from_secs(20), || counted(&received).0 == 1).await;
        let mut nowhere = document(1, &serde_json::json!([Backend::nowhere()]));
        if knows_the_field {
            nowhere["withdrawn"] = true.into();
        }
        decide(parse(&nowhere.to_string()).unwrap());
        for number in 1..=5 {
            instance.send(number);
        }
        let words = if knows_the_field { "nobody may carry" } else { "Network is unreachable" };
        wait_for("all are deferred", Duration::from_secs(20), || {
            let log = instance.log();
            let deferred = log.lines().filter(|line| line.contains("status=deferred") && line.contains("to=<u"));
            deferred.filter(|line| line.contains(words) || line.contains("suspended")).count() >= 5
        })
        .await;
        assert_eq!(counted(&received), (1, 0), "none leaves");
        decide(routing(1, &[("a", works, 100)]));
        wait_for("all leave", Duration::from_secs(40), || counted(&received).0 == 6).await;
        assert_eq!(counted(&received), (6, 0));
        assert_eq!(instance.log().matches("status=bounced").count(), 0);
    }
}
