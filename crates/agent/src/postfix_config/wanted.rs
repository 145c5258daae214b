//! Parameters that Postfix needs for the agent's work: few, each with its reason. Pure.
//!
//! A parameter stands here only if failover is worse without it. Everything else is the administrator's.

use std::fmt::Write as _;
use std::net::SocketAddr;
use std::path::PathBuf;

use super::arguments::{LinesFormat, PostfixConfigArguments, RoutingKey, Timeouts};

/// Service of master.cf through which mail goes to backends that speak TLS from the first byte.
pub const IMPLICIT_TLS_SERVICE: &str = "mail-failover-smtps";

/// Path of the shield's static table, relative to Postfix's queue directory.
pub const SHIELD: &str = "mail-failover/shield.regexp";

/// Lines of replies that the reply filter is asked about.
pub const REFUSALS: &str = "/^(5[0-9][0-9][ -].*)/";

/// Word in the place of a file: syslog takes Postfix's log.
pub const SYSLOG: &str = "syslog";

/// Choices about a Postfix with an agent beside it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Setup {
    /// Key by which mail is routed.
    pub by: RoutingKey,
    /// Endpoint at which Postfix asks the agent.
    pub endpoint: Endpoint,
    /// True if a backend asks for a login.
    pub sasl: bool,
    /// True if a backend is told its password without TLS.
    pub plaintext_logins: bool,
    /// True if a backend speaks TLS.
    pub tls: bool,
    /// True if a 5xx leads to the next backend.
    pub reply_filter: bool,
    /// Choice of the timeouts for answers of backends.
    pub timeouts: Timeouts,
    /// File with the public certificate authorities.
    pub ca_file: PathBuf,
    /// File to which Postfix logs.
    pub maillog_file: PathBuf,
}

/// Endpoint at which Postfix asks the agent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Endpoint {
    /// A socket's path, relative to the queue directory or absolute.
    Socket(PathBuf),
    /// Loopback address with a port.
    Address(SocketAddr),
}

impl Setup {
    /// Takes the choices from the command line.
    pub fn of(arguments: &PostfixConfigArguments) -> Self {
        Self {
            by: arguments.by,
            endpoint: match arguments.socketmap_address {
                Some(address) => Endpoint::Address(address),
                None => Endpoint::Socket(arguments.socket.clone()),
            },
            sasl: !arguments.without_sasl,
            plaintext_logins: arguments.plaintext_logins,
            tls: !arguments.without_tls,
            reply_filter: !arguments.without_reply_filter,
            timeouts: arguments.timeouts,
            ca_file: arguments.ca_file.clone(),
            maillog_file: arguments.maillog_file.clone(),
        }
    }

    /// Returns the value of `maillog_file`: empty for syslog.
    pub fn maillog_file(&self) -> String {
        let is_syslog = self.maillog_file.as_os_str() == SYSLOG;
        if is_syslog { String::new() } else { self.maillog_file.display().to_string() }
    }

    /// Returns a map of the agent's, as main.cf names it.
    pub fn map(&self, name: &str) -> String {
        match &self.endpoint {
            Endpoint::Socket(path) => format!("socketmap:unix:{}:{name}", path.display()),
            Endpoint::Address(address) => format!("socketmap:inet:{address}:{name}"),
        }
    }

    /// Returns the tables that Postfix asks about the status of a delivery, in their order.
    // ADR-0170: Where the reply filter stands, the agent alone is asked about the status of a delivery.
    pub fn shield(&self) -> Vec<String> {
        let [table, agent] = self.shield_with_table();
        if self.reply_filter { vec![agent] } else { vec![table, agent] }
    }

    /// Returns the static table and the agent, as a Postfix without the reply filter asks them.
    // Postfix asks no table after one that fails: the one that needs no agent is first.
    pub fn shield_with_table(&self) -> [String; 2] {
        [format!("regexp:{SHIELD}"), self.map("delivery-status")]
    }

    /// Returns the table that Postfix asks about each line of a reply.
    // `$$` is a dollar sign in main.cf.
    pub fn reply_filter(&self) -> String {
        format!("pipemap:{{regexp:{{{{{REFUSALS} $$1}}}}, {}}}", self.map("reply-filter"))
    }

    /// Returns the restriction by which the agent stops new mail.
    pub fn intake(&self) -> String {
        format!("check_client_access {}", self.map("intake"))
    }
}

/// A parameter of main.cf.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Parameter {
    /// Name of the parameter.
    pub name: &'static str,
    /// Value of the parameter.
    pub value: String,
    /// Reason for the value.
    pub why: &'static str,
}

