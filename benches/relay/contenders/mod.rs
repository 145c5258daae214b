//! The providers, and what may stand between them and an application.

mod relay;
pub mod smtprelay;

use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result};
use mail_failover_e2e::bench::Arguments;
use mail_failover_e2e::eventually::eventually;
use mail_failover_e2e::fixture::WAIT_TIMEOUT;
use mail_failover_e2e::haproxy::{Checks, HaProxy, Listen};
use mail_failover_e2e::mail::certificates::{Authority, Validity};
use mail_failover_e2e::mail::server::{Logins, Options as ServerOptions, SmtpServer};
use mail_failover_e2e::postfix::{self, Postfix, PostfixTimeouts};
use mail_failover_e2e::process::Process;
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;

use crate::application::Application;

/// The name in the certificates of the providers, and of those who stand before them.
pub const SERVER_NAME: &str = "relay.bench.test";
/// The login at the providers.
pub const LOGIN: (&str, &str) = ("app", "correct horse");

/// The demands of the providers on clients.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Demands {
    /// None.
    Nothing,
    /// STARTTLS with a verified certificate, and a login.
    TlsAndLogin,
}

/// Two providers with the same demands.
pub struct Providers {
    /// The first choice.
    pub first: SmtpServer,
    /// The other one.
    pub second: SmtpServer,
    pub demands: Demands,
    pub authority: Authority,
}

impl Providers {
    /// Starts them.
    ///
    /// # Errors
    /// One cannot listen.
    pub async fn start(demands: Demands) -> Result<Self> {
        let authority = Authority::new()?;
        let first = SmtpServer::start(demands.of_server("first", 11, &authority)?).await?;
        let second = SmtpServer::start(demands.of_server("second", 12, &authority)?).await?;
        Ok(Self { first, second, demands, authority })
    }
}

impl Demands {
    fn of_server(self, name: &str, host: u8, authority: &Authority) -> Result<ServerOptions> {
        // Any port: the providers of the round before may still be on their way out.
        let options = ServerOptions::new(name, at(host, 0));
        Ok(match self {
            Self::Nothing => options,
            Self::TlsAndLogin => options
                .start_tls(authority.issue(&[SERVER_NAME], Validity::Valid)?)
                .logins(Logins::Only(vec![(LOGIN.0.to_owned(), LOGIN.1.to_owned())])),
        })
    }
}

fn at(host: u8, port: u16) -> SocketAddr {
    SocketAddr::new(Ipv4Addr::new(192, 0, 2, host).into(), port)
}

/// Contender that an application sends its mail to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// The first provider itself.
    Straight,
    /// HAProxy, which passes connections on and checks both providers.
    HaProxy,
    /// Our relay, with its defaults.
    Relay,
    /// Postfix, which answers once the message is in its queue.
    Postfix,
    /// `decke/smtprelay`.
    SmtpRelay,
}

impl Kind {
    /// All that can be started here.
    pub fn available(arguments: Arguments) -> Vec<Self> {
        let all = [Self::Straight, Self::HaProxy, Self::Relay, Self::Postfix, Self::SmtpRelay];
        all.into_iter().filter(|kind| kind.is_there(arguments)).collect()
    }

    fn is_there(self, arguments: Arguments) -> bool {
        match self {
            Self::Straight | Self::Relay => true,
            Self::HaProxy => !arguments.no_peer && HaProxy::program().is_some(),
            Self::Postfix => !arguments.no_peer,
            Self::SmtpRelay => !arguments.no_peer && smtprelay::program().is_some(),
        }
    }

    /// The name in tables.
    pub fn name(self) -> &'static str {
        match self {
            Self::Straight => "straight",
            Self::HaProxy => "HAProxy (TCP)",
            Self::Relay => "mail-failover relay",
            Self::Postfix => "Postfix",
            Self::SmtpRelay => "decke/smtprelay",
        }
    }

    /// True if the application pays for the providers' TLS and login itself.
    pub fn passes_bytes_on(self) -> bool {
        matches!(self, Self::Straight | Self::HaProxy)
    }
}

enum Running {
    Nothing,
    HaProxy(HaProxy),
    Postfix(Box<Postfix>),
    Process(Process),
}

/// A contender that runs.
pub struct Contender {
    pub kind: Kind,
    pub address: SocketAddr,
    running: Running,
}

