//! The invariants of ARCHITECTURE.md that a compiler does not see, read from the parsed sources.
//!
//! Wall clocks and randomness are clippy's (`disallowed-methods` in `clippy.toml`), which sees through imports.

mod metrics_page;
mod source;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::LazyLock;

use source::{Module, Sources, workspace};

/// Crates of the workspace from the lowest to the highest, with their folders. A crate depends on lower ones only.
// ADR-0066: Layers, one protocol, the field's words, and one script as CI.
const CRATES: [(&str, &str); 16] = [
    ("mail-failover-core", "crates/core"),
    ("mail-failover-api", "crates/api"),
    ("mail-failover-replies", "crates/replies"),
    ("mail-failover-contract", "crates/contract"),
    ("mail-failover-smtp", "crates/smtp"),
    ("mail-failover-webhook", "crates/webhook"),
    ("mail-failover-dns", "crates/dns"),
    ("mail-failover-resolve", "crates/resolve"),
    ("mail-failover-runtime", "crates/runtime"),
    ("mail-failover-notifications", "crates/notifications"),
    ("mail-failover-dataplane", "crates/dataplane"),
    ("mail-failover-agent", "crates/agent"),
    ("mail-failover-relay", "crates/relay"),
    ("mail-failover-operator", ""),
    ("mail-failover-tools", "crates/tools"),
    ("mail-failover", "crates/mail-failover"),
];

/// Crates that must not be compiled anew for an edit in another one.
const APART: [(&str, &[&str]); 4] = [
    ("mail-failover-operator", &["mail-failover-agent", "mail-failover-relay", "mail-failover-tools"]),
    ("mail-failover-tools", &["mail-failover-agent", "mail-failover-relay", "mail-failover-operator"]),
    (
        "mail-failover-agent",
        &["mail-failover-operator", "mail-failover-tools", "mail-failover-resolve", "mail-failover-api"],
    ),
    (
        "mail-failover-relay",
        &[
            "mail-failover-agent",
            "mail-failover-operator",
            "mail-failover-tools",
            "mail-failover-resolve",
            "mail-failover-api",
        ],
    ),
];

/// Folders and files of a crate from the lowest to the highest. None imports one above it.
const LAYERS: [(&str, &[&str]); 8] = [
    ("crates/core/src", &["model", "engine"]),
    (
        "crates/runtime/src",
        &[
            "random",
            "backoff",
            "values",
            "process",
            "findings",
            "terminal",
            "dial_guard",
            "clock",
            "tasks",
            "places",
            "http",
            "telemetry",
            "kubernetes",
        ],
    ),
    (
        "crates/dataplane/src",
        &[
            "pinned",
            "stable_hash",
            "store",
            "state_writer",
            "refused",
            "answers",
            "pacing",
            "reading",
            "core",
            "credentials",
            "reporter",
            "delivery_counters",
            "drill_metrics",
            "source",
            "program",
        ],
    ),
    (
        "crates/agent/src",
        &[
            "domains",
            "domain_files",
            "postfix_config",
            "metrics",
            "log",
            "mta",
            "queue_watch",
            "shield",
            "supervise",
            "folder",
            "arguments",
            "authorities",
            "sessions",
            "socketmap",
            "status",
            "http",
            "driver_metrics",
            "driver",
            "run",
        ],
    ),
    (
        "crates/relay/src",
        &[
            "core",
            "arguments",
            "metrics",
            "accounts",
            "certificate",
            "proxy",
            "buffer",
            "at_once",
            "awaited",
            "backend",
            "driver",
            "server",
            "listener",
            "scout",
            "run",
        ],
    ),
    (
        "src",
        &[
            "rbac",
            "output",
            "probe",
            "probe_job",
            "watch",
            "leader",
            "dial",
            "webhook",
            "dns",
            "notification",
            "observers",
            "reports",
            "controller",
            "app",
        ],
    ),
    (
        "src/controller",
        &[
            "timers",
            "retry",
            "turns",
            "status",
            "secrets",
            "dependencies",
            "lane",
            "action",
            "reconcile",
            "references",
            "events",
            "cached",
            "policy",
            "backend",
            "route",
            "input",
            "mail_metrics",
            "metrics",
            "state",
            "read",
            "ca",
            "login",
            "secret_reader",
            "applier",
            "run",
        ],
    ),
    ("crates/tools/src", &["manifests", "lint", "explain", "report", "simulate"]),
];

