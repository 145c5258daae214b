//! The page of all metrics, made from the calls that register them: `UPDATE_DOCS=1` writes it.
//!
//! Not from a registry: that shows a family only once it has a series.

#![allow(clippy::wildcard_enum_match_arm, reason = "syntax has more kinds than matter here")]

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

use proc_macro2::{Delimiter, TokenStream, TokenTree};
use quote::ToTokens;
use syn::{ImplItem, Item, Type};

use super::source::workspace;

const PAGE: &str = "docs/metrics.md";
const AGENT: &str = "mail_failover_agent";
const RELAY: &str = "mail_failover_relay";

/// Files that register in a registry whose prefix the caller has set, with the prefixes.
const PREFIXED: [(&str, &[&str]); 7] = [
    ("src/controller/read/metrics.rs", &["mail_failover_ca", "mail_failover_login", "mail_failover_secret"]),
    (
        "crates/runtime/src/http.rs",
        &["mail_failover_http_connections", "mail_failover_health_connections", "mail_failover_report_connections"],
    ),
    ("crates/dataplane/src/reporter.rs", &[AGENT, RELAY]),
    ("crates/dataplane/src/credentials.rs", &[AGENT, RELAY]),
    ("crates/dataplane/src/drill_metrics.rs", &[AGENT, RELAY]),
    ("crates/dataplane/src/state_writer.rs", &[AGENT, RELAY]),
    ("crates/relay/src/metrics.rs", &[RELAY]),
];

/// Files that mention registration and register nothing of the program's.
const NOT_REGISTERING: [&str; 2] = ["crates/runtime/src/telemetry/metrics.rs", "crates/runtime/src/telemetry/mod.rs"];

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Metric {
    name: String,
    kind: &'static str,
    labels: Vec<String>,
    help: String,
}

/// Struct definitions of a file: the type of each field, by struct and field.
type Structs = BTreeMap<String, Vec<(String, String)>>;

fn structs(items: &[Item]) -> Structs {
    let mut found = Structs::new();
    for item in items {
        if let Item::Struct(item) = item {
            let fields = item.fields.iter().filter_map(|field| {
                let name = field.ident.as_ref()?.to_string();
                Some((name.trim_start_matches("r#").to_owned(), field.ty.to_token_stream().to_string()))
            });
            found.insert(item.ident.to_string(), fields.collect());
        }
    }
    found
}

/// A call that registers a metric: the field that holds it, its name and its help.
struct Registration {
    field: String,
    name: String,
    help: String,
}

/// Arguments of a call, each as tokens.
fn arguments(group: &TokenStream) -> Vec<Vec<TokenTree>> {
    let mut arguments = vec![vec![]];
    for token in group.clone() {
        match &token {
            TokenTree::Punct(punct) if punct.as_char() == ',' => arguments.push(vec![]),
            _ => arguments.last_mut().unwrap().push(token),
        }
    }
    arguments.retain(|argument| !argument.is_empty());
    arguments
}

fn literal(argument: &[TokenTree]) -> Option<String> {
    match argument {
        [TokenTree::Literal(literal)] => {
            syn::parse_str::<syn::LitStr>(&literal.to_string()).ok().map(|text| text.value())
        }
        // `format!("…{server}…", …)`: the text of the format.
        [TokenTree::Ident(ident), .., TokenTree::Group(group)] if ident == "format" => {
            literal(&arguments(&group.stream())[0]).map(|text| text.replace("the {server} server", "this server"))
        }
        _ => None,
    }
}

fn registrations(tokens: &TokenStream, found: &mut Vec<Registration>, file: &str) {
    let tokens: Vec<_> = tokens.clone().into_iter().collect();
    for (at, token) in tokens.iter().enumerate() {
        let TokenTree::Group(group) = token else { continue };
        registrations(&group.stream(), found, file);
        let callee = at.checked_sub(1).map(|before| tokens[before].to_string()).unwrap_or_default();
        let is_call = group.delimiter() == Delimiter::Parenthesis && ["register", "registered"].contains(&&*callee);
        if !is_call {
            continue;
        }
        let is_method = at > 1 && tokens[at - 2].to_string() == ".";
        let given = arguments(&group.stream());
        let (name, help) = if is_method { (0, 1) } else { (1, 2) };
        let text = |argument: usize| given.get(argument).and_then(|argument| literal(argument));
        let (Some(name), Some(help)) = (text(name), text(help)) else {
            panic!("{file}: name and help of a metric are no literals: {group}");
        };
        let field = if is_method {
            // `registry.register(name, help, seconds.clone())`
            let metric = given.last().unwrap();
            let end = metric.iter().rposition(|token| token.to_string() == "clone").map_or(metric.len(), |end| end - 1);
            metric[end - 1].to_string()
        } else {
            // `field: register(…)` or `let name: Type = register(…)`
            let before = &tokens[..at - 1];
            let colon =
                before.iter().rposition(|token| token.to_string() == ":").unwrap_or_else(|| panic!("{file}: {group}"));
            before[colon - 1].to_string()
        };
        found.push(Registration { field, name, help });
    }
}

