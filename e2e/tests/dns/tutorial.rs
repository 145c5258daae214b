//! The commands of `docs/dns.md`, as they stand there.

use std::fs;
use std::net::SocketAddr;
use std::process::Command;
use std::sync::Arc;

use anyhow::{Context, Result, ensure};
use mail_failover_e2e::fixture::{QUICK_LEASE, WAIT_TIMEOUT};
use mail_failover_e2e::helm::repository;
use mail_failover_e2e::mail::server::{Options, SmtpServer};
use mail_failover_e2e::name_server::own;
use mail_failover_e2e::process::Process;
use mail_failover_e2e::test_env::TestEnv;

/// The section of the tutorial.
const TUTORIAL: &str = "\n## In ten minutes\n";
/// The section with the commands that remove records; the first is that of dynamic updates.
const REMOVAL: &str = "\n## When the route or the output goes\n";

/// The `sh` blocks of a section, without their indentation.
fn blocks(of: &str) -> Result<Vec<String>> {
    let page = fs::read_to_string(repository("docs/dns.md"))?;
    let (_, section) = page.split_once(of).context("the section")?;
    let section = section.split("\n## ").next().unwrap_or_default();
    let (mut blocks, mut block) = (vec![], None::<String>);
    for line in section.lines() {
        let line = line.strip_prefix("   ").unwrap_or(line);
        match (&mut block, line.trim()) {
            (None, "```sh") => block = Some(String::new()),
            (Some(_), "```") => blocks.extend(block.take()),
            (Some(text), _) => {
                text.push_str(line);
                text.push('\n');
            }
            (None, _) => {}
        }
    }
    Ok(blocks)
}

pub async fn commands(env: Arc<TestEnv>) -> Result<()> {
    let address = |host: u8| SocketAddr::from(([192, 0, 2, host], 25));
    let _relays = [
        SmtpServer::start(Options::new("relay-a", address(1))).await?,
        SmtpServer::start(Options::new("relay-b", address(2))).await?,
    ];
    let operator = env.start_own_operator("a", &QUICK_LEASE).await?;
    operator.wait_ready(WAIT_TIMEOUT).await?;
    // A clone of the repository to run them in, and a kubectl that knows the cluster; a namespace of ours is `shop`.
    let folder = env.folder().join("clone");
    fs::create_dir_all(&folder)?;
    std::os::unix::fs::symlink(repository("examples"), folder.join("examples"))?;
    let kubectl = format!("{} --kubeconfig={}", env.kubectl_program().display(), env.kubeconfig().display());
    own([192, 0, 2, 53].into())?;
    let mut named = None;
    let mut printed = vec![];
    for block in blocks(TUTORIAL)? {
        let mut script = String::from("set -eu\n");
        for line in block.lines() {
            if line == "named -c named.conf" {
                // In the foreground, so that it ends with the trial.
                run(&folder, &script)?;
                script = String::from("set -eu\n");
                let mut command = Command::new("/usr/sbin/named");
                command.current_dir(&folder).args(["-g", "-n", "1", "-c", "named.conf"]);
                named = Some(Process::start("named", &mut command, &folder.join("named.log"))?);
                script += "for try in 1 2 3 4 5 6 7 8 9 10; do dig +tries=1 +time=1 @192.0.2.53 shop.example SOA >/dev/null && break; sleep 1; done\n";
                continue;
            }
            script += &line.replace("kubectl -n shop", &format!("{kubectl} --namespace={}", env.namespace()));
            script.push('\n');
        }
        printed.push(run(&folder, &script)?);
    }
    let named = named.context("the tutorial starts named")?;
    let seen = printed.join("\n---\n");
    println!("{seen}");
    ensure!(printed.len() == 5, "{seen}");
    ensure!(printed[0].trim() == "10 mx-a.shop.example.", "{seen}");
    ensure!(printed[2].contains("30\tIN\tMX\t10 mx-a.shop.example."), "{seen}");
    ensure!(printed[3].trim_end().ends_with("10 mx-b.shop.example."), "{seen}");
    ensure!(printed[4].contains("\"applied\":\"MX 10 mx-a.shop.example; TTL 30\""), "{seen}");

    // Records outlive the route, and go by the command that the page has for them.
    let delete = format!("{kubectl} --namespace={} delete mailroute orders", env.namespace());
    let look = "dig @192.0.2.53 +short bounce.shop.example MX; dig @192.0.2.53 +short _mail-failover-mx.bounce.shop.example TXT";
    let left = run(&folder, &format!("{delete} >/dev/null\n{look}"))?;
    ensure!(left.contains("10 mx-a.shop.example.") && left.contains("heritage=mail-failover"), "{left}");
    let removal = blocks(REMOVAL)?.into_iter().next().context("a command")?;
    let left = run(&folder, &format!("{removal}\n{look}"))?;
    ensure!(left.trim().is_empty(), "{left}");
    drop(named);
    Ok(())
}

/// Runs commands in a folder, and returns what they print.
fn run(folder: &std::path::Path, script: &str) -> Result<String> {
    let output = Command::new("sh").current_dir(folder).args(["-c", script]).output()?;
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    ensure!(output.status.success(), "{script}\n{out}\n{err}");
    Ok(out.into_owned())
}