/// ARCHITECTURE.md without line breaks.
fn page() -> String {
    let text = fs::read_to_string(workspace().join("ARCHITECTURE.md")).unwrap();
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// Layers as ARCHITECTURE.md writes them.
fn listed(layers: impl IntoIterator<Item = &'static str>) -> String {
    layers.into_iter().map(|layer| format!("`{layer}`")).collect::<Vec<_>>().join(" → ")
}

/// Production code of all crates, read once.
static PRODUCTION: LazyLock<Vec<Module>> = LazyLock::new(|| {
    let folders = CRATES.iter().map(|(_, folder)| source_folder(folder));
    folders.flat_map(|folder| Sources::of(&folder).production).collect()
});

fn source_folder(package: &str) -> String {
    format!("{package}/src").trim_start_matches('/').to_owned()
}

/// Production code below a folder or in a file.
fn production(place: &str) -> impl Iterator<Item = &'static Module> {
    let inside: Vec<_> = PRODUCTION.iter().filter(|module| module.file.starts_with(place)).collect();
    assert!(!inside.is_empty(), "{place} is not there any more");
    inside.into_iter()
}

/// Names in these modules that mention any of these words.
fn mentions<'a>(modules: impl IntoIterator<Item = &'a Module>, words: &[&str]) -> Vec<String> {
    let mut found = vec![];
    for module in modules {
        for name in &module.names {
            if words.iter().any(|word| name.mentions(word)) {
                found.push(format!("{}:{}: {}", module.file, name.line, name.segments.join("::")));
            }
        }
    }
    found
}

/// Dependencies of a package, by the heading that they stand under.
fn dependencies(folder: &str) -> BTreeMap<String, BTreeSet<String>> {
    let manifest = fs::read_to_string(workspace().join(folder).join("Cargo.toml")).unwrap();
    let mut found: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    let mut heading = String::new();
    for line in manifest.lines() {
        if let Some(next) = line.strip_prefix('[') {
            next.trim_end_matches(']').clone_into(&mut heading);
        } else if let Some((key, _)) = line.split_once(" = ") {
            let name = key.trim_end_matches(".workspace").to_owned();
            found.entry(heading.clone()).or_default().insert(name);
        }
    }
    found
}

#[test]
fn no_folder_imports_one_above_it() {
    let mut upward = vec![];
    for (folder, layers) in LAYERS {
        let modules: Vec<_> = production(&format!("{folder}/")).collect();
        // The module that the folder is: the crate, or one in it.
        let (_, below) = folder.split_once("src").unwrap();
        let parent: Vec<_> = below.split('/').filter(|name| !name.is_empty()).collect();
        let floors: Vec<_> =
            modules.iter().filter_map(|module| Some((module, module.path.get(parent.len())?.as_str()))).collect();
        let rooms: BTreeSet<_> = floors.iter().map(|(_, room)| *room).collect();
        assert_eq!(rooms, layers.iter().copied().collect(), "{folder}: the list of layers is not that of its folders");
        for (module, floor) in floors {
            let floor = layers.iter().position(|layer| *layer == floor);
            for name in &module.names {
                let Some(room) = name.segments.get(parent.len() + 1) else { continue };
                let is_inside = name.segments[0] == "crate" && name.segments[1..=parent.len()] == parent[..];
                // A name that the root re-exports would hide its room.
                let place = layers.iter().position(|layer| layer == room);
                if is_inside && (place.is_none() || place > floor) {
                    upward.push(format!("{}:{}: {}", module.file, name.line, name.segments.join("::")));
                }
            }
        }
    }
    assert_eq!(upward, Vec::<String>::new());
}

#[test]
fn the_map_lists_the_same_layers() {
    let page = page();
    let crates = listed(CRATES.iter().map(|(name, _)| name.strip_prefix("mail-failover-").unwrap_or(name)));
    assert!(page.contains(&format!("Crates: {crates}.")), "{crates}");
    for (folder, layers) in LAYERS {
        let line = format!("`{folder}`: {}", listed(layers.iter().copied()));
        assert!(page.contains(&line), "{line}");
    }
}

#[test]
fn crates_depend_on_lower_ones() {
    let ours: Vec<_> = CRATES.iter().map(|(name, _)| *name).collect();
    for folder in fs::read_dir(workspace().join("crates")).unwrap() {
        let folder = format!("crates/{}", folder.unwrap().file_name().into_string().unwrap());
        assert!(CRATES.iter().any(|(_, listed)| *listed == folder), "{folder} is not in the list of layers");
    }
    for (floor, (name, folder)) in CRATES.iter().enumerate() {
        for (heading, names) in dependencies(folder) {
            if !heading.ends_with("dependencies") || heading == "workspace.dependencies" {
                continue;
            }
            for dependency in names.iter().filter(|dependency| dependency.starts_with("mail-failover")) {
                let below = ours[..floor].contains(&dependency.as_str());
                assert!(below, "{name}: [{heading}] {dependency} is not below it");
                let apart = APART.iter().any(|(one, others)| one == name && others.contains(&dependency.as_str()));
                assert!(!apart, "{name}: an edit in {dependency} would compile it anew");
            }
        }
    }
}

