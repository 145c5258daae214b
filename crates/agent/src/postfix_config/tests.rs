//! Tests of one good configuration, with the findings when one thing in it changes.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use clap::Parser;

use super::arguments::{FindingsFormat, LinesFormat};
use super::configuration::Machine;
use super::wanted::IMPLICIT_TLS_SERVICE;
use super::*;
use crate::domains::DomainTable;
use mail_failover_contract::routing::Routing;

#[derive(Parser)]
struct Line {
    #[command(flatten)]
    arguments: PostfixConfigArguments,
}

/// The setup of a command line.
fn setup(flags: &str) -> Setup {
    let line = Line::try_parse_from(format!("postfix-config {flags}").split_whitespace()).unwrap();
    Setup::of(&line.arguments)
}

const OTHER_LINES: &str =
    "myhostname = mx.example\nmydomain = example\nmydestination =\ncompatibility_level = 3.6\nmail_version = 3.7.11\n";
const OTHER_SERVICES: &str =
    "smtp inet n - n - - smtpd\nsmtp unix - - n - - smtp\nrewrite unix - - n - - trivial-rewrite\n";
const POSTLOG: &str = "postlog unix-dgram n - n - 1 postlogd\n";

/// A document with two backends, each an alternate of the other, at these ports.
fn document(modes: [&str; 2]) -> Routing {
    let [a, b] = modes.map(|mode| {
        let name = mode.to_lowercase();
        serde_json::json!({"name": name, "percent": if mode == modes[0] { 100 } else { 0 }, "standby": true, "alternate": true,
            "host": format!("{name}.example"), "port": 587, "tls": {"mode": mode}})
    });
    let document = serde_json::json!({
        "apiVersion": "agent.mailfailover.io/v1alpha1", "route": {"namespace": "shop", "name": "orders", "uid": "u"},
        "decision": {"transition": 1}, "backends": [a, b],
    });
    mail_failover_contract::routing::parse(&document.to_string()).unwrap()
}

/// The keys of the tables that changes such as `# hash:/t has a.example b.example` put on the machine.
fn tables(changes: &str) -> BTreeMap<String, Vec<String>> {
    let lines = changes.lines().filter_map(|line| line.strip_prefix("# ")?.split_once(" has "));
    lines.map(|(table, keys)| (table.to_owned(), keys.split(' ').map(str::to_owned).collect())).collect()
}

/// Codes of the findings about the printed lines of a setup, after some changes. A line that begins with a space
/// changes master.cf, and a comment changes the machine or the document.
fn codes(flags: &str, changes: &str) -> Vec<&'static str> {
    let setup = setup(flags);
    let lines = render_lines(&setup, LinesFormat::Lines);
    let at = lines.find(IMPLICIT_TLS_SERVICE).unwrap_or(lines.len());
    let (master_cf, main_cf): (Vec<&str>, Vec<&str>) = changes.lines().partition(|line| line.starts_with(' '));
    let main_cf = format!("{OTHER_LINES}{}{}\n", &lines[..at], main_cf.join("\n"));
    let master_cf: Vec<&str> = master_cf.iter().map(|line| &line[1..]).collect();
    let master_cf = master_cf.join("\n");
    let postlog = if changes.contains("# no postlog") { "" } else { POSTLOG };
    let configuration = Configuration::parse(&main_cf)
        .with_services(&format!("{master_cf}\n{OTHER_SERVICES}{postlog}{}", &lines[at..]))
        .with_table_types(if changes.contains("# no socketmap") { "hash" } else { "hash socketmap" })
        .on(Machine {
            has_global_ipv6: !changes.contains("# no IPv6"),
            log_is_pipe: changes.contains("# a pipe"),
            is_ca_file_missing: changes.contains("# no authorities"),
            tables: tables(changes),
        });
    let local_domains = LocalDomains::new(&["example.com".to_owned(), ".sub.example".to_owned()]);
    let table = |file: &str| DomainTable { file: file.into(), with_subdomains: file == "/relay" };
    let is_read = changes.contains("# the agent reads /hosted and /relay");
    let domain_tables: Vec<_> = if is_read { ["/hosted", "/relay"].map(table).into() } else { vec![] };
    let modes = [("# 465 beside 587", ["StartTLS", "Implicit"]), ("# 587 twice", ["StartTLS", "Opportunistic"])];
    let followed = modes.into_iter().find(|(words, _)| changes.contains(words)).map(|(_, modes)| document(modes));
    let findings = check(CheckContext {
        domain_tables: &domain_tables,
        document: followed.as_ref(),
        ..context(&configuration, &setup, &local_domains)
    });
    assert!(findings.iter().all(|finding| !finding.message.is_empty() && !finding.remedy.is_empty()));
    findings.iter().map(|finding| finding.rule.code).collect()
}

