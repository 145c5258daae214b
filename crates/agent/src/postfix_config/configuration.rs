//! Configuration of Postfix, parsed: main.cf, or the output of `postconf`, and master.cf. Pure.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::expansion::expand;

/// Defaults of Postfix 3.7 (`postconf -d`) for the parameters that the rules read, for a main.cf that is read without
/// `postconf`. Empty ones are left out.
const DEFAULTS: [(&str, &str); 29] = [
    ("compatibility_level", "0"),
    ("default_transport", "smtp"),
    ("inet_protocols", "all"),
    ("info_log_address_format", "external"),
    ("maillog_file_prefixes", "/var, /dev/stdout"),
    ("maximal_queue_lifetime", "5d"),
    ("minimal_backoff_time", "300s"),
    ("mydestination", "$myhostname, localhost.$mydomain, localhost"),
    (
        "parent_domain_matches_subdomains",
        "debug_peer_list, fast_flush_domains, mynetworks, permit_mx_backup_networks, qmqpd_authorized_clients, relay_domains, smtpd_access_maps",
    ),
    ("queue_run_delay", "300s"),
    ("relay_transport", "relay"),
    ("smtp_connect_timeout", "30s"),
    ("smtp_connection_cache_on_demand", "yes"),
    ("smtp_connection_reuse_time_limit", "300s"),
    ("smtp_data_done_timeout", "600s"),
    ("smtp_data_init_timeout", "120s"),
    ("smtp_delivery_status_filter", "$default_delivery_status_filter"),
    ("smtp_fallback_relay", "$fallback_relay"),
    ("smtp_helo_timeout", "300s"),
    ("smtp_host_lookup", "dns"),
    ("smtp_mail_timeout", "300s"),
    ("smtp_mx_address_limit", "5"),
    ("smtp_rcpt_timeout", "300s"),
    ("smtp_sasl_auth_soft_bounce", "yes"),
    ("smtp_sasl_security_options", "noplaintext, noanonymous"),
    ("smtp_sasl_tls_security_options", "$smtp_sasl_security_options"),
    ("smtp_skip_5xx_greeting", "yes"),
    ("smtp_starttls_timeout", "300s"),
    ("virtual_mailbox_domains", "$virtual_mailbox_maps"),
];

/// Configuration of a Postfix: parameters, services and table types.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Configuration {
    /// Parameters in force: defaults included, `$name` replaced.
    parameters: BTreeMap<String, String>,
    /// Services of master.cf; `None` if it was not read.
    services: Option<Vec<MasterService>>,
    /// Types of look-up tables that this Postfix was built with; `None` if it was not asked.
    table_types: Option<BTreeSet<String>>,
    /// Facts about the machine; `None` if the configuration is another one's.
    machine: Option<Machine>,
}

/// Facts about the machine that a configuration is for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Machine {
    /// True if an interface has an IPv6 address that reaches beyond this network.
    pub has_global_ipv6: bool,
    /// True if `maillog_file` is a named pipe.
    pub log_is_pipe: bool,
    /// True if `smtp_tls_CAfile` names a file that is not there.
    pub is_ca_file_missing: bool,
    /// Keys of the tables and lists that could be read, by their names in main.cf.
    pub tables: BTreeMap<String, Vec<String>>,
}

/// One service of master.cf (master(5)).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MasterService {
    /// Name of the service: `smtp`, or an address and port.
    pub name: String,
    /// Type of the service: `inet`, `unix`, …
    pub kind: String,
    /// True if it runs in the queue directory. `None` for Postfix's default, which depends on `compatibility_level`.
    pub chroot: Option<bool>,
    /// Program that the service runs.
    pub command: String,
    /// Parameters that the service overrides: `-o name=value`.
    pub overrides: BTreeMap<String, String>,
}

impl Configuration {
    /// Parses a main.cf, or the output of `postconf -x`.
    pub fn parse(main_cf: &str) -> Self {
        let mut raw: BTreeMap<String, String> =
            DEFAULTS.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        raw.extend(logical_lines(main_cf).filter_map(|line| {
            let (name, value) = line.split_once('=')?;
            Some((name.trim().to_owned(), value.trim().to_owned()))
        }));
        let parameters = raw.iter().map(|(name, value)| (name.clone(), expand(value, &raw))).collect();
        Self { parameters, ..Self::default() }
    }

