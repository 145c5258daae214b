//! The command line of `mail-failover agent`.

use std::ffi::OsString;
use std::net::{AddrParseError, IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Subcommand, ValueEnum};
use mail_failover_dataplane::source::SourceArguments;
use mail_failover_runtime::telemetry::LogFormat;

use super::domains::{DomainTable, source_of};
use super::folder::FOLDER;
use super::postfix_config::PostfixConfigArguments;

/// Subcommands of `mail-failover agent`.
#[derive(Debug, Subcommand)]
pub enum AgentCommand {
    /// Stand beside Postfix: answer its socketmap queries and move its queue when the answers change, until SIGTERM or
    /// SIGINT.
    #[command(after_help = RUN_EXAMPLES)]
    Run(Box<AgentRunArguments>),
    /// Say what a running agent answers, where it has that from, and how it fares.
    ///
    /// Exit codes: 0, it is ready; 1, it is not; 2, it cannot be reached.
    Status(StatusArguments),
    /// Print the lines that Postfix needs to ask the agent, or check a configuration for what defeats failover.
    PostfixConfig(Box<PostfixConfigArguments>),
    /// Print the JSON schema of the document that agents read.
    Schema,
}

const RUN_EXAMPLES: &str = "Examples:
  mail-failover agent run --config-map shop/orders-agent
  mail-failover agent run --config-file /etc/mail-failover/agent.json --local-domain example.com
  mail-failover agent run --config-map shop/orders-agent --drain-timeout 2m -- postfix start-fg";

/// Arguments of `agent run`.
#[derive(Debug, Args)]
pub struct AgentRunArguments {
    /// Sources of the document.
    #[command(flatten)]
    pub source: SourceArguments,

    /// Folder with a folder for each Secret, which has the files username and password.
    #[arg(long, value_name = "FOLDER", default_value = "/etc/mail-failover/credentials")]
    pub credentials_directory: PathBuf,

    /// Domain whose mail Postfix keeps delivering by its own rules, repeatable: the domains of mydestination, virtual
    /// and relay domains. `.example.com` stands for the domains below example.com.
    #[arg(long = "local-domain", value_name = "DOMAIN")]
    pub local_domains: Vec<String>,

    /// Table or file with such domains, repeatable: `hash:/etc/postfix/domains` as main.cf has it, whose text file is
    /// read, or the path of a list; the first word of each line. It is read again when it changes. A file that cannot be
    /// read is an error at the start; later its last good domains stay.
    #[arg(long = "local-domains-from", value_name = "TABLE", value_parser = source_of)]
    pub local_domains_from: Vec<PathBuf>,

    /// The same for a table of relay_domains: the domains below each count, too, as by Postfix's default
    /// (parent_domain_matches_subdomains).
    #[arg(long = "relay-domains-from", value_name = "TABLE", value_parser = source_of)]
    pub relay_domains_from: Vec<PathBuf>,

    /// Postfix's queue_directory. The socket and the certificate authorities lie in its folder mail-failover, where
    /// chrooted processes reach them.
    #[arg(long, value_name = "FOLDER", default_value = "/var/spool/postfix")]
    pub queue_directory: PathBuf,

    /// The socket on which Postfix asks; QUEUE_DIRECTORY/mail-failover/socketmap by default.
    #[arg(long, value_name = "FILE")]
    pub socket: Option<PathBuf>,

    /// Permissions of the socket. It is given to Postfix's mail_owner, or to that user's group, as far as the agent
    /// may.
    #[arg(long, value_name = "OCTAL", default_value = "0660", value_parser = file_mode)]
    pub socket_mode: u32,

    /// Answer Postfix on this loopback address as well. Everybody who shares the host or the pod can ask for
    /// credentials there.
    #[arg(long, value_name = "ADDRESS:PORT", value_parser = loopback)]
    pub socketmap_address: Option<SocketAddr>,

    /// Postfix's log: a file, which may be rotated; lines of syslog in any of its forms, or JSON. Without a log the
    /// agent leaves no backend by itself.
    #[arg(long, value_name = "FILE")]
    pub mail_log: Option<PathBuf>,

    /// Take Postfix's log from syslog instead, at this socket. The agent makes the socket: /dev/log, if no other
    /// program has it.
    #[arg(long, value_name = "FILE", conflicts_with = "mail_log")]
    pub mail_log_socket: Option<PathBuf>,

    /// Postfix's config_directory: for its mail_owner, when the queue is new, and for postqueue, when its own socket
    /// cannot be reached.
    #[arg(long, value_name = "FOLDER", default_value = "/etc/postfix")]
    pub postfix_config_directory: PathBuf,