/// The context of a check without files and document.
fn context<'a>(
    configuration: &'a Configuration,
    setup: &'a Setup,
    local_domains: &'a LocalDomains,
) -> CheckContext<'a> {
    CheckContext { configuration, setup, local_domains, domain_tables: &[], document: None }
}

#[test]
fn nothing_is_said_against_our_own_lines() {
    for flags in [
        "",
        "--by sender",
        "--without-sasl",
        "--without-tls",
        "--timeouts lan",
        "--without-reply-filter",
        "--maillog-file /var/log/mail.log",
        "--maillog-file syslog",
        "--without-sasl --without-tls --by sender",
    ] {
        assert_eq!(codes(flags, ""), Vec::<&str>::new(), "{flags}");
    }
    assert_eq!(codes("--socketmap-address [::1]:8027 --without-sasl --without-tls", ""), ["SocketmapOverTcp"; 3]);
}

const TRANSPORT: &str = "socketmap:unix:mail-failover/socketmap:transport";
const CASES: [(&str, &str, &[&str]); 85] = [
    ("", "transport_maps =", &["RoutingNotAsked"]),
    ("", "transport_maps = hash:/etc/postfix/transport", &["RoutingNotAsked"]),
    ("--by sender", "sender_dependent_default_transport_maps =", &["RoutingNotAsked"]),
    // Nothing was said of the second order once, and "put ours first" of the first. In either order Postfix asks all tables
    // for user@domain, which the agent answers, before it asks one for the domain: entries for a domain never count.
    ("", "transport_maps = hash:/etc/postfix/transport, $OURS", &["RoutingNotFirst", "TransportsBypassed"]),
    ("", "transport_maps = $OURS, hash:/etc/postfix/transport", &["TransportsBypassed"]),
    ("", "transport_maps = $OURS, hash:/t\n# hash:/t has corp.example", &["TransportsBypassed"]),
    ("", "transport_maps = hash:/t, $OURS\n# hash:/t has corp.example", &["TransportsBypassed"]),
    ("", "transport_maps = $OURS, hash:/t\n# hash:/t has boss@corp.example", &["TransportsBypassed"]),
    ("", "transport_maps = hash:/t, $OURS\n# hash:/t has boss@corp.example", &["RoutingNotFirst"]),
    ("", "transport_maps = $OURS, hash:/t\n# hash:/t has example.com a.sub.example .sub.example x@example.com *", &[]),
    ("", "transport_maps = $OURS, hash:/hosted\n# the agent reads /hosted and /relay", &[]),
    ("", "transport_maps = $OURS, mysql:/etc/postfix/transport.cf", &["TransportsUnseen"]),
    ("", "transport_maps = mysql:/etc/postfix/transport.cf, $OURS", &["RoutingNotFirst", "TransportsUnseen"]),
    (
        "--by sender",
        "sender_dependent_default_transport_maps = hash:/s, socketmap:unix:mail-failover/socketmap:sender-transport\n# hash:/s has @shop.example",
        &["TransportsBypassed"],
    ),
    (
        "--by sender",
        "sender_dependent_default_transport_maps = hash:/s, socketmap:unix:mail-failover/socketmap:sender-transport\n# hash:/s has vip@shop.example",
        &["RoutingNotFirst"],
    ),
    ("--by sender", "sender_dependent_relayhost_maps = lmdb:/etc/postfix/relays", &["SenderRoutesBypassed"]),
    ("", "sender_dependent_relayhost_maps = lmdb:/etc/postfix/relays", &["SenderRoutesBypassed"]),
    ("", "transport_maps = inline:{ {*=smtp:[a.example]:25} }, $OURS", &["CatchAllFirst", "NeedsReload"]),
    ("", "transport_maps = $OURS, static:smtp:[a.example]:25", &["CatchAllAfter", "NeedsReload"]),
    ("--by sender", "transport_maps = hash:/etc/postfix/transport", &["OverriddenByTransport"]),
    ("", "smtp_fallback_relay = [b.example]:587", &["FallbackRelay"]),
    ("", "fallback_relay = [b.example]:587", &["FallbackRelay"]),
    ("", "relayhost = [a.example]:587, [b.example]:587", &["NextHopList"]),
    ("", "default_transport = smtp:a.example, b.example", &["NextHopList"]),
    ("", "relay_transport = relay:[a.example] [b.example]", &["NextHopList"]),
    ("", "relayhost = [a.example]:587", &["RouteWithoutFailover"]),
    ("", "sender_dependent_relayhost_maps = texthash:/etc/postfix/relays", &["NeedsReload", "SenderRoutesBypassed"]),
    ("", "transport_maps = $OURS, pcre:/etc/postfix/transport", &["NeedsReload", "TransportsUnseen"]),
    ("", "transport_maps = pcre:/etc/postfix/transport, $OURS", &["NeedsReload", "RoutingNotFirst"]),
    ("", "defer_transports = lmtp smtp", &["TransportDeferred"]),
    ("", "defer_transports = lmtp", &[]),
    ("", "content_filter = smtp:[127.0.0.1]:10024", &["ContentFilter"]),
    ("", "mydestination = example.com, a.sub.example", &[]),
    ("", "mydestination = other.example", &["LocalMailRoutedOut"]),
    ("", "virtual_mailbox_maps = hash:/etc/postfix/mailboxes", &["LocalMailRoutedOut"]),
    ("", "relay_domains = /etc/postfix/domains", &["LocalMailRoutedOut"]),
    ("", "relay_domains = hash:/hosted\n# the agent reads /hosted and /relay", &["LocalMailRoutedOut"]),
    ("", "relay_domains = hash:/relay\n# the agent reads /hosted and /relay", &[]),
    ("", "virtual_mailbox_domains = hash:/hosted, mysql:/m.cf\n# the agent reads /hosted and /relay", &[]),
    ("", "virtual_mailbox_domains = hash:/d\n# hash:/d has example.com customer.example", &["LocalMailRoutedOut"]),
    ("", "virtual_mailbox_domains = hash:/d\n# hash:/d has example.com joe@customer.example", &[]),
    // Domains below a relay domain are relay domains, unless that is turned off.
    ("", "relay_domains = example.com", &["LocalMailRoutedOut"]),
    ("", "relay_domains = example.com\nparent_domain_matches_subdomains =", &[]),
    ("", "relay_domains = !a.example, a.sub.example", &[]),
    ("", "relay_domains = .other.example", &["LocalMailRoutedOut"]),
    ("", "mydestination = $myhostname, localhost", &["LocalhostRoutedOut", "LocalhostRoutedOut"]),
    ("--by sender", "mydestination = other.example", &[]),
    ("", "smtp_helo_timeout = 300s", &["GreetingTimeoutLong"]),
    ("", "smtp_connect_timeout = 30s\nsmtp_rcpt_timeout = 5m", &["StageTimeoutLong", "StageTimeoutLong"]),
    ("", "smtp_data_done_timeout = 30s", &["FinalTimeoutShort"]),
    ("", "minimal_backoff_time = 300s", &["BackoffLong"]),
    ("", "queue_run_delay = 1h", &["BackoffLong"]),
    ("", "maximal_queue_lifetime = 1h", &["QueueLifetimeShort"]),
    ("", "smtp_connection_reuse_time_limit = 1h", &["ConnectionsKeptLong"]),
    ("", "smtp_connection_cache_destinations = a.example", &["ConnectionsKeptLong"]),
    ("", " smtp unix - - n - - smtp -o smtp_helo_timeout=5m", &["OverriddenByService"]),
    ("", " smtp unix - - n - - smtp -o smtp_helo_timeout=20s -o syslog_name=x", &[]),
    ("", " smtp unix - - n - - smtp -o { smtp_fallback_relay = [b.example] }", &["OverriddenByService"]),
    ("", "smtp_delivery_status_filter =", &["ShieldMissing"]),
    ("", "smtp_delivery_status_filter = socketmap:unix:mail-failover/socketmap:delivery-status", &[]),
    (
        "--without-reply-filter",
        "smtp_delivery_status_filter = socketmap:unix:mail-failover/socketmap:delivery-status\nsmtp_reply_filter =",
        &["ShieldMissing"],
    ),
    ("", "smtp_delivery_status_filter = regexp:mail-failover/shield.regexp", &["ShieldMissing"]),
    (
        "",
        "smtp_delivery_status_filter = regexp:mail-failover/shield.regexp, socketmap:unix:mail-failover/socketmap:delivery-status",
        &["TableBeforeAgent"],
    ),
    (
        "",
        "smtp_delivery_status_filter =\ndefault_delivery_status_filter = pcre:/etc/postfix/status",
        &["ShieldMissing"],
    ),
    ("", "soft_bounce = yes", &["SoftBounce"]),
    // Nothing keeps an account's refusals while the agent, which is asked first, is down.
    ("", "smtp_reply_filter = pcre:/etc/postfix/replies", &["RepliesRewritten", "ShieldMissing"]),
    ("", "smtp_skip_5xx_greeting = no", &["GreetingBounces"]),
    ("", "smtp_sasl_auth_soft_bounce = no", &["LoginBounces"]),
    ("", "smtp_sasl_auth_enable = no", &["LoginOff"]),
    ("", "smtp_sasl_password_maps = hash:/etc/postfix/passwords", &["PasswordsNotAsked"]),
    ("", "smtp_sasl_password_maps = hash:/p, socketmap:unix:mail-failover/socketmap:sasl", &["PasswordsNotFirst"]),
    ("", "smtp_sasl_tls_security_options = $smtp_sasl_security_options", &["PlaintextForbidden"]),
    ("", "smtp_sasl_security_options = noanonymous", &["PlaintextExposed"]),
    ("--plaintext-logins", "smtp_sasl_security_options = noanonymous", &[]),
    ("--plaintext-logins", "smtp_sasl_security_options = noanonymous, noplaintext", &["PlaintextForbidden"]),
    ("--without-sasl", "smtp_sasl_auth_enable = no", &[]),
    ("", "smtp_tls_policy_maps =", &["TlsNotAsked"]),
    ("", "smtp_tls_policy_maps = hash:/t, socketmap:unix:mail-failover/socketmap:tls-policy", &["TlsNotFirst"]),
    ("", "smtp_tls_wrappermode = yes", &["TlsFromFirstByteEverywhere"]),
    ("", " mail-failover-smtps unix - - n - - smtp", &["ImplicitTlsMissing"]),
    ("", "smtp_tls_CAfile =", &["NoPublicAuthorities"]),
    ("--socket /run/s", " smtp unix - - y - - smtp", &["SocketOutsideChroot"]),
    ("--socket /run/s", "compatibility_level = 3.6", &[]),
    ("", "mail_version = 3.3.2", &["ReplyFilterTooNew", "TooOld"]),
    ("", "smtpd_end_of_data_restrictions = permit", &["IntakeNotAsked"]),
];
const MORE: [(&str, &str, &[&str]); 30] = [
    ("", "# 465 beside 587", &["AlternateLeftOut"]),
    ("", "# 587 twice", &[]),
    ("", "smtp_reply_filter =", &["ReplyFilterMissing", "ShieldMissing"]),
    ("--without-reply-filter", "smtp_reply_filter =", &[]),
    ("", "smtp_connection_cache_on_demand = yes", &["ConnectionsCached"]),
    ("", "smtp_mx_address_limit = 3", &["ManyAddresses"]),
    ("", "smtp_mx_address_limit = 0", &["ManyAddresses"]),
    ("", "smtp_mx_address_limit = 1", &[]),
    (
        "",
        "sender_dependent_default_transport_maps = socketmap:inet:agent.example:8027:transport",
        &["SenderRoutesBypassed", "SocketmapNotLocal"],
    ),
    (
        "",
        "sender_dependent_default_transport_maps = socketmap:inet:[::1]:8027:transport",
        &["SenderRoutesBypassed", "SocketmapOverTcp"],
    ),
    (
        "",
        "smtp_tls_policy_maps = proxy:socketmap:unix:mail-failover/socketmap:tls-policy",
        &["ThroughProxymap", "TlsNotAsked"],
    ),
    ("", "# no socketmap", &["NoSocketmap"]),
    ("", "# no postlog", &["PostlogMissing"]),
    ("--maillog-file syslog", "# no postlog", &[]),
    ("--maillog-file /var/log/mail.log", "# a pipe", &["LogIsPipe"]),
    ("", "info_log_address_format = internal", &["LogForgeable"]),
    ("--without-reply-filter", "mail_version = 3.4.23\nsmtp_reply_filter =", &["TooOld"]),
    ("", "mail_version = 3.5.0", &["ReplyFilterTooNew"]),
    ("", "smtp_host_lookup = native", &["HostLookupNative"]),
    ("", "smtp_host_lookup = dns, native", &["HostLookupNative"]),
    ("", "disable_dns_lookups = yes", &["HostLookupNative"]),
    ("", "# no IPv6", &["Ipv6WithoutAddress"]),
    ("", "inet_protocols = ipv4\n# no IPv6", &[]),
    ("", "# no authorities", &["AuthoritiesMissing"]),
    ("", "smtp_helo_timeout = 5s", &["GreetingTimeoutShort"]),
    ("", "maillog_file =", &["LogUnreadable"]),
    ("", "maillog_file = /var/log/mail.log", &["LogUnreadable"]),
    ("--maillog-file syslog", "maillog_file = /var/log/mail.log", &["LogUnreadable"]),
    ("--maillog-file /srv/mail.log", "", &["LogForbidden"]),
    ("--maillog-file /srv/mail.log", "maillog_file_prefixes = /srv", &[]),
];