/// The first literal or constant that a function gives to `sub_registry_with_prefix`.
fn prefix(body: &str, constants: &str) -> Option<String> {
    let (_, rest) = body.split_once("sub_registry_with_prefix")?;
    let argument = rest.trim_start().trim_start_matches('(').split(')').next()?.trim();
    match argument {
        "PREFIX" if constants.contains("relay") => Some(RELAY.to_owned()),
        "PREFIX" => Some(AGENT.to_owned()),
        literal if literal.starts_with('"') => Some(literal.trim_matches('"').to_owned()),
        _ => None,
    }
}

fn kind(type_: &str) -> &'static str {
    let kinds = [("Counter", "counter"), ("Gauge", "gauge"), ("Histogram", "histogram")];
    kinds.iter().find(|(word, _)| type_.contains(word)).unwrap_or_else(|| panic!("{type_} is no metric")).1
}

fn labels(type_: &str, structs: &Structs) -> Vec<String> {
    let Some((_, rest)) = type_.split_once("Family <") else { return vec![] };
    let name = rest.split(',').next().unwrap_or_default().trim();
    let fields = structs.get(name).unwrap_or_else(|| panic!("there is no struct {name} in the file"));
    fields.iter().map(|(field, _)| field.clone()).collect()
}

fn metrics_of(file: &str, text: &str) -> BTreeSet<Metric> {
    let parsed = syn::parse_file(text).unwrap_or_else(|error| panic!("{file}: {error}"));
    let structs = structs(&parsed.items);
    let mut metrics = BTreeSet::new();
    for item in &parsed.items {
        let Item::Impl(block) = item else { continue };
        let Type::Path(self_type) = &*block.self_ty else { continue };
        let self_type = self_type.path.segments.last().unwrap().ident.to_string();
        for function in &block.items {
            let ImplItem::Fn(function) = function else { continue };
            let body = function.block.to_token_stream();
            let mut found = vec![];
            registrations(&body, &mut found, file);
            let given = PREFIXED.iter().find(|(path, _)| *path == file).map(|(_, prefixes)| *prefixes);
            let own = prefix(&body.to_string(), file);
            let prefixes: Vec<_> = match given {
                Some(given) => given.iter().map(|prefix| (*prefix).to_owned()).collect(),
                None => own.into_iter().collect(),
            };
            assert!(found.is_empty() || !prefixes.is_empty(), "{file}: no prefix; add it to PREFIXED");
            for Registration { field, name, help } in found {
                let fields = structs.get(&self_type).unwrap_or_else(|| panic!("{file}: {self_type}"));
                let type_ =
                    &fields.iter().find(|(name, _)| *name == field).unwrap_or_else(|| panic!("{file}: {field}")).1;
                for prefix in &prefixes {
                    let suffix = if kind(type_) == "counter" { "_total" } else { "" };
                    let name = format!("{prefix}_{name}{suffix}");
                    metrics.insert(Metric {
                        name,
                        kind: kind(type_),
                        labels: labels(type_, &structs),
                        help: help.clone(),
                    });
                }
            }
        }
    }
    metrics
}

fn rust_files(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()) {
        if entry.is_dir() {
            rust_files(&entry, found);
        } else if entry.extension().is_some_and(|ending| ending == "rs") {
            found.push(entry);
        }
    }
}

/// Metrics by the heading that they stand under.
fn all() -> BTreeMap<&'static str, BTreeSet<Metric>> {
    let mut files = vec![];
    rust_files(&workspace().join("src"), &mut files);
    for folder in fs::read_dir(workspace().join("crates")).unwrap() {
        let sources = folder.unwrap().path().join("src");
        if sources.exists() {
            rust_files(&sources, &mut files);
        }
    }
    let mut metrics = BTreeMap::<_, BTreeSet<Metric>>::new();
    for path in files {
        let file = path.strip_prefix(workspace()).unwrap().to_string_lossy().into_owned();
        let text = fs::read_to_string(&path).unwrap();
        let registers = ["register(", "registered("].iter().any(|call| text.contains(call));
        if !registers
            || !text.contains("prometheus_client")
            || NOT_REGISTERING.contains(&&*file)
            || file.ends_with("_tests.rs")
        {
            continue;
        }
        for metric in metrics_of(&file, &text) {
            let program = if metric.name.starts_with(AGENT)
                && !metric.name.starts_with("mail_failover_agents")
                && !file.starts_with("src/")
            {
                "Agent"
            } else if metric.name.starts_with(RELAY) {
                "Relay"
            } else if file.starts_with("crates/runtime") {
                "All programs"
            } else {
                "Operator"
            };
            metrics.entry(program).or_default().insert(metric);
        }
    }
    metrics.entry("All programs").or_default().extend(of_every_process());
    metrics
}