    /// Folder for the last good document, so that a restart needs neither operator nor API server.
    #[arg(long, value_name = "FOLDER", default_value = "/var/lib/mail-failover")]
    pub state_directory: PathBuf,

    /// Address that serves /metrics and /status.
    #[arg(long, value_name = "ADDRESS:PORT", default_value = "127.0.0.1:8026")]
    pub listen_address: SocketAddr,

    /// Address that serves /livez and /readyz: a listener of its own, so that nobody who occupies the other one has the
    /// agent ended.
    #[arg(long, value_name = "ADDRESS:PORT", default_value = "127.0.0.1:8028")]
    pub health_listen_address: SocketAddr,

    /// Longest time for emptying the queue when the agent ends: Postfix refuses new mail meanwhile. By default 20s with
    /// a COMMAND; without one Postfix goes on, and the queue is emptied only if this is given.
    #[arg(long, value_name = "DURATION", value_parser = mail_failover_runtime::values::duration)]
    pub drain_timeout: Option<Duration>,

    /// Time between asking Postfix to end and killing it; with a COMMAND.
    #[arg(long, value_name = "DURATION", default_value = "5s", requires = "command", value_parser = mail_failover_runtime::values::duration)]
    pub stop_timeout: Duration,

    /// The token by which the operator knows this agent: a projected service-account token for the audience
    /// mail-failover-operator. Without one nothing is reported to the operator.
    #[arg(long, value_name = "FILE")]
    pub token_file: Option<PathBuf>,

    /// Name of this agent in reports, unique among those of the route: the pod's, or the host's by default.
    #[arg(long, env = "POD_NAME", value_name = "NAME")]
    pub name: Option<String>,

    /// Format of the logs.
    #[arg(long, value_enum, default_value_t)]
    pub log_format: LogFormat,

    /// A level (error, warn, info, debug, trace) or a list of directives such as `info,mail_failover_agent=debug`.
    #[arg(long, env = "MAIL_FAILOVER_LOG", value_name = "FILTER", default_value = "info")]
    pub log: String,

    /// A command that runs Postfix in the foreground, for an agent that is the entry point of a container. The agent
    /// reads Postfix's log from the command's output, reaps orphaned processes, and ends with the command.
    #[arg(last = true, value_name = "COMMAND")]
    pub command: Vec<OsString>,
}

/// Default of `--drain-timeout` with a COMMAND.
// With the stop after it and a little more it fits into the 30 s that Kubernetes gives by default.
const DRAIN_WITH_COMMAND: Duration = Duration::from_secs(20);

impl AgentRunArguments {
    /// Returns the time for emptying the queue at the end. `None` means that the queue is left as it is.
    pub fn drain(&self) -> Option<Duration> {
        let default = if self.command.is_empty() { Duration::ZERO } else { DRAIN_WITH_COMMAND };
        Some(self.drain_timeout.unwrap_or(default)).filter(|timeout| !timeout.is_zero())
    }

    /// Returns the files that name domains which Postfix delivers by its own rules.
    pub fn domain_tables(&self) -> Vec<DomainTable> {
        DomainTable::of(&self.local_domains_from, &self.relay_domains_from)
    }

    /// The agent's folder in the queue directory.
    pub fn folder(&self) -> PathBuf {
        self.queue_directory.join(FOLDER)
    }

    /// The socket on which Postfix asks.
    pub fn socket(&self) -> PathBuf {
        self.socket.clone().unwrap_or_else(|| self.folder().join("socketmap"))
    }
}

/// Arguments of `agent status`.
#[derive(Debug, Args)]
pub struct StatusArguments {
    /// Address at which the agent serves /status.
    #[arg(long, value_name = "ADDRESS:PORT", default_value = "127.0.0.1:8026")]
    pub address: SocketAddr,

    /// Format of the printed status.
    #[arg(long, short, value_enum, value_name = "FORMAT", default_value_t)]
    pub output: StatusFormat,
}

/// Format of a printed status.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum StatusFormat {
    /// Text, to be read by people.
    #[default]
    Text,
    /// JSON, as the agent serves it.
    Json,
}

