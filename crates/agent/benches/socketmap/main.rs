//! Cost of a Postfix query: the agent's socketmap on one thread, over a unix socket. Two baselines stand beside it. One
//! is an echo of equally long netstrings on the same runtime: no server that speaks through one can be faster. The
//! other, where Postfix is installed, is a local table. Postfix's own client asks both. `BENCH_QUICK=1` asks a
//! hundredth.

use std::collections::BTreeMap;
use std::env;
use std::fs;
use std::hint::black_box;
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use mail_failover_agent::sessions::BegunSessions;
use mail_failover_agent::shield::ReplyLines;
use mail_failover_agent::socketmap::{
    ListenSettings, LocalDomains, MapSettings, Responder, SocketmapMetrics, SocketmapServer, SocketmapView, answer,
    netstring,
};
use mail_failover_agent::supervise::Intake;
use mail_failover_contract::routing::parse;
use mail_failover_dataplane::answers::Answers;
use mail_failover_dataplane::credentials::Credentials;
use mail_failover_dataplane::pacing::Paces;
use prometheus_client::registry::Registry;
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixListener;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

/// The number of queries of each row.
const QUERIES: usize = 200_000;
/// The number of connections that ask at once in the second part.
const CONNECTIONS: usize = 8;
/// The number of different keys, so that no answer is remembered.
const RECIPIENTS: usize = 1_000;

fn main() {
    if !env::args().any(|argument| argument == "--bench") {
        println!("the bench of the socketmap measures nothing: it is for `cargo bench`");
        return;
    }
    let is_quick = env::var_os("BENCH_QUICK").is_some_and(|value| !value.is_empty() && value != "0");
    let queries = if is_quick { QUERIES / 100 } else { QUERIES };
    let load = || fs::read_to_string("/proc/loadavg").unwrap_or_default();
    println!("\nload {}", load().trim());
    let folder = Folder::new();
    let view = view();
    in_memory(&view, queries);
    let agent = folder.0.join("mail-failover/socketmap");
    let echo = folder.0.join("echo");
    serve_agent(&folder.0, &agent, view);
    serve_echo(&echo);
    through_a_socket(&agent, &echo, queries);
    by_postmap(&folder.0, &agent, queries);
    println!("load {}", load().trim());
}

struct Folder(PathBuf);

impl Folder {
    fn new() -> Self {
        let folder = env::temp_dir().join(format!("mail-failover-bench-{}", std::process::id()));
        fs::create_dir(&folder).expect("a temporary folder");
        Self(folder)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn view() -> SocketmapView {
    let backend = |name: &str, percent| {
        json!({"name": name, "percent": percent, "standby": true, "host": format!("{name}.example"), "port": 587,
            "tls": {"mode": "StartTLS"}, "secret": name})
    };
    let document = json!({
        "apiVersion": "agent.mailfailover.io/v1alpha1", "route": {"namespace": "shop", "name": "orders", "uid": "u"},
        "decision": {"transition": 1}, "backends": [backend("a", 50), backend("b", 30), backend("c", 20)],
        "deliveries": {"consecutive": 3, "lastingMilliseconds": 0, "cooldownMilliseconds": 1000},
    });
    let routing = parse(&document.to_string()).expect("a valid document");
    SocketmapView::default().next(Arc::new(Answers::as_decided(Arc::new(routing))), BTreeMap::new())
}

fn fixed() -> MapSettings {
    MapSettings {
        local_domains: LocalDomains::new(&["local.example".to_owned()]),
        shield: |_, _, _| None,
        intake: Intake::default(),
    }
}

fn recipient(number: usize) -> String {
    format!("user{}@example{}.net", number % RECIPIENTS, number % 7)
}

/// Measures the answer itself, without the socket.
fn in_memory(view: &SocketmapView, queries: usize) {
    println!("\nAnswers from memory, on one core, nanoseconds each");
    let fixed = fixed();
    for (map, key) in [("transport", None), ("tls-policy", Some("[b.example]:587")), ("transport", Some("*"))] {
        let requests: Vec<_> =
            (0..RECIPIENTS).map(|n| format!("{map} {}", key.map_or_else(|| recipient(n), str::to_owned))).collect();
        let begun = Instant::now();
        for number in 0..queries {
            black_box(answer(view, &fixed, &[], &mut ReplyLines::default(), requests[number % RECIPIENTS].as_bytes()));
        }
        println!(
            "{:<28} {:>8.0}",
            format!("{map} {}", key.unwrap_or("RECIPIENT")),
            nanoseconds(begun.elapsed(), queries)
        );
    }
}

#[expect(clippy::cast_precision_loss, reason = "a few hundred thousand")]
fn nanoseconds(duration: Duration, count: usize) -> f64 {
    duration.as_secs_f64() * 1e9 / count as f64
}

/// Runs a task on a thread with a runtime of its own: one core at most.
fn on_a_thread<F: Future<Output = ()> + 'static>(task: impl FnOnce() -> F + Send + 'static) {
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        runtime.block_on(task());
    });
}

fn serve_agent(folder: &Path, socket: &Path, view: SocketmapView) {
    let secrets = folder.join("credentials");
    fs::create_dir_all(secrets.join("b")).expect("a folder");
    fs::write(secrets.join("b/username"), "user").expect("written");
    fs::write(secrets.join("b/password"), "password").expect("written");
    let settings = ListenSettings { socket: socket.to_owned(), mode: 0o600, owner: None, address: None };
    on_a_thread(move || async move {
        let mut registry = Registry::default();
        let (_sender, views) = watch::channel(Arc::new(view));
        let credentials = Credentials::new(secrets, &mut registry);
        let responder = Responder::new(
            views,
            fixed(),
            credentials,
            SocketmapMetrics::new(&mut registry),
            BegunSessions::default(),
            Paces::default(),
        );
        let server = SocketmapServer::bind(&settings).await.expect("it listens");
        server.serve(responder, CancellationToken::new()).await;
    });
    wait_for(socket);
}

