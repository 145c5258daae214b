//! The command line of `mail-failover relay`.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Subcommand, ValueEnum};
use ipnet::IpNet;
use mail_failover_dataplane::source::SourceArguments;
use mail_failover_runtime::dial_guard::Network;
use mail_failover_runtime::telemetry::LogFormat;
use mail_failover_runtime::values;

use crate::core::transaction::Ambiguity;

/// Subcommands of `mail-failover relay`.
#[derive(Debug, Subcommand)]
pub enum RelayCommand {
    /// Take mail from applications and carry each message to a backend of the route while the application waits, until
    /// SIGTERM or SIGINT.
    #[command(after_help = RUN_EXAMPLES)]
    Run(Box<RelayArguments>),
}

const RUN_EXAMPLES: &str = "Examples:
  mail-failover relay run --config-map shop/orders-agent --smtp-address 0.0.0.0:2525 --allow-network 10.0.0.0/8
  mail-failover relay run --config-file /etc/mail-failover/agent.json --certificate-directory /etc/mail-failover/tls \\
      --smtps-address 0.0.0.0:465 --users-directory /etc/mail-failover/users";

/// Policy for messages that a backend may have accepted without saying so.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum AmbiguityArgument {
    /// Tell the application 451. It may send the message again.
    #[default]
    Refuse,
    /// Give the message to the next backend. It may arrive twice.
    Retry,
}

impl From<AmbiguityArgument> for Ambiguity {
    fn from(argument: AmbiguityArgument) -> Self {
        match argument {
            AmbiguityArgument::Refuse => Self::Refuse,
            AmbiguityArgument::Retry => Self::Retry,
        }
    }
}

/// Arguments of `relay run`.
#[derive(Debug, Args)]
pub struct RelayArguments {
    /// Sources of the document.
    #[command(flatten)]
    pub source: SourceArguments,

    /// Address that serves SMTP, with STARTTLS if there is a certificate; repeatable.
    #[arg(long, value_name = "ADDRESS:PORT", default_value = "127.0.0.1:2525")]
    pub smtp_address: Vec<SocketAddr>,

    /// Address that serves SMTP with TLS from the first byte; repeatable.
    #[arg(long, value_name = "ADDRESS:PORT", requires = "certificate_directory")]
    pub smtps_address: Vec<SocketAddr>,

    /// Folder with tls.crt and tls.key, as cert-manager writes them. A renewed certificate is taken within seconds.
    #[arg(long, value_name = "FOLDER")]
    pub certificate_directory: Option<PathBuf>,

    /// Take no mail without TLS.
    #[arg(long, requires = "certificate_directory")]
    pub require_tls: bool,

    /// Folder with a file for each user that may log in; its content is the password. A client outside of the allowed
    /// networks must log in.
    #[arg(long, value_name = "FOLDER")]
    pub users_directory: Option<PathBuf>,

    /// Let users log in without TLS. Everybody on the way reads their passwords then.
    #[arg(long, requires = "users_directory")]
    pub login_without_tls: bool,

    /// Network of clients that may send without a login, repeatable. By default only this host may: 127.0.0.0/8 and
    /// ::1/128.
    #[arg(long = "allow-network", value_name = "CIDR", default_values = ["127.0.0.0/8", "::1/128"])]
    pub allow_networks: Vec<IpNet>,

    /// Network of load balancers that begin each connection with a header of the PROXY protocol (version 1 or 2),
    /// repeatable: the client is the one that the header names. By default there are none, and a header is no command.
    #[arg(long = "proxy-from", value_name = "CIDR")]
    pub proxy_from: Vec<IpNet>,

    /// Networks that backends may lead to although nothing connects there by itself, comma-separated: 127.0.0.0/8 for a
    /// mail server on this host. Loopback, link-local, metadata, multicast and reserved addresses are refused unless
    /// they, or networks within theirs, are named here.
    #[arg(long, value_name = "CIDR,…", value_delimiter = ',')]
    pub allow_destinations: Vec<Network>,

    /// Name of the relay in its greeting, in EHLO to backends and in Received lines. By default the host's.
    #[arg(long, value_name = "NAME", value_parser = host_name)]
    pub hostname: Option<String>,

    /// Folder with a folder for each backend's Secret, which has the files username and password.
    #[arg(long, value_name = "FOLDER", default_value = "/etc/mail-failover/credentials")]
    pub credentials_directory: PathBuf,