impl Contender {
    /// Starts one in front of these providers; it takes mail when this returns. Our relay gets further arguments.
    ///
    /// # Errors
    /// It does not start.
    pub async fn start(kind: Kind, providers: &Providers, folder: &Path, extra: &[&str]) -> Result<Self> {
        let folder = fresh_folder(folder, kind.name())?;
        let contender = match kind {
            Kind::Straight => Self { kind, address: providers.first.address(), running: Running::Nothing },
            Kind::HaProxy => {
                let address = at(21, 2500);
                let program = HaProxy::program().context("HAProxy")?;
                // HAProxy's own defaults, written out.
                let checks = Checks {
                    interval: "2s",
                    fast_interval: None,
                    timeout: "5s",
                    failures: 3,
                    successes: 2,
                    told: None,
                };
                let servers = vec![providers.first.address(), providers.second.address()];
                let haproxy = HaProxy::start(&program, checks, &[Listen { at: address, servers }], &folder)?;
                Self { kind, address, running: Running::HaProxy(haproxy) }
            }
            Kind::Relay => {
                let (address, process) = relay::start(providers, &folder, extra)?;
                Self { kind, address, running: Running::Process(process) }
            }
            Kind::Postfix => {
                let address = at(25, 25);
                let postfix = Postfix::start(postfix_options(address, providers, &folder)?).await?;
                Self { kind, address, running: Running::Postfix(Box::new(postfix)) }
            }
            Kind::SmtpRelay => {
                let (address, process) = smtprelay::start(providers, &folder)?;
                Self { kind, address, running: Running::Process(process) }
            }
        };
        contender.until_it_greets().await?;
        Ok(contender)
    }

    /// The process that is measured, if there is one, and with Postfix its master.
    ///
    /// # Errors
    /// It has ended.
    pub fn process(&self) -> Result<Option<u32>> {
        Ok(match &self.running {
            Running::Nothing => None,
            Running::HaProxy(haproxy) => Some(haproxy.id()),
            Running::Postfix(postfix) => Some(postfix.master_id()?),
            Running::Process(process) => Some(process.id()),
        })
    }

    /// An application that sends to it.
    ///
    /// # Errors
    /// Its TLS cannot be set up.
    pub fn application(&self, providers: &Providers) -> Result<Application> {
        if providers.demands == Demands::TlsAndLogin && self.kind.passes_bytes_on() {
            Ok(Application { logs_in: true, ..Application::encrypted(self.address, &providers.authority)? })
        } else {
            Ok(Application::plain(self.address))
        }
    }

    async fn until_it_greets(&self) -> Result<()> {
        eventually(WAIT_TIMEOUT, &format!("{} to take mail", self.kind.name()), async || {
            let mut greeting = [0; 4];
            TcpStream::connect(self.address).await?.read_exact(&mut greeting).await?;
            Ok((&greeting == b"220 ").then_some(()))
        })
        .await?;
        // HAProxy trusts its servers before it has checked them, and our relay learns what they offer.
        tokio::time::sleep(Duration::from_secs(1)).await;
        Ok(())
    }
}

fn postfix_options(address: SocketAddr, providers: &Providers, folder: &Path) -> Result<postfix::Options> {
    let next_hop = format!("[{}]:{}", providers.first.address().ip(), providers.first.address().port());
    let mut options = postfix::Options::new(address, folder.join("postfix.log")).with("relayhost", next_hop.as_str());
    options.timeouts = PostfixTimeouts::Defaults;
    if providers.demands == Demands::TlsAndLogin {
        let file = folder.join("ca.pem");
        fs::write(&file, providers.authority.pem())?;
        options = options
            .with("smtp_tls_CAfile", file.display().to_string())
            .with("smtp_tls_policy_maps", format!("inline:{{ {{ {next_hop} = secure match={SERVER_NAME} }} }}"))
            .with("smtp_sasl_auth_enable", "yes")
            .with("smtp_sasl_security_options", "noanonymous")
            .with("smtp_sasl_password_maps", format!("inline:{{ {{ {next_hop} = {}:{} }} }}", LOGIN.0, LOGIN.1));
    }
    Ok(options)
}

fn fresh_folder(folder: &Path, name: &str) -> Result<PathBuf> {
    let name: String = name.chars().filter(char::is_ascii_alphanumeric).collect();
    let folder = tempfile::Builder::new().prefix(&name).tempdir_in(folder)?.keep();
    // Postfix' users read files in it.
    fs::set_permissions(&folder, fs::Permissions::from_mode(0o755))?;
    Ok(folder)
}
