//! Consistency of the generated files for users with the code: the chart's copies of resource
//! definitions and rights, and the page of its values.
//!
//! `UPDATE_MANIFESTS=1 cargo test --test manifests` (`make manifests`) writes them anew. The tests
//! that need Helm are in `e2e/tests/chart/`.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use mail_failover_api::crds_yaml;
use mail_failover_operator::rbac::{
    AGENT, DNS_ENDPOINTS, OWN_NAMESPACE, PROBE_JOBS, REPORTS, RbacRule, SECRETS_BY_NAME, WATCHED, yaml,
};
use serde_json::{Value, json};

const CHART: &str = "charts/mail-failover-operator";
/// Both charts, the page of the values of each, and its title.
const CHARTS: [(&str, &str, &str); 2] = [
    (CHART, "docs/helm-values.md", "Values of the Helm chart"),
    ("charts/mail-failover-relay", "docs/helm-values-relay.md", "Values of the relay's Helm chart"),
];
const GENERATED: &str = "# Generated from src/rbac.rs by `make manifests`.\n";

fn path(relative: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(relative)
}

fn read(relative: &str) -> String {
    fs::read_to_string(path(relative)).unwrap_or_else(|error| panic!("{relative}: {error}"))
}

fn parsed(relative: &str) -> Value {
    serde_saphyr::from_str(&read(relative)).unwrap_or_else(|error| panic!("{relative}: {error}"))
}

/// Holds a committed file to what is generated, or writes it.
fn hold(relative: &str, generated: &str) {
    if std::env::var_os("UPDATE_MANIFESTS").is_some() {
        fs::write(path(relative), generated).unwrap();
    }
    let committed = fs::read_to_string(path(relative)).unwrap_or_default();
    assert!(committed == generated, "{relative} differs from its source; run `make manifests` and commit the result");
}

fn files_in(relative: &str) -> BTreeSet<String> {
    fs::read_dir(path(relative)).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
}

#[test]
fn the_chart_has_the_resource_definitions_of_the_code() {
    let folder = format!("{CHART}/files/crds");
    let generated = crds_yaml().unwrap();
    for (name, yaml) in &generated {
        hold(&format!("{folder}/{name}"), yaml);
    }
    assert_eq!(files_in(&folder), generated.into_iter().map(|(name, _)| name).collect());
}

#[test]
fn the_chart_grants_what_the_code_asks_for() {
    let folder = format!("{CHART}/files/rbac");
    let files: [(&str, &[RbacRule]); 6] = [
        ("dns-endpoints.yaml", DNS_ENDPOINTS),
        ("own-namespace.yaml", OWN_NAMESPACE),
        ("probe-jobs.yaml", PROBE_JOBS),
        ("reports.yaml", REPORTS),
        ("secrets-by-name.yaml", &[SECRETS_BY_NAME]),
        ("watched.yaml", WATCHED),
    ];
    for (name, rules) in files {
        hold(&format!("{folder}/{name}"), &format!("{GENERATED}{}", yaml(rules)));
    }
    assert_eq!(files_in(&folder), files.iter().map(|(name, _)| (*name).to_owned()).collect());
}

#[test]
fn the_example_grants_an_agent_what_it_asks_for() {
    let documents: Vec<Value> = serde_saphyr::from_multiple(&read("examples/postfix-agent/rbac.yaml")).unwrap();
    let rules: Vec<_> = documents.iter().filter_map(|document| document.get("rules")).collect();
    let RbacRule { purpose: _, api_group, resources, verbs } = AGENT;
    let rule =
        json!({ "apiGroups": [api_group], "resources": resources, "resourceNames": ["orders-agent"], "verbs": verbs });
    assert_eq!(rules, [&json!([rule])]);
}

#[test]
fn the_example_of_deep_probes_grants_the_login_that_it_names_and_no_more() {
    let documents: Vec<Value> = serde_saphyr::from_multiple(&read("examples/deep-probes/rbac.yaml")).unwrap();
    let RbacRule { purpose: _, api_group, resources, verbs } = SECRETS_BY_NAME;
    let account: Vec<Value> = serde_saphyr::from_multiple(&read("examples/deep-probes/account.yaml")).unwrap();
    let login = account.iter().find_map(|object| object.pointer("/spec/smtp/auth/secretRef/name")).unwrap();
    let rule = json!({ "apiGroups": [api_group], "resources": resources, "resourceNames": [login], "verbs": verbs });
    let rules: Vec<_> = documents.iter().filter_map(|document| document.get("rules")).collect();
    assert_eq!(rules, [&json!([rule])]);
}

/// Argo CD loads one script for each kind, so that what they share stands in each.
#[test]
fn the_health_scripts_are_made_of_one_common_part() {
    let common = read("config/argocd/source/common.lua");
    let (_comment, common) = common.split_once("\n\n").expect("a comment and the code");
    for kind in ["FailoverPolicy", "MailRoute", "SendingBackend"] {
        let own = read(&format!("config/argocd/source/{kind}.lua"));
        let (comment, own) = own.split_once("\n\n").expect("a comment and the code");
        let generated = "-- Generated from config/argocd/source/ by `make manifests`.\n";
        hold(
            &format!("config/argocd/mailfailover.io/{kind}/health.lua"),
            &format!("{generated}{comment}\n\n{common}\n{own}"),
        );
    }
}