#[test]
fn each_change_is_found_and_nothing_else() {
    for (flags, changes, expected) in CASES.into_iter().chain(MORE) {
        let mut found = codes(flags, &changes.replace("$OURS", TRANSPORT));
        found.sort_unstable();
        assert_eq!(found, expected, "{flags} {changes}");
    }
}

#[test]
fn every_rule_has_a_case() {
    let broken: BTreeSet<&str> =
        CASES.into_iter().chain(MORE).flat_map(|(_, _, codes)| codes.iter().copied()).collect();
    let all: BTreeSet<&str> = RULES.into_iter().map(|rule| rule.code).collect();
    assert_eq!(all.len(), RULES.len(), "codes are unique");
    assert_eq!(all.difference(&broken).collect::<Vec<_>>(), Vec::<&&str>::new());
}

#[test]
fn a_stock_postfix_is_told_everything_that_is_missing() {
    let configuration = Configuration::parse("myhostname = mx.example\n");
    let setup = setup("");
    let findings = check(context(&configuration, &setup, &LocalDomains::default()));
    let errors =
        findings.iter().filter(|finding| finding.rule.severity == mail_failover_runtime::findings::Severity::Error);
    let codes: Vec<_> = errors.map(|finding| finding.rule.code).collect();
    assert_eq!(
        codes,
        [
            "LocalhostRoutedOut",
            "LocalhostRoutedOut",
            "LocalhostRoutedOut",
            "ShieldMissing",
            "GreetingTimeoutLong",
            "LoginOff",
            "PasswordsNotAsked",
            "PlaintextForbidden",
            "TlsNotAsked",
            "RoutingNotAsked"
        ]
    );
}