/// Parameters that belong together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Section {
    /// Title above the parameters.
    pub title: &'static str,
    /// Parameters in the order in which they are printed.
    pub parameters: Vec<Parameter>,
}

fn parameter(name: &'static str, value: impl Into<String>, why: &'static str) -> Parameter {
    Parameter { name, value: value.into(), why }
}

/// Returns all parameters that are needed.
pub fn parameters(setup: &Setup) -> Vec<Section> {
    let mut sections = vec![routing(setup)];
    if setup.sasl {
        sections.push(sasl(setup));
    }
    if setup.tls {
        sections.push(tls(setup));
    }
    sections.extend([next_backend(setup), losing_nothing(setup), timeouts(setup)]);
    sections
}

fn routing(setup: &Setup) -> Section {
    let by_recipient = "Where a message goes is asked for each recipient. Entries of other tables for a whole domain count only where the agent is told of it by --local-domain, whichever is first.";
    let by_sender = "Where a message goes is asked for each sender. transport_maps has precedence: it must be empty or leave outgoing mail alone.";
    let parameter = match setup.by {
        RoutingKey::Recipient => parameter("transport_maps", setup.map("transport"), by_recipient),
        RoutingKey::Sender => {
            parameter("sender_dependent_default_transport_maps", setup.map("sender-transport"), by_sender)
        }
    };
    Section { title: "Where mail goes", parameters: vec![parameter] }
}

fn sasl(setup: &Setup) -> Section {
    let mut parameters = vec![
        parameter(
            "smtp_sasl_auth_enable",
            "yes",
            "Off by default. A backend for which the agent has no password is spoken to without one.",
        ),
        parameter(
            "smtp_sasl_password_maps",
            setup.map("sasl"),
            "User names and passwords by backend; a new password counts from the next connection on.",
        ),
        parameter(
            "smtp_sasl_tls_security_options",
            "noanonymous",
            "PLAIN and LOGIN, which is all that most providers offer, within TLS; without TLS they are forbidden (smtp_sasl_security_options).",
        ),
    ];
    if setup.plaintext_logins {
        parameters.push(parameter(
            "smtp_sasl_security_options",
            "noanonymous",
            "The same without TLS, for backends with auth.allowPlaintext: of all backends, one that suddenly offers no TLS is told its password too, unless its tls.mode demands TLS.",
        ));
    }
    Section { title: "Logging in", parameters }
}

fn tls(setup: &Setup) -> Section {
    let parameters = vec![
        parameter(
            "smtp_tls_policy_maps",
            setup.map("tls-policy"),
            "Whether TLS is spoken and whose certificate is expected, by backend.",
        ),
        parameter(
            "smtp_tls_CAfile",
            setup.ca_file.display().to_string(),
            "Postfix trusts no public authority by default, and a certificate that must be verified would never be.",
        ),
    ];
    Section { title: "TLS", parameters }
}

fn next_backend(setup: &Setup) -> Section {
    let mut parameters = vec![
        parameter(
            "smtp_connection_cache_on_demand",
            "no",
            "Each message begins its list of backends with a connection of its own. With cached ones, messages of a burst that a backend refuses after their data are deferred and never offered to the next backend (27 of 40, measured).",
        ),
        parameter(
            "smtp_mx_address_limit",
            "2",
            "A backend with several addresses that are all silent costs the timeout of two of them, one of each family, before the next backend is tried (default 5).",
        ),
    ];
    if setup.reply_filter {
        parameters.push(parameter(
            "smtp_reply_filter",
            setup.reply_filter(),
            "A 5xx that is not about the recipient or the message leads to the next backend, where Postfix would end the attempt. Only lines of 5xx are asked about: were the lookup for the final 250 to fail, the message would be sent twice. Needs Postfix 3.7 (tables within main.cf).",
        ));
    }
    Section { title: "The next backend, for each message", parameters }
}

fn losing_nothing(setup: &Setup) -> Section {
    let shield = if setup.reply_filter {
        "A 5xx that is about our account (paused, out of quota) and not about the recipient keeps the message queued for a standby instead of bouncing it. While the agent is down, nothing is asked about a 5xx: smtp_reply_filter has deferred it."
    } else {
        "A 5xx that is about our account (paused, out of quota) and not about the recipient keeps the message queued for a standby instead of bouncing it. The agent writes the first table when it starts; it holds while the agent is down. The second is the agent, which knows the backends."
    };
    let parameters = vec![
        parameter("smtp_delivery_status_filter", setup.shield().join(", "), shield),
        parameter(
            "smtpd_end_of_data_restrictions",
            setup.intake(),
            "When the agent ends, new messages are refused with 421 while the queue is emptied; the client keeps them.",
        ),
        parameter(
            "maillog_file",
            setup.maillog_file(),
            "By what real deliveries met, the agent leaves a dead backend by itself: it has to read this log. Needs the service postlog of master.cf; empty for syslog.",
        ),
    ];
    Section { title: "Losing nothing", parameters }
}

