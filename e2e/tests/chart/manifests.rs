//! Generation of `config/`: the chart as plain manifests, for users without Helm.
//!
//! `UPDATE_MANIFESTS=1 cargo test -p mail-failover-e2e --test chart` (`make manifests`) writes it
//! anew.

use std::collections::BTreeMap;
use std::fs;

use mail_failover_e2e::control_plane::{Binaries, Program};
use mail_failover_operator::rbac::{PROBE_JOBS, yaml};

use super::*;

/// Name and namespace of the installation.
const RELEASE: (&str, &str) = ("mail-failover-operator", "mail-failover");
const HEAD: &str = "# Generated from charts/mail-failover-operator by `make manifests`.\n";
/// Lines that only Helm needs.
const OF_HELM: [&str; 3] = ["app.kubernetes.io/managed-by: Helm", "helm.sh/chart: ", "# Source: "];
const DEFINITIONS: &str = "# The resource definitions: kubectl apply --server-side -f crds.yaml
# To delete them deletes every route, and with it every Service and ConfigMap that applications send mail by.
";
const OPERATOR: &str = "# The operator, after crds.yaml: kubectl apply --server-side -f operator.yaml
# To delete it leaves routes, Services and ConfigMaps as they are, and mail where it goes.
";
const NAMESPACE: &str = "---
apiVersion: v1
kind: Namespace
metadata:
  name: mail-failover
  labels:
    pod-security.kubernetes.io/enforce: restricted
";

/// The files of the kustomize base, each with the kinds in it.
const FILES: [(&str, &[&str]); 4] = [
    ("crds.yaml", &["CustomResourceDefinition"]),
    ("rbac.yaml", &["ServiceAccount", "ClusterRole", "ClusterRoleBinding", "Role", "RoleBinding"]),
    ("metrics.yaml", &["Service"]),
    ("operator.yaml", &["Deployment", "PodDisruptionBudget"]),
];

/// The documents of the chart's objects, by kind.
fn documents() -> Result<Vec<(String, String)>> {
    let (release, namespace) = RELEASE;
    let rendered = HELM.template(release, namespace, &json!({ "crds": { "keep": false } }))?;
    let mut documents = vec![];
    for document in rendered.split("\n---\n").map(|document| document.trim_start_matches("---\n")) {
        let lines = document.lines().filter(|line| !OF_HELM.iter().any(|word| line.trim_start().starts_with(word)));
        let text = lines.collect::<Vec<_>>().join("\n");
        let kind = text.lines().find_map(|line| line.strip_prefix("kind: "));
        documents.extend(kind.map(|kind| (kind.to_owned(), format!("---\n{}\n", text.trim()))));
    }
    Ok(documents)
}

fn generated() -> Result<BTreeMap<String, String>> {
    let documents = documents()?;
    let mut files = BTreeMap::new();
    let mut definitions = format!("{HEAD}{DEFINITIONS}");
    let mut operator = format!("{HEAD}{OPERATOR}{NAMESPACE}");
    let mut names = vec!["namespace.yaml"];
    files.insert("config/base/namespace.yaml".to_owned(), format!("{HEAD}{NAMESPACE}"));
    for (name, kinds) in FILES {
        let chosen = kinds.iter().flat_map(|kind| documents.iter().filter(move |(of, _)| of == kind));
        let text: String = chosen.map(|(_, text)| text.as_str()).collect();
        *(if name == "crds.yaml" { &mut definitions } else { &mut operator }) += &text;
        files.insert(format!("config/base/{name}"), format!("{HEAD}{text}"));
        names.push(name);
    }
    for (kind, _) in &documents {
        ensure!(FILES.iter().any(|(_, kinds)| kinds.contains(&kind.as_str())), "the kind {kind} has no file");
    }
    let list: String = names.iter().flat_map(|name| ["- ", name, "\n"]).collect();
    let image = format!("images:\n- name: mail-failover-operator\n  newTag: {}\n", env!("CARGO_PKG_VERSION"));
    let kustomization = format!(
        "{HEAD}# The base of overlays of yours. To take the image from your registry: `images: [{{name: mail-failover-operator, newName: …}}]`.\n\
         apiVersion: kustomize.config.k8s.io/v1beta1\nkind: Kustomization\nnamespace: mail-failover\nresources:\n{list}{image}"
    );
    files.insert("config/base/kustomization.yaml".to_owned(), kustomization);
    files.insert("config/crds.yaml".to_owned(), definitions);
    files.insert("config/operator.yaml".to_owned(), operator);
    files.insert("config/probe-jobs.yaml".to_owned(), probe_jobs(&documents)?);
    Ok(files)
}