#[test]
fn the_core_is_pure() {
    let allowed = ["cronexpr", "jiff", "proptest", "strum", "thiserror"].map(str::to_owned).into();
    assert_eq!(dependencies("crates/core")["dependencies"], allowed);
    let impure = [
        "Instant",
        "SystemTime",
        "async",
        "std::env",
        "std::fs",
        "std::io",
        "std::net::TcpListener",
        "std::net::TcpStream",
        "std::net::UdpSocket",
        "std::process",
        "std::thread",
    ];
    assert_eq!(mentions(production("crates/core/"), &impure), Vec::<String>::new());
}

#[test]
fn what_only_says_something_does_no_io() {
    let impure = [
        "Instant",
        "SystemTime",
        "async",
        "fastrand",
        "kube::Api",
        "kube::Client",
        "kube::runtime",
        "std::fs",
        "std::io",
        "tokio",
        "tracing",
    ];
    // Folders, and files of folders that hold others as well.
    let pure = [
        "src/output/",
        "crates/contract/src/",
        "crates/replies/src/",
        "crates/notifications/src/",
        "crates/resolve/src/",
        "crates/dataplane/src/answers.rs",
        "crates/dns/src/",
        "crates/dataplane/src/core/",
        "crates/dataplane/src/reading.rs",
        "crates/webhook/src/answer.rs",
        "crates/webhook/src/event.rs",
        "crates/webhook/src/secret.rs",
        "crates/webhook/src/signature.rs",
        "crates/agent/src/domains.rs",
        "crates/agent/src/socketmap/maps.rs",
        "crates/agent/src/socketmap/netstring.rs",
        "crates/agent/src/socketmap/reply.rs",
        "crates/agent/src/status/text.rs",
    ];
    for place in pure {
        assert_eq!(mentions(production(place), &impure), Vec::<String>::new(), "{place}");
    }
}

#[test]
fn what_the_relay_decides_does_no_io() {
    let impure = ["Instant::now", "SystemTime", "async", "fastrand", "std::fs", "std::io", "tokio", "tracing"];
    assert_eq!(mentions(production("crates/relay/src/core/"), &impure), Vec::<String>::new());
}

#[test]
fn the_controller_state_does_no_io() {
    let impure = ["Instant", "SystemTime", "async", "kube::Api", "kube::Client", "std::fs", "std::io", "tokio"];
    let pure = ["backend/", "events.rs", "policy/", "route/", "state/", "status.rs"];
    for place in pure.map(|place| format!("src/controller/{place}")) {
        assert_eq!(mentions(production(&place), &impure), Vec::<String>::new(), "{place}");
    }
}

#[test]
fn probes_do_not_talk_to_kubernetes() {
    for place in ["src/probe/", "src/probe_job/"] {
        assert_eq!(mentions(production(place), &["kube::Api", "kube::Client"]), Vec::<String>::new(), "{place}");
    }
}

#[test]
fn what_replicas_tell_one_another_is_pure_but_for_the_tasks_that_carry_it() {
    for place in ["local_report.rs", "liveness.rs", "name.rs", "report.rs"].map(|file| format!("src/observers/{file}"))
    {
        assert_eq!(
            mentions(production(&place), &["Instant::now", "SystemTime", "fastrand", "kube::Client", "move"]),
            Vec::<String>::new()
        );
    }
}

#[test]
fn the_smtp_client_does_no_io() {
    let impure = [
        "Instant::now",
        "SystemTime",
        "async",
        "fastrand",
        "std::fs",
        "std::io",
        "std::net::TcpListener",
        "std::net::TcpStream",
        "std::net::ToSocketAddrs",
        "std::net::UdpSocket",
        "tokio",
        "tracing",
    ];
    for room in ["certificate", "classify", "client", "login", "message", "reply", "wide_hello"] {
        let place = format!("crates/smtp/src/{room}");
        assert_eq!(mentions(production(&place), &impure), Vec::<String>::new(), "{room}");
    }
}

#[test]
fn a_simulation_touches_no_network_and_no_clock() {
    let impure = ["Instant", "SystemTime", "async", "kube::Client", "std::net::TcpStream", "tokio"];
    assert_eq!(mentions(production("crates/tools/src/simulate/"), &impure), Vec::<String>::new());
}

