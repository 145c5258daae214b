//! Postfix in front of two providers, and the means that lead its mail around a broken one.

use std::fmt::Write as _;
use std::fs;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::json;
use tokio::time::sleep;

use crate::agent::{self, Agent};
use crate::eventually::eventually;
use crate::fixture::WAIT_TIMEOUT;
use crate::haproxy::{Checks, HOW_TO_INSTALL, HaProxy, Listen};
use crate::mail::certificates::{Authority, Validity};
use crate::mail::server::{Logins, Options as ServerOptions, SmtpServer};
use crate::operator;
use crate::postfix::{self, Postfix, PostfixTimeouts};
use crate::test_env::TestEnv;

/// The name in the providers' certificates.
const SERVER_NAME: &str = "relay.bench.test";
/// The login for providers that demand one.
const LOGIN: (&str, &str) = ("app", "correct horse");
/// The name of the server in second place.
pub const STANDBY: &str = "standby";
/// The path of the providers' authority in Postfix's chroot, without the slash before it.
const AUTHORITY: &str = "etc/providers.pem";
/// The path of the public authorities on Debian.
const PUBLIC_AUTHORITIES: &str = "/etc/ssl/certs/ca-certificates.crt";
/// The Secret with the login.
pub const SECRET: &str = "relay-credentials";
/// The interval of probes, as text and as a duration. HAProxy's checks have the same.
pub const INTERVAL: (&str, Duration) = ("200ms", Duration::from_millis(200));
/// The timeout of probes and checks, as text and as a duration.
pub const TIMEOUT: (&str, Duration) = ("500ms", Duration::from_millis(500));
/// The number of equal results in a row that decide.
pub const THRESHOLD: u32 = 3;

/// The means that leads mail around a broken provider.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Setup {
    /// None: Postfix sends everything to the first provider. The cost of healthy mail is measured
    /// this way.
    Direct,
    /// None, but Postfix is set up for providers that speak TLS, with the agent's lines for
    /// main.cf: each process loads the public authorities when it starts, even if the provider does
    /// not speak TLS.
    DirectTrusting,
    /// The same, with a connection for each message, as the agent's lines have it.
    DirectUncached,
    /// Postfix itself, by a list in `relayhost`.
    List,
    /// HAProxy with `option smtpchk` and a backup, as the only relay that Postfix knows.
    Proxy,
    /// The agent beside Postfix, and the operator, with quick probes and thresholds.
    Agent,
    /// The same as a user has it who sets nothing: default probes and policy, and the lines that `agent postfix-config`
    /// prints by default.
    AgentByDefault,
}

/// Settings of the operator and of Postfix's lines.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Settings {
    /// [`INTERVAL`], [`TIMEOUT`] and [`THRESHOLD`], and lines for a network of one's own.
    Quick,
    /// Everybody's defaults.
    Defaults,
}

impl Settings {
    /// The value of `agent postfix-config --timeouts`.
    fn timeouts(self) -> &'static str {
        match self {
            Self::Quick => "lan",
            Self::Defaults => "internet",
        }
    }
}

/// The demands of the providers on clients.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Demands {
    /// STARTTLS with a verified certificate.
    pub tls: bool,
    pub login: bool,
}

/// Two providers, and a server that takes bounces.
pub struct Providers {
    pub primary: SmtpServer,
    pub standby: SmtpServer,
    /// The server that takes bounces.
    pub bounces: SmtpServer,
    demands: Demands,
    authority: Authority,
}

impl Providers {
    /// Starts them on addresses of the environment.
    ///
    /// # Errors
    /// When one cannot listen.
    pub async fn start(env: &TestEnv, demands: Demands) -> Result<Self> {
        let authority = Authority::new()?;
        let at = SocketAddr::new(env.ipv4(), 25);
        let primary = SmtpServer::start(demands.of_server("primary", at, &authority)?).await?;
        let at = SocketAddr::new(env.ipv4(), 25);
        let standby = SmtpServer::start(demands.of_server(STANDBY, at, &authority)?).await?;
        let bounces = SmtpServer::start(ServerOptions::new("bounces", SocketAddr::new(env.ipv4(), 25))).await?;
        Ok(Self { primary, standby, bounces, demands, authority })
    }
}

impl Demands {
    /// Options of a server with these demands.
    fn of_server(self, name: &str, at: SocketAddr, authority: &Authority) -> Result<ServerOptions> {
        let mut options = ServerOptions::new(name, at);
        if self.tls {
            options = options.start_tls(authority.issue(&[SERVER_NAME], Validity::Valid)?);
        }
        if self.login {
            options = options.logins(Logins::Only(vec![(LOGIN.0.to_owned(), LOGIN.1.to_owned())]));
        }
        Ok(options)
    }
}

