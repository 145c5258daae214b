//! The command line of `mail-failover agent postfix-config`.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::{Args, ValueEnum};

use mail_failover_runtime::findings::Severity;

use crate::domains::{DomainTable, source_of};

/// Arguments of `agent postfix-config`.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct PostfixConfigArguments {
    /// Key by which mail is routed: the recipient or the sender of a message. By sender, a message goes to a backend
    /// that may send for the sender's domain.
    #[arg(long, value_enum, value_name = "KEY", default_value_t)]
    pub by: RoutingKey,

    /// The agent's socket, as Postfix finds it: relative to the queue directory, so that chrooted processes find it
    /// too.
    #[arg(long, value_name = "FILE", default_value = "mail-failover/socketmap", conflicts_with = "socketmap_address")]
    pub socket: PathBuf,

    /// The agent's --socketmap-address, for a Postfix that cannot reach a socket in its queue directory.
    #[arg(long, value_name = "ADDRESS:PORT")]
    pub socketmap_address: Option<SocketAddr>,

    /// No backend asks for a login: leave user names and passwords out.
    #[arg(long)]
    pub without_sasl: bool,

    /// A backend has auth.allowPlaintext: passwords may be sent without TLS, or where it is not verified.
    #[arg(long, conflicts_with = "without_sasl")]
    pub plaintext_logins: bool,

    /// No backend speaks TLS: leave it out. Postfix then asks nothing before a session, so that limits.messagesPerSecond of
    /// a backend is not kept.
    #[arg(long)]
    pub without_tls: bool,

    /// Leave `smtp_reply_filter` out, for a Postfix before 3.7: a 5xx then ends an attempt, and the message goes elsewhere
    /// at the next one.
    #[arg(long)]
    pub without_reply_filter: bool,

    /// Time that Postfix waits for a backend to answer.
    #[arg(long, value_enum, value_name = "WHERE", default_value_t)]
    pub timeouts: Timeouts,

    /// Public certificate authorities, for backends that have no authority of their own; read before Postfix enters its
    /// chroot.
    #[arg(long, value_name = "FILE", default_value = "/etc/ssl/certs/ca-certificates.crt")]
    pub ca_file: PathBuf,

    /// Postfix's log, for the agent to read: /dev/stdout when the agent starts Postfix, a file beside it (the agent's
    /// --mail-log), or `syslog` where syslog takes it and writes it to such a file.
    #[arg(long, value_name = "FILE", default_value = "/dev/stdout")]
    pub maillog_file: PathBuf,

    /// Format of the printed lines.
    #[arg(long, value_enum, value_name = "FORMAT", default_value_t, conflicts_with = "check")]
    pub format: LinesFormat,

    /// Print what in a configuration defeats failover, instead of lines. The other flags describe the configuration
    /// that is wanted.
    ///
    /// Exit codes: 0, no finding that counts; 1, findings that count (see --fail-on); 2, no configuration that can be
    /// read.
    #[arg(long)]
    pub check: bool,

    /// The configuration that is checked: a folder with main.cf and master.cf, which `postconf` reads; its own default
    /// otherwise.
    #[arg(long, value_name = "FOLDER", requires = "check", conflicts_with = "main_cf")]
    pub config_directory: Option<PathBuf>,

    /// Check this file without `postconf`, as on another machine; what it leaves out has the default of Postfix 3.7.
    #[arg(long, value_name = "FILE", requires = "check")]
    pub main_cf: Option<PathBuf>,

    /// Check also the master.cf that belongs to --main-cf. Without it there is no finding about services.
    #[arg(long, value_name = "FILE", requires = "main_cf")]
    pub master_cf: Option<PathBuf>,

    /// The agent's --local-domain, repeatable: domains that Postfix delivers by its own rules.
    #[arg(long = "local-domain", value_name = "DOMAIN", requires = "check")]
    pub local_domains: Vec<String>,

    /// The agent's --local-domains-from, repeatable: tables or files with such domains.
    #[arg(long = "local-domains-from", value_name = "TABLE", requires = "check", value_parser = source_of)]
    pub local_domains_from: Vec<PathBuf>,

    /// The agent's --relay-domains-from, repeatable: the same for tables of `relay_domains`.
    #[arg(long = "relay-domains-from", value_name = "TABLE", requires = "check", value_parser = source_of)]
    pub relay_domains_from: Vec<PathBuf>,

    /// Check also the document that the agent follows, as its --config-file: for backends that one list of next hops
    /// cannot have together.
    #[arg(long, value_name = "FILE", requires = "check")]
    pub config_file: Option<PathBuf>,

    /// Least severity of findings for which the exit code is 1.
    #[arg(long, value_enum, value_name = "SEVERITY", default_value = "error", requires = "check")]
    pub fail_on: Severity,

    /// Format of the findings.
    #[arg(long, short, value_enum, value_name = "FORMAT", default_value_t, requires = "check")]
    pub output: FindingsFormat,

    /// Print every rule of --check, as a table in Markdown, and look at nothing.
    #[arg(long, conflicts_with = "check")]
    pub rules: bool,
}

impl PostfixConfigArguments {
    /// Returns the files that name domains which Postfix delivers by its own rules.
    pub fn domain_tables(&self) -> Vec<DomainTable> {
        DomainTable::of(&self.local_domains_from, &self.relay_domains_from)
    }
}

const EXAMPLES: &str = "Examples:
  mail-failover agent postfix-config
  mail-failover agent postfix-config --format commands | sh
  mail-failover agent postfix-config --check --local-domain example.com
  mail-failover agent postfix-config --check --local-domains-from hash:/etc/postfix/domains
  mail-failover agent postfix-config --check --main-cf main.cf --master-cf master.cf";

/// Key by which mail is routed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum RoutingKey {
    /// Recipient of the message: `transport_maps`.
    #[default]
    Recipient,
    /// Sender of the message: `sender_dependent_default_transport_maps`.
    Sender,
}

/// Network of the backends. It decides how long Postfix waits for an answer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Timeouts {
    /// Providers on the internet: 5 s to connect, 20 s for the greeting.
    #[default]
    Internet,
    /// Relays in a network of one's own: 3 s to connect, 10 s for the greeting.
    Lan,
}

/// Format of the printed lines.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum LinesFormat {
    /// Lines of main.cf and master.cf, with comments.
    #[default]
    Lines,
    /// Commands for a shell: `postconf -e …`.
    Commands,
}

/// Format of the findings.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum FindingsFormat {
    /// Text, to be read by people.
    #[default]
    Text,
    /// One JSON object with all findings.
    Json,
}