#[test]
fn one_place_writes_to_the_api_server() {
    // Methods of `kube::Api` that write, with the number of their arguments.
    let writes = [
        ("create", 2),
        ("delete", 2),
        ("delete_collection", 2),
        ("evict", 2),
        ("patch", 3),
        ("patch_metadata", 3),
        ("patch_scale", 3),
        ("patch_status", 3),
        ("patch_subresource", 4),
        ("replace", 3),
        ("replace_status", 3),
    ];
    // The Leases have writers of their own: the leader's, and each replica's as an observer. A TokenReview is a
    // question: nothing keeps it. A DNSEndpoint stands for records of a zone, and is led as a zone is.
    let writers = [
        "src/controller/applier.rs",
        "src/dns/endpoint.rs",
        "src/leader/",
        "src/observers/publish.rs",
        "src/observers/sweep.rs",
        "src/reports/token.rs",
    ];
    let mut others = vec![];
    let mut seen = BTreeSet::new();
    for module in PRODUCTION.iter() {
        for name in &module.names {
            // A method that is named by its type is called elsewhere.
            if let [.., api, method] = &name.segments[..]
                && api == "Api"
                && writes.iter().any(|(write, _)| write == method)
            {
                others.push(format!("{}:{}: Api::{method}", module.file, name.line));
            }
        }
        for call in module.calls.iter().filter(|call| call.is_method) {
            if writes.contains(&(call.name.as_str(), call.arguments)) {
                match writers.iter().find(|writer| module.file.starts_with(*writer)) {
                    Some(writer) => drop(seen.insert(*writer)),
                    None => others.push(format!("{}:{}: .{}(", module.file, call.line, call.name)),
                }
            }
        }
    }
    assert_eq!(others, Vec::<String>::new());
    assert_eq!(seen, writers.into(), "a place that writes no more");
}

#[test]
fn nobody_decides_outside_the_engine() {
    // What is explained or simulated is told to people, and an input to nothing.
    let askers = [
        "src/controller/route/decide.rs",
        "crates/tools/src/explain/explanation.rs",
        "crates/tools/src/simulate/simulator/",
    ];
    let (mut others, mut seen) = (vec![], BTreeSet::new());
    for module in PRODUCTION.iter() {
        for name in &module.names {
            if name.segments.ends_with(&["engine".to_owned(), "decide".to_owned()]) {
                match askers.iter().find(|asker| module.file.starts_with(*asker)) {
                    Some(asker) => drop(seen.insert(*asker)),
                    None => others.push(format!("{}:{}", module.file, name.line)),
                }
            }
        }
    }
    assert_eq!(others, Vec::<String>::new());
    assert_eq!(seen, askers.into(), "a place that asks no more");
}

/// A module that has files of its own is a folder with a `mod.rs`.
#[test]
fn a_module_with_files_is_a_folder() {
    let folders = CRATES.map(|(_, folder)| source_folder(folder)).into_iter().chain(["e2e/src".to_owned()]);
    let mut halves = vec![];
    for folder in folders {
        let files = rust_files(&workspace().join(folder));
        halves.extend(files.into_iter().filter(|file| file.with_extension("").is_dir()));
    }
    assert!(halves.is_empty(), "make it NAME/mod.rs: {halves:#?}");
}

#[test]
fn every_accepted_decision_is_named_in_the_code() {
    let sources = ["src", "crates", "tests", "benches", "e2e"].map(|folder| workspace().join(folder));
    let code: Vec<_> = sources.iter().flat_map(|folder| rust_files(folder)).map(read).collect();
    let (mut unnamed, mut count) = (vec![], 0);
    for entry in fs::read_dir(workspace().join("docs/adr")).unwrap() {
        let path = entry.unwrap().path();
        if !read(&path).contains("\n- Status: accepted\n") {
            continue;
        }
        count += 1;
        let record = format!("ADR-{}", &path.file_name().unwrap().to_str().unwrap()[..4]);
        if !code.iter().any(|text| text.contains(&record)) {
            unnamed.push(record);
        }
    }
    assert!(count > 50, "{count} accepted records");
    assert_eq!(unnamed, Vec::<String>::new());
}

/// Rust files below a folder.
fn rust_files(folder: &Path) -> Vec<PathBuf> {
    let mut found = vec![];
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(rust_files(&path));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
    found
}

fn read(path: impl AsRef<Path>) -> String {
    fs::read_to_string(path).unwrap()
}
