//! A `ConfigMap` with the active backend rendered for the program that reads it.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::ConfigMap;

use super::{Led, Owner, Target, metadata};
use mail_failover_contract::document::{NOWHERE, NOWHERE_PORT};
use mail_failover_core::model::{Backend, ConfigMapFormat, ConfigMapOutput, Destination, TlsMode};

pub(super) fn config_map(owner: &Owner, output: &ConfigMapOutput, target: &Target<'_>) -> ConfigMap {
    let data = match output.format {
        ConfigMapFormat::Postfix => postfix(target),
        ConfigMapFormat::Env => env(target),
    };
    rendered(owner, output, target.into(), data)
}

/// Renders the `ConfigMap` of a route whose mail nobody may carry.
///
/// Its keys are those of any other. Postfix's `transport` names the service that keeps all mail in the queue; the other
/// values name an address to which no connection can be made.
// ADR-0100: An empty host would be `localhost` to many clients, and one that does not exist makes Postfix bounce.
pub(super) fn withdrawn(owner: &Owner, output: &ConfigMapOutput, transition: i64) -> ConfigMap {
    let next_hop = format!("[{NOWHERE}]:{NOWHERE_PORT}");
    let data = match output.format {
        ConfigMapFormat::Postfix => [
            ("transport", "* retry:4.7.1 nobody may carry this mail at present\n".to_owned()),
            ("tls_policy", format!("{next_hop} none\n")),
            ("relayhost", format!("{next_hop}\n")),
        ]
        .into(),
        ConfigMapFormat::Env => [
            ("SENDING_BACKEND", String::new()),
            ("SMTP_HOST", NOWHERE.to_owned()),
            ("SMTP_PORT", NOWHERE_PORT.to_string()),
            ("SMTP_TLS", "none".to_owned()),
            ("SMTP_TLS_SERVER_NAME", NOWHERE.to_owned()),
        ]
        .into(),
    };
    rendered(owner, output, Led { backend: None, transition }, data)
}

fn rendered(owner: &Owner, output: &ConfigMapOutput, led: Led<'_>, data: BTreeMap<&'static str, String>) -> ConfigMap {
    ConfigMap {
        metadata: metadata(owner, output.name.to_string(), &[], Some(led)),
        data: Some(data.into_iter().map(|(key, value)| (key.to_owned(), value)).collect()),
        ..ConfigMap::default()
    }
}

/// Returns the host and port for clients.
// A Service goes by its name: it may be headless, and be made anew with another address.
// ADR-0043: Agents reach Services by DNS name.
pub(super) fn host_and_port(backend: &Backend) -> (&str, u16) {
    match &backend.destination {
        // What reads it verifies certificates by it, which bear no final dot.
        Destination::Host(host) => (host.host.trim_end_matches('.'), host.port),
        Destination::Service(service) => (&service.dns_name, service.client_port),
    }
}

/// Returns the next hop as Postfix writes it: `[host]:port`.
// The brackets turn MX look-ups off, and are needed for addresses; an IPv6 address has its own prefix (transport(5),
// postconf(5) `relayhost`).
fn next_hop(target: &Target<'_>) -> String {
    let (host, port) = host_and_port(target.backend);
    if host.contains(':') { format!("[ipv6:{host}]:{port}") } else { format!("[{host}]:{port}") }
}