#[test]
fn findings_are_told_to_people_and_programs() {
    let configuration = Configuration::parse("relayhost = [a.example], [b.example]");
    let setup = setup("");
    let findings = check(context(&configuration, &setup, &LocalDomains::default()));
    let text = render_findings(&findings, FindingsFormat::Text);
    assert!(text.contains("warning NextHopList: relayhost\n    [a.example], [b.example]: each message"), "{text}");
    assert!(text.contains("\n    → remove it: relayhost ="), "{text}");
    let json: serde_json::Value = serde_json::from_str(&render_findings(&findings, FindingsFormat::Json)).unwrap();
    assert_eq!(json["findings"].as_array().unwrap().len(), findings.len());
    assert_eq!(json["findings"][0]["severity"], "error");
}

#[test]
fn the_remedy_for_a_table_of_domains_is_a_flag_that_reads_it() {
    let machine = Machine {
        has_global_ipv6: true,
        tables: tables("# hash:/t has corp.example a.example b.example c.example"),
        ..Machine::default()
    };
    let told = |line: &str| {
        let main_cf = format!("{OTHER_LINES}transport_maps = {TRANSPORT}, hash:/t\n{line}\n");
        let configuration = Configuration::parse(&main_cf).on(machine.clone());
        let setup = setup("");
        render_findings(&check(context(&configuration, &setup, &LocalDomains::default())), FindingsFormat::Text)
    };
    let text = told("virtual_mailbox_domains = hash:/etc/postfix/vdom");
    assert!(text.contains("→ --local-domains-from hash:/etc/postfix/vdom, here and in `agent run`"), "{text}");
    assert!(text.contains("corp.example, a.example, b.example and 1 more in hash:/t never count"), "{text}");
    assert!(text.contains("or all of them by --local-domains-from hash:/t, here and in `agent run`"), "{text}");
    assert!(!text.contains("first, unless"), "{text}");
    let text = told("relay_domains = hash:/r");
    assert!(text.contains("→ --relay-domains-from hash:/r"), "{text}");
    let text = told("relay_domains = part.example");
    assert!(text.contains("→ --local-domain part.example --local-domain .part.example, here"), "{text}");
    let text = told("virtual_mailbox_domains = proxy:mysql:/etc/postfix/vdom.cf");
    assert!(text.contains("--local-domains-from FILE") && text.contains("--by sender"), "{text}");
}

#[test]
fn commands_are_quoted_for_a_shell() {
    let commands = render_lines(&setup("--ca-file /a'b"), LinesFormat::Commands);
    assert!(commands.contains(r"postconf -e 'smtp_tls_CAfile = /a'\''b'"), "{commands}");
    assert!(commands.starts_with("postconf -e 'transport_maps = socketmap:unix:mail-failover/socketmap:transport'\n"));
    assert!(commands.contains("postconf -P 'mail-failover-smtps/unix/smtp_tls_wrappermode=yes'"), "{commands}");
}

#[test]
fn a_file_that_is_not_there_is_named() {
    let error = source::from_files(&PathBuf::from("/nonexistent/main.cf"), None).unwrap_err();
    assert!(error.to_string().starts_with("/nonexistent/main.cf cannot be read: "), "{error}");
}