#[test]
fn the_charts_have_the_version_of_the_operator() {
    for (chart, ..) in CHARTS {
        let parsed = parsed(&format!("{chart}/Chart.yaml"));
        assert_eq!([&parsed["version"], &parsed["appVersion"]], [env!("CARGO_PKG_VERSION"); 2], "{chart}");
    }
}

#[test]
fn the_images_have_the_version_of_the_operator_and_the_compiler_that_it_wants() {
    let (version, rust) = (env!("CARGO_PKG_VERSION"), env!("CARGO_PKG_RUST_VERSION"));
    let image = read("Dockerfile");
    assert!(image.contains(&format!("ARG VERSION={version}\n")), "Dockerfile");
    assert!(image.contains(&format!("ARG BUILDER=rust:{rust}-")), "Dockerfile");
    let with_postfix = read("examples/postfix-agent/Dockerfile");
    assert!(
        with_postfix.contains(&format!("ARG OPERATOR=mail-failover-operator:{version}\n")),
        "examples/postfix-agent/Dockerfile"
    );
}

/// One value of the chart.
struct Row {
    path: String,
    meaning: String,
    default: String,
}

/// The values that bear a comment, in the order of the file.
fn rows(chart: &str) -> Vec<Row> {
    let (text, values) = (read(&format!("{chart}/values.yaml")), parsed(&format!("{chart}/values.yaml")));
    let (mut rows, mut comment, mut parents) = (vec![], vec![], Vec::<&str>::new());
    for line in text.lines() {
        let trimmed = line.trim_start();
        if let Some(words) = trimmed.strip_prefix("# ") {
            comment.push(words);
        } else if let Some((key, _)) =
            trimmed.split_once(':').filter(|(key, _)| key.bytes().all(|byte| byte.is_ascii_alphanumeric()))
        {
            parents.truncate((line.len() - trimmed.len()) / 2);
            parents.push(key);
            if !comment.is_empty() {
                let default = values.pointer(&format!("/{}", parents.join("/"))).expect("it was just read");
                rows.push(Row { path: parents.join("."), meaning: comment.join(" "), default: default.to_string() });
            }
            comment.clear();
        } else {
            comment.clear();
        }
    }
    rows
}

#[test]
fn every_value_of_a_chart_is_documented() {
    for (chart, page, title) in CHARTS {
        let rows = rows(chart);
        let documented: BTreeSet<_> = rows.iter().map(|row| row.path.as_str()).collect();
        let mut undocumented = vec![];
        let mut rest = vec![(String::new(), parsed(&format!("{chart}/values.yaml")))];
        while let Some((path, value)) = rest.pop() {
            let is_leaf = value.as_object().is_none_or(serde_json::Map::is_empty);
            if documented.contains(path.as_str()) {
                // Those below may have words of their own, and need not.
            } else if is_leaf {
                undocumented.push(path);
            } else {
                let below = |key: &str| if path.is_empty() { key.to_owned() } else { format!("{path}.{key}") };
                rest.extend(value.as_object().unwrap().iter().map(|(key, value)| (below(key), value.clone())));
            }
        }
        assert_eq!(undocumented, Vec::<String>::new(), "write a comment above it in {chart}/values.yaml");

        let mut text = format!(
            "# {title}\n\n\
             `make manifests` generates this page from the comments in\n\
             [values.yaml](../{chart}/values.yaml). `helm` refuses a value that is not\n\
             here, or not of its type, before anything changes.\n\n\
             | value | default | meaning |\n|---|---|---|\n",
        );
        for Row { path, meaning, default } in rows {
            text.extend(["| `", &path, "` | `", &default, "` | ", &meaning.replace('|', "\\|"), " |\n"]);
        }
        hold(page, &text);
    }
}

/// Every object in a schema: its path, and its schema.
fn objects_of_schema(schema: &Value) -> Vec<(String, &Value)> {
    let (mut found, mut rest) = (vec![], vec![(String::new(), schema)]);
    while let Some((path, schema)) = rest.pop() {
        if let Some(properties) = schema.get("properties").and_then(Value::as_object) {
            found.push((path.clone(), schema));
            rest.extend(properties.iter().map(|(key, below)| (format!("{path}/{key}"), below)));
        }
        rest.extend(schema.get("items").map(|items| (format!("{path}/[]"), items)));
    }
    found
}