/// Postfix, and the processes beside it. All of them end when it is dropped.
pub struct Mta {
    pub postfix: Postfix,
    /// The agent, with [`Setup::Agent`].
    pub agent: Option<Agent>,
    _haproxy: Option<HaProxy>,
}

/// The sender of all mail of a load, who gets the bounces.
pub const SENDER: &str = "app@shop.example";

impl Mta {
    /// Starts Postfix; mail can be sent when this returns. With an agent, an operator must be
    /// running, and objects get names with `suffix`.
    ///
    /// # Errors
    /// When something does not start, or the operator does not write what the agent reads.
    pub async fn start(
        env: &TestEnv,
        setup: Setup,
        providers: &Providers,
        timeouts: PostfixTimeouts,
        suffix: &str,
    ) -> Result<Self> {
        let (mut options, bounces) = base(env, providers, suffix);
        options.timeouts = timeouts;
        let at = options.at;
        let (primary, standby) = (providers.primary.address(), providers.standby.address());
        let options = match setup {
            Setup::Direct | Setup::DirectTrusting | Setup::DirectUncached => {
                let options = options.with("relayhost", next_hop(primary)).with("transport_maps", bounces);
                let mut options = with_demands(env, options, providers, &[primary])?;
                if setup != Setup::Direct {
                    options = trusting(options, providers, primary);
                }
                if setup == Setup::DirectUncached {
                    options = options.with("smtp_connection_cache_on_demand", "no");
                }
                let postfix = Postfix::start(options).await?;
                fs::write(postfix.queue_directory().join(AUTHORITY), providers.authority.pem())?;
                return Ok(Self { postfix, agent: None, _haproxy: None });
            }
            Setup::List => {
                let relays = format!("{}, {}", next_hop(primary), next_hop(standby));
                let options = options.with("relayhost", relays).with("transport_maps", bounces);
                with_demands(env, options, providers, &[primary, standby])?
            }
            Setup::Proxy => {
                let frontend = SocketAddr::new(at.ip(), 2500);
                let haproxy = start_haproxy(env, frontend, vec![primary, standby], suffix).await?;
                let options = options.with("relayhost", next_hop(frontend)).with("transport_maps", bounces);
                let options = with_demands(env, options, providers, &[frontend])?;
                return Ok(Self { postfix: Postfix::start(options).await?, agent: None, _haproxy: Some(haproxy) });
            }
            Setup::Agent => return Self::with_agent(env, providers, timeouts, suffix, |_| Ok(())).await,
            Setup::AgentByDefault => {
                return Self::beside_agent(env, providers, timeouts, suffix, Settings::Defaults, |_| Ok(())).await;
            }
        };
        Ok(Self { postfix: Postfix::start(options).await?, agent: None, _haproxy: None })
    }

    /// Starts Postfix with [`Setup::Agent`] like [`Self::start`], and changes the agent's options
    /// first.
    ///
    /// # Errors
    /// As there.
    pub async fn with_agent(
        env: &TestEnv,
        providers: &Providers,
        timeouts: PostfixTimeouts,
        suffix: &str,
        adjust: impl FnOnce(&mut agent::Options) -> Result<()>,
    ) -> Result<Self> {
        Self::beside_agent(env, providers, timeouts, suffix, Settings::Quick, adjust).await
    }

    async fn beside_agent(
        env: &TestEnv,
        providers: &Providers,
        timeouts: PostfixTimeouts,
        suffix: &str,
        settings: Settings,
        adjust: impl FnOnce(&mut agent::Options) -> Result<()>,
    ) -> Result<Self> {
        env.apply(&manifests(providers, suffix, settings)).await?;
        let (mut options, bounces) = base(env, providers, suffix);
        options.timeouts = timeouts;
        let options = with_lines(options, settings)?.with_first("transport_maps", bounces);
        let postfix = Postfix::start(options).await?;
        let mut options = agent::Options::beside(&postfix, env, &config_map(suffix), &format!("agent{suffix}"))?;
        mount_secret(&options.credentials_directory)?;
        adjust(&mut options)?;
        let agent = Agent::start(options)?;
        agent.wait_ready(WAIT_TIMEOUT).await?;
        // The agent reloads Postfix when it starts, which must not be measured.
        eventually(WAIT_TIMEOUT, "the switch of the agent's start to be done", async || {
            let switch = agent.status().await?.last_switch;
            Ok(switch.is_some_and(|switch| switch.state != "UnderWay").then_some(()))
        })
        .await?;
        if settings == Settings::Defaults {
            // Only what has answered a probe is an alternate, and the first probe may come after an interval of 10 s.
            eventually(WAIT_TIMEOUT, "the standby to be an alternate", async || {
                let backends = agent.status().await?.backends;
                let mut standbys = backends.iter().filter(|backend| backend.name.starts_with(STANDBY));
                Ok(standbys.any(|standby| standby.alternate == "Used").then_some(()))
            })
            .await?;
        }
        Ok(Self { postfix, agent: Some(agent), _haproxy: None })
    }
}