/// `transport` (transport(5)), `tls_policy` (`smtp_tls_policy_maps`, keyed by the next hop as written) and `relayhost`.
fn postfix(target: &Target<'_>) -> BTreeMap<&'static str, String> {
    let next_hop = next_hop(target);
    let server_name = &target.backend.tls.server_name;
    // `secure` verifies the chain and the name, as our own probe does; `may` is Postfix's word for
    // opportunistic. Implicit TLS is the transport's business: Debian's master.cf and ours name it
    // `smtps`, a smtp(8) with smtp_tls_wrappermode=yes.
    let (transport, policy) = match target.backend.tls.mode {
        TlsMode::None => ("smtp", "none".to_owned()),
        TlsMode::Opportunistic => ("smtp", "may".to_owned()),
        TlsMode::StartTls => ("smtp", format!("secure match={server_name}")),
        TlsMode::Implicit => ("smtps", format!("secure match={server_name}")),
    };
    [
        ("transport", format!("* {transport}:{next_hop}\n")),
        ("tls_policy", format!("{next_hop} {policy}\n")),
        ("relayhost", format!("{next_hop}\n")),
    ]
    .into()
}

fn env(target: &Target<'_>) -> BTreeMap<&'static str, String> {
    let (host, port) = host_and_port(target.backend);
    let tls = match target.backend.tls.mode {
        TlsMode::None => "none",
        TlsMode::Opportunistic => "opportunistic",
        TlsMode::StartTls => "starttls",
        TlsMode::Implicit => "implicit",
    };
    [
        ("SENDING_BACKEND", target.name.to_owned()),
        ("SMTP_HOST", host.to_owned()),
        ("SMTP_PORT", port.to_string()),
        ("SMTP_TLS", tls.to_owned()),
        ("SMTP_TLS_SERVER_NAME", target.backend.tls.server_name.to_string()),
    ]
    .into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use mail_failover_core::model::{SmtpHost, Tls, TrustAnchors};

    fn rendered(host: &str, mode: TlsMode, render: fn(&Target<'_>) -> BTreeMap<&'static str, String>) -> Vec<String> {
        let backend = Backend {
            destination: Destination::Host(SmtpHost { host: host.into(), port: 587 }),
            tls: Tls { mode, server_name: "relay.example".into(), trust: TrustAnchors::WellKnown },
            secret: None,
            login: mail_failover_core::model::ProbeLogin::None,
            suspended: false,
            probes: vec![],
            location: mail_failover_core::model::Location::default(),
            limits: mail_failover_core::model::Limits::default(),
            sender_domains: vec![],
            replies: mail_failover_core::model::ReplyRules::default(),
        };
        let (percent, name, addresses) = (100, "relay", None);
        let target = Target { percent, transition: 0, name, backend: &backend, addresses, is_place_known: true };
        render(&target).into_iter().map(|(key, value)| format!("{key}={value}")).collect()
    }

    #[test]
    fn postfix_tables_name_the_next_hop_in_brackets_and_verify_where_the_probe_does() {
        assert_eq!(
            rendered("relay.example", TlsMode::StartTls, postfix),
            [
                "relayhost=[relay.example]:587\n",
                "tls_policy=[relay.example]:587 secure match=relay.example\n",
                "transport=* smtp:[relay.example]:587\n"
            ]
        );
        assert_eq!(
            rendered("2001:db8::1", TlsMode::Implicit, postfix),
            [
                "relayhost=[ipv6:2001:db8::1]:587\n",
                "tls_policy=[ipv6:2001:db8::1]:587 secure match=relay.example\n",
                "transport=* smtps:[ipv6:2001:db8::1]:587\n"
            ]
        );
    }

    #[test]
    fn a_config_map_of_mail_that_nobody_may_carry_leads_nowhere_and_bounces_nothing() {
        let owner = Owner {
            key: mail_failover_core::model::ObjectKey::new("shop", "orders"),
            uid: mail_failover_core::model::Uid::parse(Some("u")).unwrap(),
        };
        let data = |format| {
            let output = ConfigMapOutput { name: "mail".into(), format };
            let data = withdrawn(&owner, &output, 7).data.unwrap();
            data.into_iter().map(|(key, value)| format!("{key}={value}")).collect::<Vec<_>>()
        };
        assert_eq!(
            data(ConfigMapFormat::Postfix),
            [
                "relayhost=[255.255.255.255]:25\n",
                "tls_policy=[255.255.255.255]:25 none\n",
                "transport=* retry:4.7.1 nobody may carry this mail at present\n",
            ]
        );
        assert_eq!(
            data(ConfigMapFormat::Env),
            [
                "SENDING_BACKEND=",
                "SMTP_HOST=255.255.255.255",
                "SMTP_PORT=25",
                "SMTP_TLS=none",
                "SMTP_TLS_SERVER_NAME=255.255.255.255",
            ]
        );
        let output = ConfigMapOutput { name: "mail".into(), format: ConfigMapFormat::Env };
        let annotations = withdrawn(&owner, &output, 7).metadata.annotations.unwrap();
        let expected = [("mailfailover.io/transition".to_owned(), "7".to_owned())];
        assert_eq!(annotations.into_iter().collect::<Vec<_>>(), expected);
    }

    #[test]
    fn environment_variables_name_host_port_and_tls() {
        assert_eq!(
            rendered("192.0.2.1", TlsMode::None, env),
            [
                "SENDING_BACKEND=relay",
                "SMTP_HOST=192.0.2.1",
                "SMTP_PORT=587",
                "SMTP_TLS=none",
                "SMTP_TLS_SERVER_NAME=relay.example"
            ]
        );
    }
}