#[test]
fn the_schema_of_the_values_knows_every_value_and_no_other() {
    for (chart, ..) in CHARTS {
        let schema: Value = serde_json::from_str(&read(&format!("{chart}/values.schema.json"))).unwrap();
        let values = parsed(&format!("{chart}/values.yaml"));
        for (path, object) in objects_of_schema(&schema) {
            assert_eq!(object["additionalProperties"], json!(false), "{chart}: {path}: a typo would go unnoticed");
            // What is handed on as it is has more fields than defaults.
            let is_handed_on = ["SecurityContext", "securityContext", "Probe", "/resources", "/affinity", "[]"];
            if is_handed_on.iter().any(|end| path.ends_with(end)) {
                continue;
            }
            let known: BTreeSet<_> = object["properties"].as_object().unwrap().keys().collect();
            let there = values.pointer(&path).and_then(Value::as_object);
            let there = there.unwrap_or_else(|| panic!("{chart}: {path} is no value"));
            // Helm hands `global` to every chart.
            let known: BTreeSet<_> = known.into_iter().filter(|key| !path.is_empty() || *key != "global").collect();
            assert_eq!(known, there.keys().collect(), "{chart}: {path}");
        }
        let validator = jsonschema::validator_for(&schema).unwrap();
        assert!(validator.is_valid(&values), "{chart}: {:?}", validator.validate(&values));
    }
}

fn alerts() -> Vec<Value> {
    parsed(&format!("{CHART}/files/alerts.yaml"))["alerts"].as_array().unwrap().clone()
}

/// The names in an expression that look like series of ours.
fn series(expression: &str) -> Vec<&str> {
    let is_of_name = |letter: char| letter.is_ascii_alphanumeric() || letter == '_';
    expression.split(|letter| !is_of_name(letter)).filter(|word| word.starts_with("mail_failover_")).collect()
}

/// Returns true if a file registers a metric of this name: as a whole, or as a prefix of its registry and the rest.
fn is_registered(sources: &[String], name: &str) -> bool {
    let splits = name.match_indices('_').map(|(at, _)| (&name[..at], &name[at + 1..]));
    sources.iter().any(|source| {
        source.contains(&format!("\"{name}\""))
            || splits.clone().any(|(prefix, rest)| {
                source.contains(&format!("sub_registry_with_prefix(\"{prefix}\")"))
                    && source.contains(&format!("\"{rest}\""))
            })
    })
}

#[test]
fn alerts_are_about_metrics_that_exist() {
    let mut sources = vec![];
    let mut folders = vec![path("src"), path("crates")];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()) {
            if entry.is_dir() {
                folders.push(entry);
            } else {
                sources.push(fs::read_to_string(entry).unwrap());
            }
        }
    }
    let records = parsed(&format!("{CHART}/files/alerts.yaml"))["records"].as_array().unwrap().clone();
    let recorded: BTreeSet<_> = records.iter().map(|rule| rule["record"].as_str().unwrap()).collect();
    for alert in records.iter().cloned().chain(alerts()) {
        let expression = alert["expr"].as_str().unwrap();
        // What a rule records exists.
        let mut raw = expression.to_owned();
        for name in &recorded {
            raw = raw.replace(name, "recorded");
        }
        let names = series(&raw);
        assert!(!names.is_empty() || raw != expression, "{alert}");
        for name in names {
            // As OpenMetrics has it: a counter is registered without the suffix, and so is an Info.
            let registered = name.strip_suffix("_total").or_else(|| name.strip_suffix("_info")).unwrap_or(name);
            assert!(is_registered(&sources, registered), "{}: there is no metric {name}", alert["alert"]);
        }
    }
}

#[test]
fn every_alert_has_a_runbook_and_can_be_left_out() {
    let names: Vec<_> = alerts().iter().map(|alert| alert["alert"].as_str().unwrap().to_owned()).collect();
    let page = read("docs/alerts.md");
    let sections: Vec<_> = page.lines().filter_map(|line| line.strip_prefix("## ")).collect();
    assert_eq!(sections, names, "docs/alerts.md has a section for each alert, in the same order");
    hold_parts("docs/alerts.md");
    let schema: Value = serde_json::from_str(&read(&format!("{CHART}/values.schema.json"))).unwrap();
    let known =
        &schema["properties"]["metrics"]["properties"]["prometheusRule"]["properties"]["disabled"]["items"]["enum"];
    assert_eq!(*known, json!(names), "values.schema.json");
}

/// Holds that each section of a page says what is seen, where to look, what to do, and who has to hear of it.
fn hold_parts(page: &str) {
    for section in read(page).split("\n## ").skip(1) {
        let parts: Vec<_> = ["**Symptom.** ", "**Check.** ", "**Act.** ", "**Tell.** "]
            .iter()
            .map(|part| section.find(part).unwrap_or_else(|| panic!("{page}: {part} is missing in {section}")))
            .collect();
        assert!(parts.is_sorted(), "{page}: {section}");
    }
}

#[test]
fn every_condition_has_a_runbook() {
    let conditions = read("crates/api/src/conditions.rs");
    let (types, _) = conditions.split_once("pub mod reason").unwrap();
    let types: BTreeSet<_> =
        types.lines().filter_map(|line| line.split_once(": &str = \"")?.1.strip_suffix("\";")).collect();
    assert!(types.len() >= 10, "{types:?}");
    let page = read("docs/conditions.md");
    let sections: BTreeSet<_> = page.lines().filter_map(|line| line.strip_prefix("## ")).collect();
    assert_eq!(sections, types, "docs/conditions.md has a section for each condition");
    hold_parts("docs/conditions.md");
}