    /// Adds the services of a master.cf, or of the output of `postconf -M`.
    #[must_use]
    pub fn with_services(self, master_cf: &str) -> Self {
        Self { services: Some(logical_lines(master_cf).filter_map(|line| service(&line)).collect()), ..self }
    }

    /// Adds the table types of the output of `postconf -m`.
    #[must_use]
    pub fn with_table_types(self, types: &str) -> Self {
        Self { table_types: Some(types.split_whitespace().map(str::to_owned).collect()), ..self }
    }

    /// Adds what is known of the machine.
    #[must_use]
    pub fn on(self, machine: Machine) -> Self {
        Self { machine: Some(machine), ..self }
    }

    /// Returns the facts about the machine; `None` if the configuration is another one's.
    pub fn machine(&self) -> Option<&Machine> {
        self.machine.as_ref()
    }

    /// Returns the keys of a table or list, by its name in main.cf; `None` if they could not be read.
    pub fn keys(&self, table: &str) -> Option<&[String]> {
        self.machine()?.tables.get(table).map(Vec::as_slice)
    }

    /// Returns a parameter's value; empty if it has none.
    pub fn value(&self, name: &str) -> &str {
        self.parameters.get(name).map_or("", String::as_str)
    }

    /// Returns a parameter's value as a list: separated by commas or spaces, `{…}` kept together.
    pub fn list(&self, name: &str) -> Vec<&str> {
        elements(self.value(name))
    }

    /// Returns Postfix's version, `None` if it is not known.
    pub fn version(&self) -> Option<(u32, u32)> {
        let mut numbers = self.value("mail_version").split(['.', '-']).map_while(|number| number.parse().ok());
        Some((numbers.next()?, numbers.next()?))
    }

    /// Returns true if a parameter says `yes`.
    pub fn is_on(&self, name: &str) -> bool {
        self.value(name).eq_ignore_ascii_case("yes")
    }

    /// Returns a parameter's value as a time (postconf(5): `s`, `m`, `h`, `d`, `w`; seconds without a unit).
    pub fn duration(&self, name: &str) -> Option<Duration> {
        let value = self.value(name);
        let (number, unit) = value.split_at(value.find(|letter: char| !letter.is_ascii_digit()).unwrap_or(value.len()));
        let seconds = match unit.trim() {
            "" | "s" => 1,
            "m" => 60,
            "h" => 3600,
            "d" => 86_400,
            "w" => 604_800,
            _ => return None,
        };
        Some(Duration::from_secs(number.parse::<u64>().ok()?.checked_mul(seconds)?))
    }

    /// Returns all services; `None` if master.cf was not read.
    pub fn services(&self) -> Option<&[MasterService]> {
        self.services.as_deref()
    }

    /// Returns the service of this name and type.
    pub fn service(&self, name: &str, kind: &str) -> Option<&MasterService> {
        self.services()?.iter().find(|service| service.name == name && service.kind == kind)
    }

    /// Returns the services that have the queue directory as their root.
    pub fn chrooted(&self) -> impl Iterator<Item = &MasterService> {
        // compatibility_level 1 turned the default from `y` to `n` (COMPATIBILITY_README).
        let by_default = self.value("compatibility_level").split('.').next().is_none_or(|level| level == "0");
        let services = self.services().unwrap_or_default().iter();
        services.filter(move |service| service.chroot.unwrap_or(by_default))
    }

    /// Returns true if this Postfix has a type of look-up tables. `None` if it was not asked.
    pub fn has_table_type(&self, name: &str) -> Option<bool> {
        self.table_types.as_ref().map(|types| types.contains(name))
    }
}

/// Returns the lines without comments. A line that begins with white space is joined to the one before (postconf(5)).
fn logical_lines(text: &str) -> impl Iterator<Item = String> {
    let mut lines: Vec<String> = vec![];
    for line in text.lines().filter(|line| !line.trim().is_empty() && !line.trim_start().starts_with('#')) {
        match lines.last_mut() {
            Some(last) if line.starts_with(char::is_whitespace) => {
                last.push(' ');
                last.push_str(line.trim());
            }
            Some(_) | None => lines.push(line.trim().to_owned()),
        }
    }
    lines.into_iter()
}