    /// Bound on all waits for backends of one message together. It should be below the patience of the applications.
    #[arg(long, value_name = "DURATION", default_value = "25s", value_parser = values::duration)]
    pub transaction_timeout: Duration,

    /// Bound on each wait for a backend but the last: connection with TLS and login, reply, pause within the content.
    #[arg(long, value_name = "DURATION", default_value = "5s", value_parser = values::duration)]
    pub stage_timeout: Duration,

    /// Part of --transaction-timeout that is kept for the final answer of a backend.
    #[arg(long, value_name = "DURATION", default_value = "10s", value_parser = values::duration)]
    pub answer_timeout: Duration,

    /// What follows when a backend may have accepted a message and has not said so.
    #[arg(long, value_enum, default_value_t)]
    pub when_ambiguous: AmbiguityArgument,

    /// Most octets of a message.
    #[arg(long, value_name = "OCTETS", default_value_t = 26_214_400)]
    pub max_message_size: u64,

    /// Most recipients of a message.
    #[arg(long, value_name = "NUMBER", default_value_t = 1000)]
    pub max_recipients: usize,

    /// Most connections of applications at a time. An idle one gives way to a new one.
    #[arg(long, value_name = "NUMBER", default_value_t = 2000)]
    pub max_connections: usize,

    /// Most connections to each backend at a time, idle ones included.
    #[arg(long, value_name = "NUMBER", default_value_t = 20)]
    pub backend_connections: usize,

    /// Most messages over one connection to a backend.
    #[arg(long, value_name = "NUMBER", default_value_t = 100)]
    pub backend_messages: u32,

    /// Time for which a connection to a backend is kept without a message.
    #[arg(long, value_name = "DURATION", default_value = "30s", value_parser = values::duration)]
    pub backend_idle_timeout: Duration,

    /// Octets of one message that are kept in memory; the rest goes to a file.
    #[arg(long, value_name = "OCTETS", default_value_t = 262_144)]
    pub message_memory: u64,

    /// Octets of all messages that are kept in memory. Beyond that applications get a 452.
    #[arg(long, value_name = "OCTETS", default_value_t = 134_217_728)]
    pub buffer_memory: u64,

    /// Octets of all messages that are kept in files. Beyond that applications get a 452.
    #[arg(long, value_name = "OCTETS", default_value_t = 1_073_741_824)]
    pub buffer_disk: u64,

    /// Folder of these files. They have no names, and nothing of them outlives its message.
    #[arg(long, value_name = "FOLDER", default_value = "/tmp")]
    pub buffer_directory: PathBuf,

    /// Folder for the last good document, so that a restart needs neither operator nor API server.
    #[arg(long, value_name = "FOLDER", default_value = "/var/lib/mail-failover")]
    pub state_directory: PathBuf,

    /// Address that serves /metrics.
    #[arg(long, value_name = "ADDRESS:PORT", default_value = "127.0.0.1:8026")]
    pub listen_address: SocketAddr,

    /// Address that serves /livez and /readyz: a listener of its own, so that nobody who occupies the other one has the
    /// relay ended.
    #[arg(long, value_name = "ADDRESS:PORT", default_value = "127.0.0.1:8028")]
    pub health_listen_address: SocketAddr,

    /// Time for which new connections are still taken after SIGTERM, while a Service stops leading to this relay.
    #[arg(long, value_name = "DURATION", default_value = "0s", value_parser = values::duration)]
    pub drain_delay: Duration,

    /// Time after that for transactions to end; should be above --transaction-timeout.
    #[arg(long, value_name = "DURATION", default_value = "30s", value_parser = values::duration)]
    pub drain_timeout: Duration,

    /// The token by which the operator knows this relay: a projected service-account token for the audience
    /// mail-failover-operator. Without one nothing is reported to the operator.
    #[arg(long, value_name = "FILE")]
    pub token_file: Option<PathBuf>,

    /// Name of this relay in reports, unique among those of the route: the pod's, or the host's by default.
    #[arg(long, env = "POD_NAME", value_name = "NAME")]
    pub name: Option<String>,

    /// Name senders and recipients in the access log.
    #[arg(long)]
    pub log_addresses: bool,

    /// Format of the logs.
    #[arg(long, value_enum, default_value_t)]
    pub log_format: LogFormat,

    /// A level (error, warn, info, debug, trace) or a list of directives. The access log is
    /// `mail_failover_relay::access=info`.
    #[arg(long, env = "MAIL_FAILOVER_LOG", value_name = "FILTER", default_value = "info")]
    pub log: String,
}

