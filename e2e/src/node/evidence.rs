//! Evidence for a person who analyses a failure on a cluster: objects, Events, logs. It never
//! contains Secrets.

use std::fs;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result};
use tokio::process::Command;

use crate::clients::Kubectl;
use crate::command;
use crate::control_plane::binaries::on_path;

const DEADLINE: Duration = Duration::from_secs(30);
const LINES: &str = "--tail=20000";
/// Arguments of kubectl, by the file that the answer goes to.
const QUESTIONS: [(&str, &[&str]); 6] = [
    ("events.txt", &["get", "events", "--all-namespaces", "--sort-by=.metadata.creationTimestamp", "--output=wide"]),
    (
        "objects.txt",
        &[
            "get",
            "nodes,namespaces,pods,services,endpointslices,deployments,statefulsets,jobs,configmaps,networkpolicies,leases,poddisruptionbudgets",
            "--all-namespaces",
            "--output=wide",
        ],
    ),
    ("pods.yaml", &["get", "pods", "--all-namespaces", "--output=yaml"]),
    ("describe-pods.txt", &["describe", "pods", "--all-namespaces"]),
    ("describe-nodes.txt", &["describe", "nodes"]),
    ("mail.yaml", &["get", "mailroutes,sendingbackends,failoverpolicies", "--all-namespaces", "--output=yaml"]),
];
/// Commands on the node, where this program runs inside it, by the file that the answer goes to.
const NODE_QUESTIONS: [(&str, &str, &[&str]); 4] = [
    ("iptables.txt", "iptables-save", &[]),
    ("routes.txt", "ip", &["-4", "route", "show", "table", "all"]),
    ("conntrack.txt", "conntrack", &["-L"]),
    ("processes.txt", "ps", &["-eo", "pid,ppid,stat,etimes,args"]),
];

/// Writes all evidence into `folder`. A part that cannot be read is replaced by the reason.
///
/// # Errors
/// When the folder cannot be written.
pub async fn collect(kubectl: &Kubectl, is_own_node: bool, folder: &Path) -> Result<()> {
    fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
    for (file, arguments) in QUESTIONS {
        write(folder, file, kubectl.run(arguments).await)?;
    }
    if is_own_node {
        for (file, program, arguments) in NODE_QUESTIONS {
            let Some(path) = on_path(program) else { continue };
            write(folder, file, command::output(Command::new(path).args(arguments), program, "", DEADLINE).await)?;
        }
    }
    let names = r#"jsonpath={range .items[*]}{.metadata.namespace}{" "}{.metadata.name}{"\n"}{end}"#;
    let pods = kubectl.run(&["get", "pods", "--all-namespaces", "--output", names]).await.unwrap_or_default();
    for pod in pods.lines() {
        let Some((namespace, name)) = pod.split_once(' ') else { continue };
        let arguments = ["logs", "--namespace", namespace, name, "--all-containers", "--prefix", "--timestamps", LINES];
        write(folder, &format!("{namespace}_{name}.log"), kubectl.run(&arguments).await)?;
        // The log of the previous container, if a container was started again. Most have none.
        if let Ok(log) = kubectl.run(&[&arguments[..], &["--previous"]].concat()).await {
            write(folder, &format!("{namespace}_{name}.previous.log"), Ok(log))?;
        }
    }
    Ok(())
}

fn write(folder: &Path, file: &str, answer: Result<String>) -> Result<()> {
    let text = answer.unwrap_or_else(|error| format!("(not to be had: {error:#})\n"));
    fs::write(folder.join(file), text).with_context(|| format!("cannot write {file} in {}", folder.display()))
}