/// Splits at commas and white space outside braces.
pub(super) fn elements(text: &str) -> Vec<&str> {
    split_outside_braces(text, |letter| letter == ',' || letter.is_whitespace())
}

fn split_outside_braces(text: &str, separates: fn(char) -> bool) -> Vec<&str> {
    let (mut elements, mut depth, mut begin) = (vec![], 0_usize, 0);
    for (at, letter) in text.char_indices() {
        match letter {
            '{' => depth += 1,
            '}' => depth = depth.saturating_sub(1),
            _ if depth == 0 && separates(letter) => {
                elements.push(&text[begin..at]);
                begin = at + letter.len_utf8();
            }
            _ => {}
        }
    }
    elements.push(&text[begin..]);
    elements.retain(|element| !element.is_empty());
    elements
}

fn service(line: &str) -> Option<MasterService> {
    // A comma is part of a word in master.cf.
    let mut words = split_outside_braces(line, char::is_whitespace).into_iter();
    let (name, kind) = (words.next()?, words.next()?);
    let (_private, _unprivileged, chroot) = (words.next()?, words.next()?, words.next()?);
    let (_wakeup, _limit, command) = (words.next()?, words.next()?, words.next()?);
    let mut overrides = BTreeMap::new();
    while let Some(word) = words.next() {
        let option = if word == "-o" { words.next() } else { word.strip_prefix("-o") };
        let option = option.map(|option| option.trim_start_matches('{').trim_end_matches('}'));
        if let Some((name, value)) = option.and_then(|option| option.split_once('=')) {
            overrides.insert(name.trim().to_owned(), value.trim().to_owned());
        }
    }
    Some(MasterService {
        name: name.to_owned(),
        kind: kind.to_owned(),
        chroot: match chroot {
            "y" => Some(true),
            "n" => Some(false),
            _ => None,
        },
        command: command.to_owned(),
        overrides,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn main_cf_is_read_as_postfix_reads_it() {
        let text = "# a comment\nmyhostname = mx.example\nmydomain=example\nrelayhost =\n  [a.example]:587,\n# between\n\t[b.example]:587\n\n";
        let configuration = Configuration::parse(text);
        assert_eq!(configuration.list("relayhost"), ["[a.example]:587", "[b.example]:587"]);
        assert_eq!(configuration.list("mydestination"), ["mx.example", "localhost.example", "localhost"]);
        assert_eq!(configuration.value("smtp_helo_timeout"), "300s");
        assert_eq!(configuration.value("smtp_fallback_relay"), "");
    }

    #[test]
    fn braces_keep_a_table_together() {
        let configuration = Configuration::parse("transport_maps = inline:{ {*=smtp:[a]:25}, {b = smtp:c} }, hash:/x");
        assert_eq!(configuration.list("transport_maps"), ["inline:{ {*=smtp:[a]:25}, {b = smtp:c} }", "hash:/x"]);
    }

    #[test]
    fn times_have_units() {
        let configuration = Configuration::parse("a = 90\nb = 5m\nc = 2h\nd = 1w\ne = soon\nf = 5y");
        let seconds = |name| configuration.duration(name).map(|duration| duration.as_secs());
        assert_eq!(
            ["a", "b", "c", "d", "e", "f"].map(seconds),
            [Some(90), Some(300), Some(7200), Some(604_800), None, None]
        );
    }

    #[test]
    fn master_cf_has_services_with_options() {
        let text = "smtp unix - - - - - smtp\n  -o smtp_helo_timeout=5s -o { smtp_x = a, b }\nsmtp inet n - y - - smtpd -v\nrelay unix - - n - - smtp\n";
        let configuration = Configuration::parse("").with_services(text);
        let smtp = configuration.service("smtp", "unix").unwrap();
        let overrides: Vec<_> = smtp.overrides.iter().map(|(name, value)| format!("{name}={value}")).collect();
        assert_eq!(overrides, ["smtp_helo_timeout=5s", "smtp_x=a, b"]);
        let chrooted = |configuration: &Configuration| {
            configuration.chrooted().map(|service| service.kind.clone()).collect::<Vec<_>>()
        };
        assert_eq!(chrooted(&configuration), ["unix", "inet"]);
        assert_eq!(chrooted(&Configuration::parse("compatibility_level = 3.6").with_services(text)), ["inet"]);
    }
}