fn timeouts(setup: &Setup) -> Section {
    let (connect, reply, long_reply) = match setup.timeouts {
        Timeouts::Internet => ("5s", "20s", "60s"),
        // Longer than a greeting delay of 6 s (postscreen) and a tarpit of 5 s (Exchange) take.
        Timeouts::Lan => ("3s", "10s", "15s"),
    };
    let parameters = vec![
        parameter("smtp_connect_timeout", connect, "A host that is gone holds a delivery for so long (default 30s)."),
        parameter(
            "smtp_helo_timeout",
            reply,
            "A server that accepts connections and says nothing: 300s by default, for banner and EHLO each. Not below 10s: some delay their greeting by 6s, or a refusal by 5s.",
        ),
        parameter("smtp_starttls_timeout", reply, "One that hangs in the TLS handshake: 300s by default."),
        parameter("smtp_mail_timeout", long_reply, "One that hangs after MAIL or AUTH: 300s by default."),
        parameter("smtp_rcpt_timeout", long_reply, "One that hangs after RCPT: 300s by default."),
        parameter(
            "smtp_data_init_timeout",
            long_reply,
            "One that hangs after DATA: 120s by default. smtp_data_done_timeout stays at 600s: who gives up on a message that was sent whole sends it twice.",
        ),
        parameter(
            "minimal_backoff_time",
            "60s",
            "For so long Postfix does not try a next hop that failed, nor a message that was deferred (default 300s). Recovery of the only backend is noticed so late.",
        ),
        parameter(
            "queue_run_delay",
            "60s",
            "The deferred queue is looked at so often; no more than minimal_backoff_time (default 300s).",
        ),
    ];
    Section { title: "Noticing a dead backend", parameters }
}

/// Returns the service for implicit TLS, as a line of master.cf without its options, and the options.
pub fn implicit_tls_service() -> (String, [&'static str; 2]) {
    // Not chrooted or chrooted as smtp(8) of the same Postfix is: `-` is the default of its compatibility_level.
    let line = format!("{IMPLICIT_TLS_SERVICE} unix  -       -       -       -       -       smtp");
    (line, ["smtp_tls_wrappermode=yes", "syslog_name=postfix/$service_name"])
}

/// Renders everything that is needed.
pub fn render(setup: &Setup, format: LinesFormat) -> String {
    match format {
        LinesFormat::Lines => lines(setup),
        LinesFormat::Commands => commands(setup),
    }
}

// Writing to a String cannot fail.
fn lines(setup: &Setup) -> String {
    let mut text =
        "# Lines for main.cf. Where a parameter has a value already, put ours first; then `postfix reload`.\n"
            .to_owned();
    for Section { title, parameters } in parameters(setup) {
        let _ = writeln!(text, "\n# {title}");
        for Parameter { name, value, why } in parameters {
            let _ = writeln!(text, "# {why}\n{name} = {value}");
        }
    }
    if setup.tls {
        let (service, options) = implicit_tls_service();
        let _ = writeln!(
            text,
            "\n# Lines for master.cf: a client for backends that speak TLS from the first byte (port 465).\n{service}"
        );
        for option in options {
            let _ = writeln!(text, "  -o {option}");
        }
    }
    text
}

fn commands(setup: &Setup) -> String {
    let mut text = String::new();
    for Parameter { name, value, .. } in parameters(setup).into_iter().flat_map(|section| section.parameters) {
        let _ = writeln!(text, "postconf -e {}", quoted(&format!("{name} = {value}")));
    }
    if setup.tls {
        let (service, options) = implicit_tls_service();
        let entry = service.split_whitespace().collect::<Vec<_>>().join(" ");
        let _ = writeln!(text, "postconf -M {}", quoted(&format!("{IMPLICIT_TLS_SERVICE}/unix={entry}")));
        for option in options {
            let _ = writeln!(text, "postconf -P {}", quoted(&format!("{IMPLICIT_TLS_SERVICE}/unix/{option}")));
        }
    }
    text
}

/// A word for a POSIX shell.
fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', r"'\''"))
}