/// The name of the object of this kind.
fn name_of(documents: &[(String, String)], kind: &str) -> Result<String> {
    let (_, text) = documents.iter().find(|(of, _)| of == kind).with_context(|| format!("no {kind}"))?;
    Ok(objects(text)?[0]["metadata"]["name"].as_str().context("a name")?.to_owned())
}

/// The rights for probe Jobs, which only users of such Jobs need, bound like those that every
/// operator needs.
fn probe_jobs(documents: &[(String, String)]) -> Result<String> {
    let role = format!("{}-probe-jobs", name_of(documents, "ClusterRole")?);
    let account = name_of(documents, "ServiceAccount")?;
    let head = "# The rights with which the operator runs probes that have `job`, on top of operator.yaml. It runs them when it is told the image:\n#\n\
                #   kubectl apply -f probe-jobs.yaml\n\
                #   kubectl --namespace mail-failover set env deployment/mail-failover-operator PROBE_IMAGE=registry.example/mail-failover-operator:…\n";
    let [granted, bound] = ["ClusterRole", "ClusterRoleBinding"].map(|kind| {
        format!("---\napiVersion: rbac.authorization.k8s.io/v1\nkind: {kind}\nmetadata:\n  name: {role}\n")
    });
    let namespace = RELEASE.1;
    Ok(format!(
        "{HEAD}{head}{granted}rules:\n{}{bound}roleRef:\n  apiGroup: rbac.authorization.k8s.io\n  kind: ClusterRole\n  name: {role}\n\
         subjects:\n- kind: ServiceAccount\n  name: {account}\n  namespace: {namespace}\n",
        yaml(PROBE_JOBS)
    ))
}

#[test]
fn the_plain_manifests_are_the_charts() -> Result<()> {
    let generated = generated()?;
    for (path, text) in &generated {
        if std::env::var_os("UPDATE_MANIFESTS").is_some() {
            fs::write(repository(path), text)?;
        }
        let committed = fs::read_to_string(repository(path)).unwrap_or_default();
        ensure!(committed == *text, "{path} differs from the chart; run `make manifests` and commit the result");
        ensure!(!text.contains("Helm\n") && !text.contains("helm.sh"), "{path} speaks of Helm");
    }
    let (definitions, operator) = (&generated["config/crds.yaml"], &generated["config/operator.yaml"]);
    let kind = "CustomResourceDefinition";
    ensure!(objects(definitions)?.iter().all(|object| object["kind"] == kind), "{definitions}");
    // To delete a definition deletes every route.
    ensure!(!objects(operator)?.iter().any(|object| object["kind"] == kind), "{operator}");
    for entry in fs::read_dir(repository("config/base"))? {
        let name = format!("config/base/{}", entry?.file_name().to_string_lossy());
        ensure!(generated.contains_key(&name), "{name} is of no use");
    }
    Ok(())
}

/// The objects of a YAML stream by kind and name.
fn by_name(yaml: &str) -> Result<BTreeMap<String, Value>> {
    let mut found = BTreeMap::new();
    for object in objects(yaml)? {
        found.insert(format!("{} {}", object["kind"], object["metadata"]["name"]), object);
    }
    Ok(found)
}

#[test]
fn kustomize_makes_of_the_base_what_is_in_the_two_files() -> Result<()> {
    let binaries = Binaries::locate(&[Program::Kubectl])?;
    let mut command = std::process::Command::new(binaries.path(Program::Kubectl)?);
    let output = command.arg("kustomize").arg(repository("config/base")).output()?;
    ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let built = by_name(&String::from_utf8(output.stdout)?)?;
    let mut plain = by_name(&fs::read_to_string(repository("config/crds.yaml"))?)?;
    plain.extend(by_name(&fs::read_to_string(repository("config/operator.yaml"))?)?);
    assert_eq!(built.keys().collect::<Vec<_>>(), plain.keys().collect::<Vec<_>>());
    for (name, object) in built {
        ensure!(object == plain[&name], "{name} differs");
    }
    Ok(())
}