/// Adds the settings that `mail-failover agent postfix-config` prints for the agent, as users do,
/// and those that a test needs on top.
///
/// # Errors
/// When the program cannot say it.
pub fn with_agent(options: postfix::Options) -> Result<postfix::Options> {
    with_lines(options, Settings::Quick)
}

fn with_lines(options: postfix::Options, settings: Settings) -> Result<postfix::Options> {
    let output = Command::new(operator::program()?)
        .args(["agent", "postfix-config", "--format", "commands", "--timeouts", settings.timeouts(), "--maillog-file"])
        .arg(&options.log)
        .output()
        .context("cannot start mail-failover agent postfix-config")?;
    ensure!(output.status.success(), "agent postfix-config: {}", String::from_utf8_lossy(&output.stderr).trim());
    Ok(postfix::Options { commands: Some(String::from_utf8(output.stdout)?), ..options })
}

/// The common settings: an address, a log, and the map that leads bounces to the server that counts
/// them.
fn base(env: &TestEnv, providers: &Providers, suffix: &str) -> (postfix::Options, String) {
    let at = SocketAddr::new(env.ipv4(), 25);
    let bounces = format!("inline:{{ {{ {SENDER} = smtp:{} }} }}", next_hop(providers.bounces.address()));
    (postfix::Options::new(at, env.folder().join(format!("postfix{suffix}.log"))), bounces)
}

/// Deletes the objects with this suffix, so that their probes end.
///
/// # Errors
/// When kubectl fails.
pub async fn forget(env: &TestEnv, suffix: &str) -> Result<()> {
    for object in ["mailroute/orders", "sendingbackend/primary", "sendingbackend/standby", "failoverpolicy/orders"] {
        env.kubectl(&["delete", "--wait=false", &format!("{object}{suffix}")]).await?;
    }
    Ok(())
}

/// A next hop `[address]:port`, which needs no look-up of any kind.
fn next_hop(address: SocketAddr) -> String {
    match address.ip() {
        IpAddr::V4(ip) => format!("[{ip}]:{}", address.port()),
        IpAddr::V6(ip) => format!("[ipv6:{ip}]:{}", address.port()),
    }
}

/// A table of Postfix (`inline:`) with this value for each next hop.
fn inline_table(next_hops: &[SocketAddr], value: &str) -> String {
    let entries = next_hops.iter().map(|&at| format!("{{ {} = {value} }}", next_hop(at)));
    format!("inline:{{ {} }}", entries.collect::<Vec<_>>().join(", "))
}

/// Adds the agent's settings for TLS: the public authorities, and the providers' own one by a policy.
fn trusting(options: postfix::Options, providers: &Providers, primary: SocketAddr) -> postfix::Options {
    let options = options.with("smtp_tls_CAfile", PUBLIC_AUTHORITIES);
    if !providers.demands.tls {
        return options.with("smtp_tls_security_level", "may");
    }
    let policy = format!("secure match={SERVER_NAME} tafile=/{AUTHORITY}");
    options.with("smtp_tls_policy_maps", inline_table(&[primary], &policy))
}

/// Adds the settings of main.cf for TLS and logins that replace an agent's.
fn with_demands(
    env: &TestEnv,
    options: postfix::Options,
    providers: &Providers,
    next_hops: &[SocketAddr],
) -> Result<postfix::Options> {
    let mut options = options;
    if providers.demands.tls {
        // Postfix reads it before it enters its chroot.
        let file = env.folder().join("ca.pem");
        fs::write(&file, providers.authority.pem())?;
        options = options
            .with("smtp_tls_CAfile", file.display().to_string())
            .with("smtp_tls_policy_maps", inline_table(next_hops, &format!("secure match={SERVER_NAME}")));
    }
    if providers.demands.login {
        options = options
            .with("smtp_sasl_auth_enable", "yes")
            .with("smtp_sasl_security_options", "noanonymous")
            .with("smtp_sasl_password_maps", inline_table(next_hops, &format!("{}:{}", LOGIN.0, LOGIN.1)));
    }
    Ok(options)
}