/// Error of a value on the command line.
#[derive(Debug, thiserror::Error)]
pub enum ArgumentError {
    /// The mode is no number of three octal digits.
    #[error("use three octal digits such as 0660")]
    FileMode,
    /// The text is no address with a port.
    #[error("{0}; use an address such as 127.0.0.1:8027")]
    Address(#[source] AddrParseError),
    /// The address can be reached from other hosts.
    #[error("{0} is no loopback address; answers hold passwords and are not encrypted: use 127.0.0.1 or [::1]")]
    NotLoopback(IpAddr),
}

fn file_mode(text: &str) -> Result<u32, ArgumentError> {
    u32::from_str_radix(text, 8).ok().filter(|mode| *mode <= 0o777).ok_or(ArgumentError::FileMode)
}

/// Parses a loopback address with a port.
// Socketmaps have neither TLS nor authentication, and some of the answers are passwords.
fn loopback(text: &str) -> Result<SocketAddr, ArgumentError> {
    let address: SocketAddr = text.parse().map_err(ArgumentError::Address)?;
    if address.ip().is_loopback() { Ok(address) } else { Err(ArgumentError::NotLoopback(address.ip())) }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Debug, Parser)]
    struct AgentLine {
        #[command(subcommand)]
        command: AgentCommand,
    }

    fn run(line: &str) -> Result<AgentRunArguments, String> {
        let line = format!("agent run {line}");
        let command = AgentLine::try_parse_from(line.split(' ')).map_err(|error| error.to_string())?.command;
        let AgentCommand::Run(arguments) = command else { panic!("{command:?}") };
        Ok(*arguments)
    }

    #[test]
    fn an_agent_needs_a_source() {
        assert!(run("--log info").unwrap_err().contains("--config-map"));
        let arguments = run("--config-map shop/orders-agent --config-file /etc/agent.json").unwrap();
        assert_eq!(arguments.source.config_map.unwrap().to_string(), "shop/orders-agent");
        for wrong in ["orders", "shop/", "/orders", "a/b/c"] {
            assert!(run(&format!("--config-map {wrong}")).unwrap_err().contains("shop/orders-agent"), "{wrong}");
        }
    }

    #[test]
    fn an_agent_beside_postfix_drains_only_when_asked() {
        let drain = |line: &str| {
            run(format!("--config-file f {line}").trim_end()).unwrap().drain().map(|timeout| timeout.as_secs())
        };
        assert_eq!(drain(""), None);
        assert_eq!(drain("--drain-timeout 2m"), Some(120));
        assert_eq!(drain("-- postfix start-fg"), Some(20));
        assert_eq!(drain("--drain-timeout 0s -- postfix start-fg"), None);
        assert_eq!(run("--config-file f -- postfix -v start-fg").unwrap().command, ["postfix", "-v", "start-fg"]);
    }

    #[test]
    fn the_time_for_ending_postfix_needs_a_postfix_to_end() {
        let stop =
            |line: &str| run(&format!("--config-file f {line}")).map(|arguments| arguments.stop_timeout.as_secs());
        assert_eq!(stop("--stop-timeout 10s -- postfix start-fg"), Ok(10));
        assert_eq!(run("--config-file f").unwrap().stop_timeout.as_secs(), 5);
        assert!(stop("--stop-timeout 10s").unwrap_err().contains("COMMAND"));
    }

    #[test]
    fn passwords_do_not_leave_the_machine() {
        for address in ["127.0.0.1:1", "127.9.9.9:1", "[::1]:1"] {
            assert!(run(&format!("--config-file f --socketmap-address {address}")).is_ok(), "{address}");
        }
        for address in ["0.0.0.0:1", "192.0.2.1:1", "[::]:1", "[2001:db8::1]:1"] {
            let error = run(&format!("--config-file f --socketmap-address {address}")).unwrap_err();
            assert!(error.contains("no loopback address"), "{error}");
        }
    }

    #[test]
    fn domains_are_named_by_tables_as_main_cf_has_them() {
        let arguments =
            run("--config-file f --local-domains-from hash:/etc/postfix/d --relay-domains-from /etc/postfix/r")
                .unwrap();
        let tables = arguments.domain_tables();
        let tables: Vec<_> = tables.iter().map(|table| (table.file.to_str().unwrap(), table.with_subdomains)).collect();
        assert_eq!(tables, [("/etc/postfix/d", false), ("/etc/postfix/r", true)]);
        let error = run("--config-file f --local-domains-from mysql:/etc/postfix/d.cf").unwrap_err();
        assert!(error.contains("write its domains into a file"), "{error}");
    }

    #[test]
    fn the_socket_lies_where_chrooted_processes_reach_it() {
        let arguments = run("--config-file f --queue-directory /q").unwrap();
        assert_eq!(arguments.socket(), PathBuf::from("/q/mail-failover/socketmap"));
        assert_eq!(arguments.socket_mode, 0o660);
        assert_eq!(run("--config-file f --socket /run/s --socket-mode 666").unwrap().socket_mode, 0o666);
        assert!(run("--config-file f --socket-mode 888").unwrap_err().contains("octal"));
    }
}
