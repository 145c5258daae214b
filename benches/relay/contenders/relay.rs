//! `mail-failover relay` as a process of its own, with the defaults of its command line and of a
//! `FailoverPolicy`.

use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result};
use mail_failover_e2e::mail::server::SmtpServer;
use mail_failover_e2e::operator;
use mail_failover_e2e::process::Process;
use serde_json::{Value, json};

use super::{Demands, LOGIN, Providers, SERVER_NAME, at};

const SECRET: &str = "login";

/// Starts the relay. Returns the address of SMTP.
///
/// # Errors
/// It does not start.
pub fn start(providers: &Providers, folder: &Path, extra: &[&str]) -> Result<(SocketAddr, Process)> {
    let address = at(31, 2525);
    // Without `breaker` and `deliveries` their defaults are in force.
    let document = json!({
        "apiVersion": "agent.mailfailover.io/v1alpha1",
        "route": {"namespace": "shop", "name": "orders", "uid": "u"},
        "decision": {"transition": 1},
        "backends": [backend(&providers.first, 100, providers), backend(&providers.second, 0, providers)],
    });
    fs::write(folder.join("agent.json"), document.to_string())?;
    let credentials = folder.join("credentials").join(SECRET);
    fs::create_dir_all(&credentials)?;
    fs::write(credentials.join("username"), LOGIN.0)?;
    fs::write(credentials.join("password"), LOGIN.1)?;
    let (certificate, key) = providers.authority.issue_pem(&[SERVER_NAME])?;
    fs::create_dir(folder.join("tls"))?;
    fs::write(folder.join("tls/tls.crt"), certificate)?;
    fs::write(folder.join("tls/tls.key"), key)?;
    let mut command = Command::new(operator::program()?);
    command
        .args(["relay", "run", "--allow-network", "192.0.2.0/24", "--hostname", SERVER_NAME])
        .args(["--smtp-address", &address.to_string()])
        .args(["--listen-address", &at(31, 8026).to_string(), "--health-listen-address", &at(31, 8028).to_string()])
        .arg("--config-file")
        .arg(folder.join("agent.json"))
        .arg("--credentials-directory")
        .arg(folder.join("credentials"))
        .arg("--certificate-directory")
        .arg(folder.join("tls"))
        .arg("--state-directory")
        .arg(folder.join("state"))
        .args(extra);
    let process = Process::start("mail-failover relay", &mut command, &folder.join("relay.log"));
    Ok((address, process.context("the relay")?))
}

fn backend(server: &SmtpServer, percent: u8, providers: &Providers) -> Value {
    let mut backend = json!({
        "name": server.name(), "percent": percent, "standby": true, "alternate": true,
        "host": server.address().ip().to_string(), "port": server.address().port(), "tls": {"mode": "None"},
    });
    if providers.demands == Demands::TlsAndLogin {
        backend["tls"] = json!({"mode": "StartTLS", "serverName": SERVER_NAME, "ca": providers.authority.pem()});
        backend["secret"] = json!(SECRET);
    }
    backend
}
