//! `config/`: the chart as plain manifests, for those without Helm.
//!
//! `UPDATE_MANIFESTS=1 cargo test -p mail-failover-e2e --test chart` (`make manifests`) writes it anew.

use std::collections::BTreeMap;
use std::fs;

use mail_failover_e2e::control_plane::{Binaries, Program};
use mail_failover_operator::rbac::{PROBE_JOBS, yaml};

use super::*;

/// Name and namespace of the installation.
const RELEASE: (&str, &str) = ("mail-failover-operator", "mail-failover");
const HEAD: &str = "# Generated from charts/mail-failover-operator by `make manifests`.\n";
/// What only Helm needs.
const OF_HELM: [&str; 3] = ["app.kubernetes.io/managed-by: Helm", "helm.sh/chart: ", "# Source: "];
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
    let mut install =
        format!("{HEAD}# Everything there is to install: kubectl apply --server-side -f install.yaml\n{NAMESPACE}");
    let mut names = vec!["namespace.yaml"];
    files.insert("config/base/namespace.yaml".to_owned(), format!("{HEAD}{NAMESPACE}"));
    for (name, kinds) in FILES {
        let chosen = kinds.iter().flat_map(|kind| documents.iter().filter(move |(of, _)| of == kind));
        let text: String = chosen.map(|(_, text)| text.as_str()).collect();
        install += &text;
        files.insert(format!("config/base/{name}"), format!("{HEAD}{text}"));
        names.push(name);
    }
    let known = |kind: &str| FILES.iter().any(|(_, kinds)| kinds.contains(&kind));
    ensure!(documents.iter().all(|(kind, _)| known(kind)), "a kind has no file");
    let list: String = names.iter().flat_map(|name| ["- ", name, "\n"]).collect();
    let image = format!("images:\n- name: mail-failover-operator\n  newTag: {}\n", env!("CARGO_PKG_VERSION"));
    let kustomization = format!(
        "{HEAD}# The base of overlays of yours. To take the image from your registry: `images: [{{name: mail-failover-operator, newName: …}}]`.\n\
         apiVersion: kustomize.config.k8s.io/v1beta1\nkind: Kustomization\nnamespace: mail-failover\nresources:\n{list}{image}"
    );
    files.insert("config/base/kustomization.yaml".to_owned(), kustomization);
    files.insert("config/install.yaml".to_owned(), install);
    files.insert("config/probe-jobs.yaml".to_owned(), probe_jobs(&documents)?);
    Ok(files)
}

/// The rights for probe Jobs, which only those need who run any, bound as those are that every operator needs.
fn probe_jobs(documents: &[(String, String)]) -> Result<String> {
    let name = |kind: &str| -> Result<String> {
        let (_, text) = documents.iter().find(|(of, _)| of == kind).with_context(|| format!("no {kind}"))?;
        Ok(objects(text)?[0]["metadata"]["name"].as_str().context("a name")?.to_owned())
    };
    let (role, account) = (format!("{}-probe-jobs", name("ClusterRole")?), name("ServiceAccount")?);
    let head = "# The rights with which the operator runs probes that have `job`, on top of install.yaml. It runs them when it is told the image:\n#\n\
                #   kubectl apply -f probe-jobs.yaml\n\
                #   kubectl --namespace mail-failover set env deployment/mail-failover-operator PROBE_IMAGE=registry.example/mail-failover-operator:…\n";
    let of = |kind: &str| {
        format!("---\napiVersion: rbac.authorization.k8s.io/v1\nkind: {kind}\nmetadata:\n  name: {role}\n")
    };
    let (bound, namespace) = (of("ClusterRoleBinding"), RELEASE.1);
    Ok(format!(
        "{HEAD}{head}{}rules:\n{}{bound}roleRef:\n  apiGroup: rbac.authorization.k8s.io\n  kind: ClusterRole\n  name: {role}\n\
         subjects:\n- kind: ServiceAccount\n  name: {account}\n  namespace: {namespace}\n",
        of("ClusterRole"),
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
    for entry in fs::read_dir(repository("config/base"))? {
        let name = format!("config/base/{}", entry?.file_name().to_string_lossy());
        ensure!(generated.contains_key(&name), "{name} is of no use");
    }
    Ok(())
}

#[test]
fn kustomize_makes_of_the_base_what_is_in_the_one_file() -> Result<()> {
    let binaries = Binaries::locate(&[Program::Kubectl])?;
    let mut command = std::process::Command::new(binaries.path(Program::Kubectl)?);
    let output = command.arg("kustomize").arg(repository("config/base")).output()?;
    ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let by_name = |yaml: &str| -> Result<BTreeMap<String, Value>> {
        let name = |object: &Value| format!("{} {}", object["kind"], object["metadata"]["name"]);
        Ok(objects(yaml)?.into_iter().map(|object| (name(&object), object)).collect())
    };
    let (built, one_file) = (
        by_name(&String::from_utf8(output.stdout)?)?,
        by_name(&fs::read_to_string(repository("config/install.yaml"))?)?,
    );
    assert_eq!(built.keys().collect::<Vec<_>>(), one_file.keys().collect::<Vec<_>>());
    for (name, object) in built {
        ensure!(object == one_file[&name], "{name} differs");
    }
    Ok(())
}