/// Metrics that have a series from the start, as a process exposes them.
fn of_every_process() -> BTreeSet<Metric> {
    let mut text = String::new();
    let registry = mail_failover_runtime::telemetry::registry();
    prometheus_client::encoding::text::encode(&mut text, &registry).unwrap();
    let mut metrics = BTreeSet::new();
    for (name, kind) in text.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split_once(' ')) {
        let help = text.lines().find_map(|line| line.strip_prefix(&format!("# HELP {name} "))).unwrap_or_default();
        let (suffix, kind, labels) = match kind {
            "counter" => ("_total", "counter", vec![]),
            "info" => ("_info", "gauge", vec!["version".to_owned()]),
            _ => ("", "gauge", vec![]),
        };
        let help = help.trim_end_matches('.').to_owned();
        metrics.insert(Metric { name: format!("{name}{suffix}"), kind, labels, help });
    }
    metrics
}

fn page() -> String {
    let mut page = String::from(
        "# Metrics\n\n\
         Every program serves `/metrics`: the operator on port 8080, the agent and the relay on the address\n\
         of their `--listen-address`. The format is OpenMetrics for clients that ask for it in `Accept`, as\n\
         Prometheus does, and else the classic text format (`curl … | promtool check metrics`).\n\n\
         Every replica of the operator shows the same of each route and backend; `max by` takes one.\n\
         Counters and histograms of transitions are those of the process that decided; `sum by` adds them.\n\
         A series of a family appears with its first use. [Alerts](alerts.md) are made from these series.\n\n\
         This page is made from the code: `UPDATE_DOCS=1 cargo test --workspace --test architecture`.\n",
    );
    let metrics = all();
    for program in ["Operator", "Agent", "Relay", "All programs"] {
        let _ = writeln!(page, "\n## {program}\n\n| metric | type | labels | meaning |\n|---|---|---|---|");
        for Metric { name, kind, labels, help } in &metrics[program] {
            let labels: Vec<_> = labels.iter().map(|label| format!("`{label}`")).collect();
            let _ = writeln!(page, "| `{name}` | {kind} | {} | {} |", labels.join(", "), help.replace('|', "\\|"));
        }
    }
    page
}

#[test]
fn the_page_of_metrics_is_that_of_the_code() {
    let (path, page) = (workspace().join(PAGE), page());
    if std::env::var_os("UPDATE_DOCS").is_some() {
        fs::write(&path, &page).unwrap();
    }
    let committed = fs::read_to_string(path).unwrap_or_default();
    assert!(committed == page, "{PAGE} has drifted: UPDATE_DOCS=1 cargo test --workspace --test architecture");
}

/// What has no series yet is not in the text, so this holds names only; the page is made from the sources.
#[test]
fn a_registry_of_the_operator_exposes_nothing_that_the_page_does_not_have() {
    let mut registry = mail_failover_runtime::telemetry::registry();
    let _ = mail_failover_operator::controller::metrics::Metrics::new(&mut registry);
    let _ = mail_failover_operator::leader::Metrics::new(&mut registry);
    let _ = mail_failover_operator::probe::Metrics::new(&mut registry);
    let _ = mail_failover_operator::observers::Metrics::new(&mut registry);
    let _ = mail_failover_operator::webhook::Metrics::new(&mut registry);
    let _ = mail_failover_runtime::kubernetes::Metrics::new(&mut registry);
    let mut text = String::new();
    prometheus_client::encoding::text::encode(&mut text, &registry).unwrap();
    let known: BTreeSet<_> = all().into_values().flatten().map(|metric| metric.name).collect();
    let names: Vec<_> = text.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split_once(' ')).collect();
    assert!(names.len() > 30, "{names:?}");
    for (name, _) in names {
        let is_known = ["", "_total", "_info"].iter().any(|suffix| known.contains(&format!("{name}{suffix}")));
        assert!(is_known, "{PAGE} does not have {name}");
    }
}