/// Error of arguments that do not fit together.
#[derive(Debug, thiserror::Error)]
pub enum ArgumentError {
    /// The text is no host name.
    #[error("use a host name such as relay.shop.example")]
    HostName,
    /// The bounds leave no time for a step.
    #[error(
        "--transaction-timeout must be longer than --answer-timeout by --stage-timeout at least, and none of them 0s"
    )]
    Bounds,
    /// A bound of nothing.
    #[error("{0} must be 1 at least")]
    Zero(&'static str),
}

impl RelayArguments {
    /// Checks that the arguments fit together.
    ///
    /// # Errors
    /// [`ArgumentError`], which names them.
    pub fn check(&self) -> Result<(), ArgumentError> {
        let least = self.answer_timeout.saturating_add(self.stage_timeout);
        if self.answer_timeout.is_zero() || self.stage_timeout.is_zero() || self.transaction_timeout < least {
            return Err(ArgumentError::Bounds);
        }
        for (name, is_zero) in [
            ("--max-message-size", self.max_message_size == 0),
            ("--max-recipients", self.max_recipients == 0),
            ("--max-connections", self.max_connections == 0),
            ("--backend-connections", self.backend_connections == 0),
            ("--backend-messages", self.backend_messages == 0),
        ] {
            if is_zero {
                return Err(ArgumentError::Zero(name));
            }
        }
        Ok(())
    }
}

fn host_name(text: &str) -> Result<String, ArgumentError> {
    let is_letter = |letter: char| letter.is_ascii_alphanumeric() || matches!(letter, '.' | '-' | '_');
    if text.is_empty() || text.len() > 253 || !text.chars().all(is_letter) {
        return Err(ArgumentError::HostName);
    }
    Ok(text.to_owned())
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Debug, Parser)]
    struct RelayLine {
        #[command(subcommand)]
        command: RelayCommand,
    }

    fn run(line: &str) -> Result<RelayArguments, String> {
        let line = format!("relay run {line}");
        let RelayCommand::Run(arguments) =
            RelayLine::try_parse_from(line.split(' ')).map_err(|error| error.to_string())?.command;
        arguments.check().map_err(|error| error.to_string())?;
        Ok(*arguments)
    }

    #[test]
    fn by_default_only_this_host_may_send() {
        let arguments = run("--config-file f").unwrap();
        let allows = |address: &str| {
            let address = address.parse::<std::net::IpAddr>().unwrap();
            arguments.allow_networks.iter().any(|network| network.contains(&address))
        };
        assert!(allows("127.0.0.1") && allows("::1"));
        assert!(!allows("10.0.0.1") && !allows("192.0.2.1") && !allows("2001:db8::1"));
        let arguments = run("--config-file f --allow-network 10.0.0.0/8").unwrap();
        assert_eq!(arguments.allow_networks.len(), 1, "they replace the default");
        assert!(run("--config-file f --allow-network everybody").is_err());
    }

    #[test]
    fn networks_that_backends_may_lead_to_are_separated_by_commas() {
        assert_eq!(run("--config-file f").unwrap().allow_destinations, []);
        let allowed = run("--config-file f --allow-destinations 127.0.0.0/8,::1").unwrap().allow_destinations;
        assert_eq!(allowed, ["127.0.0.0/8".parse().unwrap(), "::1".parse().unwrap()]);
        assert!(run("--config-file f --allow-destinations localhost").unwrap_err().contains("10.0.0.0/8"));
    }

    #[test]
    fn what_needs_a_certificate_or_a_source_says_so() {
        assert!(run("--log info").unwrap_err().contains("--config-map"));
        assert!(run("--config-file f --smtps-address 127.0.0.1:465").unwrap_err().contains("--certificate-directory"));
        assert!(run("--config-file f --require-tls").unwrap_err().contains("--certificate-directory"));
        assert!(run("--config-file f --login-without-tls").unwrap_err().contains("--users-directory"));
    }

    #[test]
    fn bounds_that_leave_no_time_are_refused() {
        assert!(run("--config-file f --transaction-timeout 14s").unwrap_err().contains("--answer-timeout"));
        assert!(run("--config-file f --stage-timeout 0s").unwrap_err().contains("0s"));
        assert!(run("--config-file f --max-recipients 0").unwrap_err().contains("--max-recipients"));
        assert!(run("--config-file f --hostname a_b.example").is_ok());
        assert!(run("--config-file f --hostname a,b").unwrap_err().contains("host name"));
    }
}