async fn start_haproxy(env: &TestEnv, at: SocketAddr, servers: Vec<SocketAddr>, suffix: &str) -> Result<HaProxy> {
    let program = HaProxy::program().context(HOW_TO_INSTALL)?;
    let checks = Checks {
        interval: INTERVAL.0,
        fast_interval: None,
        timeout: TIMEOUT.0,
        failures: THRESHOLD,
        successes: THRESHOLD,
        told: None,
    };
    let haproxy =
        HaProxy::start(&program, checks, &[Listen { at, servers }], &fresh_folder(env, &format!("haproxy{suffix}"))?)?;
    // HAProxy trusts its servers before it has checked them. Wait for the first checks.
    sleep(Duration::from_secs(1)).await;
    eventually(WAIT_TIMEOUT, "HAProxy to listen", async || {
        tokio::net::TcpStream::connect(at).await?;
        Ok(Some(()))
    })
    .await?;
    Ok(haproxy)
}

fn fresh_folder(env: &TestEnv, name: &str) -> Result<PathBuf> {
    let folder = env.folder().join(name);
    fs::create_dir(&folder).with_context(|| folder.display().to_string())?;
    Ok(folder)
}

/// The `ConfigMap` that the operator writes for the agent.
pub fn config_map(suffix: &str) -> String {
    format!("orders-agent{suffix}")
}

/// Writes the login as a mounted Secret looks.
fn mount_secret(credentials: &Path) -> Result<()> {
    let secret = credentials.join(SECRET);
    fs::create_dir(&secret)?;
    fs::write(secret.join("username"), LOGIN.0)?;
    fs::write(secret.join("password"), LOGIN.1)?;
    Ok(())
}

/// Two backends, a policy and the route `orders`, all with this suffix.
fn manifests(providers: &Providers, suffix: &str, settings: Settings) -> String {
    let Demands { tls, login } = providers.demands;
    let mut text = String::new();
    if tls {
        let authority = json!({
            "apiVersion": "v1", "kind": "ConfigMap", "metadata": { "name": format!("relay-ca{suffix}") },
            "data": { "ca.crt": providers.authority.pem() },
        });
        let _ = writeln!(text, "---\n{authority}");
    }
    for (name, server) in [("primary", &providers.primary), ("standby", &providers.standby)] {
        let mut smtp = json!({ "host": server.address().ip().to_string(), "port": server.address().port() });
        if tls {
            smtp["tls"] = json!({
                "mode": "StartTLS", "serverName": SERVER_NAME, "caRef": { "configMap": format!("relay-ca{suffix}") },
            });
        }
        if login {
            smtp["auth"] = json!({ "secretRef": { "name": SECRET } });
        }
        let mut spec = json!({ "smtp": smtp });
        if settings == Settings::Quick {
            let probe = json!({ "name": "smtp", "interval": INTERVAL.0, "timeout": TIMEOUT.0, "smtp": {} });
            spec["probes"] = json!([probe]);
        }
        let backend = json!({
            "apiVersion": "mailfailover.io/v1alpha1", "kind": "SendingBackend", "metadata": { "name": format!("{name}{suffix}") },
            "spec": spec,
        });
        let _ = writeln!(text, "---\n{backend}");
    }
    let policy = match settings {
        Settings::Quick => json!({
            "failure": {
                "consecutive": THRESHOLD, "immediately": ["AccountPaused", "QuotaExhausted", "AuthenticationRefused"],
                "deliveries": { "consecutive": THRESHOLD, "lasting": "0s" },
            },
            "recovery": { "consecutive": THRESHOLD },
            "hold": { "cooldown": "1h", "minimumStay": "0s", "budget": { "switches": 10, "per": "1m" } },
            "failback": { "after": "1s" },
            "breaker": { "consecutive": THRESHOLD },
        }),
        Settings::Defaults => json!({}),
    };
    let policy = json!({
        "apiVersion": "mailfailover.io/v1alpha1", "kind": "FailoverPolicy", "metadata": { "name": format!("orders{suffix}") },
        "spec": policy,
    });
    let route = json!({
        "apiVersion": "mailfailover.io/v1alpha1", "kind": "MailRoute", "metadata": { "name": format!("orders{suffix}") },
        "spec": {
            "policyRef": { "name": format!("orders{suffix}") },
            "backends": [{ "name": format!("primary{suffix}") }, { "name": format!("standby{suffix}") }],
            "outputs": [{ "agent": { "configMap": config_map(suffix) } }],
        },
    });
    let _ = writeln!(text, "---\n{policy}\n---\n{route}");
    text
}