/// Answers anything with as many bytes as a transport has.
fn serve_echo(socket: &Path) {
    let path = socket.to_owned();
    on_a_thread(move || async move {
        let listener = UnixListener::bind(path).expect("it listens");
        loop {
            let Ok((mut stream, _)) = listener.accept().await else { return };
            tokio::spawn(async move {
                let mut bytes = [0; 4_096];
                while let Ok(1..) = stream.read(&mut bytes).await {
                    if stream.write_all(b"22:OK smtp:[b.example]:587,").await.is_err() {
                        return;
                    }
                }
            });
        }
    });
    wait_for(socket);
}

fn wait_for(socket: &Path) {
    while UnixStream::connect(socket).is_err() {
        std::thread::sleep(Duration::from_millis(5));
    }
}

fn through_a_socket(agent: &Path, echo: &Path, queries: usize) {
    println!("\nThrough a unix socket, one query at a time on each connection, the server on one thread, microseconds");
    println!("{:<28} {:>11} {:>11} {:>8} {:>8}", "QUERY", "CONNECTIONS", "PER SECOND", "MEDIAN", "P99");
    for connections in [1, CONNECTIONS] {
        for (name, socket, map, key) in [
            ("echo", echo, "transport", None),
            ("transport RECIPIENT", agent, "transport", None),
            ("tls-policy NEXT_HOP", agent, "tls-policy", Some("[b.example]:587")),
            ("sasl NEXT_HOP (reads files)", agent, "sasl", Some("[b.example]:587")),
        ] {
            let begun = Instant::now();
            let askers: Vec<_> = (0..connections)
                .map(|_| {
                    let (socket, each) = (socket.to_owned(), queries / connections);
                    std::thread::spawn(move || ask(&socket, map, key, each))
                })
                .collect();
            let mut took: Vec<_> = askers.into_iter().flat_map(|asker| asker.join().expect("it asked")).collect();
            let seconds = begun.elapsed().as_secs_f64();
            took.sort_unstable();
            let at = |share: usize| took[(took.len() - 1) * share / 100].as_secs_f64() * 1e6;
            #[expect(clippy::cast_precision_loss, reason = "a few hundred thousand")]
            let rate = took.len() as f64 / seconds;
            println!("{name:<28} {connections:>11} {rate:>11.0} {:>8.1} {:>8.1}", at(50), at(99));
        }
    }
}

fn ask(socket: &Path, map: &str, key: Option<&str>, queries: usize) -> Vec<Duration> {
    let mut stream = UnixStream::connect(socket).expect("it listens");
    let (mut request, mut reply) = (vec![], [0; 4_096]);
    (0..queries)
        .map(|number| {
            request.clear();
            let key = key.map_or_else(|| recipient(number), str::to_owned);
            netstring::encode(format!("{map} {key}").as_bytes(), &mut request);
            let asked = Instant::now();
            stream.write_all(&request).expect("sent");
            // One read: a reply is short and written at once.
            let count = stream.read(&mut reply).expect("answered");
            assert!(reply[..count].ends_with(b","), "a whole netstring");
            asked.elapsed()
        })
        .collect()
}

/// Asks Postfix's own table, by Postfix's own client, for the same keys.
fn by_postmap(folder: &Path, agent: &Path, queries: usize) {
    let postmap = Path::new("/usr/sbin/postmap");
    if !postmap.exists() {
        println!("\nskipped: there is no {}; apt-get install postfix postfix-lmdb", postmap.display());
        return;
    }
    let table = folder.join("transport");
    let lines: Vec<_> = (0..RECIPIENTS * 7).map(|n| format!("{} smtp:[b.example]:587", recipient(n))).collect();
    fs::write(&table, lines.join("\n") + "\n").expect("written");
    // It needs a main.cf of its own; the system's may be missing.
    let configuration = folder.join("postfix");
    fs::create_dir_all(&configuration).expect("a folder");
    fs::write(configuration.join("main.cf"), "compatibility_level = 3.6\n").expect("written");
    for file in ["dynamicmaps.cf", "dynamicmaps.cf.d"] {
        let _ = Command::new("cp").arg("-r").arg(Path::new("/etc/postfix").join(file)).arg(&configuration).status();
    }
    let keys: String = (0..queries).map(|number| recipient(number) + "\n").collect();
    println!("\nBy `postmap -q -`, microseconds each, Postfix's own part included");
    let lmdb = format!("lmdb:{}", table.display());
    let made = Command::new(postmap).arg("-c").arg(&configuration).arg(&lmdb).stderr(Stdio::null()).status();
    let socketmap = format!("socketmap:unix:{}:transport", agent.display());
    let mut tables = vec![("socketmap: (the agent)", socketmap)];
    if made.is_ok_and(|status| status.success()) {
        tables.insert(0, ("lmdb: (a file)", lmdb));
    }
    for (name, table) in tables {
        let begun = Instant::now();
        let child = Command::new(postmap)
            .arg("-c")
            .arg(&configuration)
            .args(["-q", "-", &table])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn();
        let mut child = child.expect("postmap starts");
        let mut stdin = child.stdin.take().expect("piped");
        let keys = keys.clone();
        let writer = std::thread::spawn(move || stdin.write_all(keys.as_bytes()));
        let output = child.wait_with_output().expect("postmap ends");
        writer.join().expect("written").expect("written");
        let found = String::from_utf8_lossy(&output.stdout).lines().count();
        println!("{name:<28} {:>8.1}   {found} of {queries} found", nanoseconds(begun.elapsed(), queries) / 1e3);
    }
}
