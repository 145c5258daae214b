//! The command line: what can be asked of the binary, and the commands that need no cluster.

use std::io::{self, Write};
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum};

use crate::agent::AgentCommand;
use crate::api::crds_yaml;
use crate::explain;
use crate::lint::{Format, Severity};
use crate::model::Timestamp;
use crate::probe_job::ProbeArguments;
use crate::simulate;
use crate::telemetry::LogFormat;
use crate::watch::Namespace;

/// Moves outgoing mail to a standby when a sending backend fails.
#[derive(Debug, Parser)]
#[command(name = "mail-failover", version, about)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run the operator until SIGTERM or SIGINT.
    Run(Box<RunArguments>),
    /// Print the custom resource definitions as YAML, or write them into a folder.
    Crds(CrdsArguments),
    /// Say what is wrong with manifests: what the API server would refuse, and what a mail operator would not accept.
    ///
    /// Exit codes: 0, nothing that counts; 1, findings that count (see --fail-on); 2, files that cannot be read.
    #[command(after_help = LINT_EXAMPLES)]
    Lint(LintArguments),
    /// Say why something is as it is.
    #[command(subcommand)]
    Explain(Explanation),
    /// Show what would become of mail in a scenario of faults: health, decisions, holds and shares over time.
    ///
    /// Exit codes: 0, every expectation of the scenario is met; 1, one is not; 2, files that cannot be used.
    #[command(after_help = SIMULATE_EXAMPLES)]
    Simulate(SimulateArguments),
    /// Look at one backend once and say what is seen, as one line of JSON: what the pods of probes with `job` run.
    #[command(after_help = PROBE_EXAMPLES)]
    Probe(Box<ProbeArguments>),
    /// Stand beside a queueing mail server: where each message goes, and moving the queue when that changes.
    #[command(subcommand)]
    Agent(AgentCommand),
}

/// What can be explained.
#[derive(Debug, Subcommand)]
pub enum Explanation {
    /// Why mail of a route goes where it goes, and what would have to happen for it to change.
    #[command(after_help = EXPLAIN_EXAMPLES)]
    Route(RouteArguments),
}

const EXPLAIN_EXAMPLES: &str = "Examples:
  mail-failover explain route orders -n shop
  kubectl get mailroutes,sendingbackends,failoverpolicies -A -o yaml > dump.yaml
  mail-failover explain route orders -n shop --file dump.yaml --at 2026-11-24T08:00:00Z";

const PROBE_EXAMPLES: &str = "Examples:
  mail-failover probe --host email-smtp.eu-west-1.amazonaws.com --port 587 --tls StartTLS --depth StartTLS
  mail-failover probe --host relay.example --port 465 --tls Implicit --depth Auth --login-folder ./login";

const LINT_EXAMPLES: &str = "Examples:
  mail-failover lint mail.yaml deploy/
  kubectl get mailroutes,sendingbackends,failoverpolicies -o yaml | mail-failover lint -
  mail-failover lint --fail-on warning --output github mail.yaml";

const SIMULATE_EXAMPLES: &str = "Examples:
  mail-failover simulate examples/scenarios/ses-account-paused.yaml
  mail-failover simulate mail.yaml --scenario outage.yaml --chart outage.svg
  kubectl get mailroutes,sendingbackends,failoverpolicies -o yaml | mail-failover simulate - --scenario outage.yaml --output json";

/// How the operator runs.
#[derive(Debug, Args)]
pub struct RunArguments {
    /// The kubeconfig; without it KUBECONFIG, ~/.kube/config or the pod's service account.
    #[arg(long, value_name = "FILE")]
    pub kubeconfig: Option<PathBuf>,

    /// Where /livez, /readyz and /metrics are served.
    #[arg(long, value_name = "ADDRESS:PORT", default_value = "0.0.0.0:8080")]
    pub listen_address: SocketAddr,

    /// Where agents beside MTAs report, over HTTPS, what real mail meets.
    #[arg(long, value_name = "ADDRESS:PORT", default_value = "0.0.0.0:8443")]
    pub report_listen_address: SocketAddr,

    /// Where agents reach that: the pod's address, with another port if it is not the same. Without it no agent is told of this replica.
    #[arg(long, env = "POD_IP", value_name = "ADDRESS[:PORT]", value_parser = advertised)]
    pub report_advertise_address: Option<Advertised>,

    /// Take no reports of agents.
    #[arg(long, conflicts_with = "report_listen_address")]
    pub without_reports: bool,

    /// Look at these namespaces only, comma-separated; the whole cluster by default. A Role in each is enough then.
    #[arg(long, value_name = "NAMESPACE,…", value_delimiter = ',')]
    pub namespaces: Vec<Namespace>,

    /// Namespace of the Lease by which replicas elect a leader; the pod's own in a cluster.
    #[arg(long, env = "POD_NAMESPACE", value_name = "NAMESPACE", default_value = "default")]
    pub lease_namespace: String,

    /// Name of the Lease.
    #[arg(long, value_name = "NAME", default_value = "mail-failover-operator")]
    pub lease_name: String,

    /// Name of this replica in the Lease and in Events, unique to the process; the host's name and a random part by default.
    #[arg(long, value_name = "NAME")]
    pub identity: Option<String>,

    /// After so long without a renewal another replica takes over.
    #[arg(long, value_name = "DURATION", default_value = "15s", value_parser = duration)]
    pub lease_duration: Duration,

    /// The leader stops acting when a renewal has not succeeded for so long; shorter than the lease.
    #[arg(long, value_name = "DURATION", default_value = "10s", value_parser = duration)]
    pub lease_renew_deadline: Duration,

    /// The leader renews, and the others look, this often.
    #[arg(long, value_name = "DURATION", default_value = "2s", value_parser = duration)]
    pub lease_retry_period: Duration,

    /// SMTP dialogues under way at a time, over all backends; more wait.
    #[arg(long, value_name = "COUNT", default_value_t = 8192, value_parser = clap::value_parser!(u16).range(1..))]
    pub probe_concurrency: u16,

    /// How probes introduce themselves in EHLO; the host's name by default.
    #[arg(long, value_name = "NAME")]
    pub ehlo_name: Option<String>,

    /// DNS server that probes ask, repeatable; those of /etc/resolv.conf by default.
    #[arg(long = "dns-server", value_name = "ADDRESS:PORT")]
    pub dns_servers: Vec<SocketAddr>,

    /// The image that probes with `job` run as: this program's own. Without it there are no such Jobs, and no rights on them are needed.
    #[arg(long, env = "PROBE_IMAGE", value_name = "IMAGE")]
    pub probe_image: Option<String>,

    /// Jobs of probes under way at a time, over all backends; more wait.
    #[arg(long, value_name = "COUNT", default_value_t = 20, value_parser = clap::value_parser!(u16).range(1..))]
    pub max_probe_jobs: u16,

    /// The cluster's DNS domain, in names of in-cluster backends that rendered configuration holds.
    #[arg(long, value_name = "DOMAIN", default_value = "cluster.local")]
    pub cluster_domain: String,

    /// How logs look.
    #[arg(long, value_enum, default_value_t)]
    pub log_format: LogFormat,

    /// A level (error, warn, info, debug, trace) or a list of directives such as `info,mail_failover_operator::leader=debug`.
    #[arg(long, env = "MAIL_FAILOVER_LOG", value_name = "FILTER", default_value = "info")]
    pub log: String,
}

/// An address under which others reach this process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Advertised {
    /// The IP address.
    pub address: IpAddr,
    /// The port, where it is not the one that is listened on.
    pub port: Option<u16>,
}

fn advertised(text: &str) -> Result<Advertised, String> {
    let with_port = text.parse::<SocketAddr>().map(|at| Advertised { address: at.ip(), port: Some(at.port()) });
    let without = || text.parse::<IpAddr>().map(|address| Advertised { address, port: None });
    let advertised = with_port.or_else(|_| without());
    advertised.map_err(|_| {
        "use an IP address, with a port or without: 10.0.0.7, 10.0.0.7:8443, [2001:db8::7]:8443".to_owned()
    })
}

/// Where the custom resource definitions go.
#[derive(Debug, Args)]
pub struct CrdsArguments {
    /// Write one file per definition into this folder instead of printing them.
    #[arg(long, value_name = "FOLDER")]
    pub output: Option<PathBuf>,
}

/// What is looked at, and what counts.
#[derive(Debug, Args)]
pub struct LintArguments {
    /// YAML or JSON files, folders of them, or - for the standard input; what refers to one another should be given together.
    #[arg(required_unless_present = "rules", value_name = "FILE")]
    pub files: Vec<PathBuf>,

    /// Exit with 1 for findings that are at least so bad.
    #[arg(long, value_enum, value_name = "SEVERITY", default_value = "error")]
    pub fail_on: Severity,

    /// How findings are written.
    #[arg(long, short, value_enum, value_name = "FORMAT", default_value_t)]
    pub output: Format,

    /// As of when warm-ups and failback windows are looked at (RFC 3339); now by default.
    #[arg(long, value_name = "TIME", value_parser = timestamp)]
    pub at: Option<Timestamp>,

    /// Print every rule there is, as a table in Markdown, and look at nothing.
    #[arg(long)]
    pub rules: bool,
}

/// Which route, and where it is read from.
#[derive(Debug, Args)]
pub struct RouteArguments {
    /// Name of the route.
    pub name: String,

    /// Its namespace; by default that of the kubeconfig's context, or with --file the only one that has such a route.
    #[arg(long, short, value_name = "NAMESPACE")]
    pub namespace: Option<String>,

    /// The kubeconfig; without it KUBECONFIG, ~/.kube/config or the pod's service account. It has to allow reading by name.
    #[arg(long, value_name = "FILE", conflicts_with = "files")]
    pub kubeconfig: Option<PathBuf>,

    /// Read files instead of a cluster: YAML with status as kubectl prints it, folders, or - for the standard input; repeatable.
    #[arg(long = "file", short = 'f', value_name = "FILE", num_args = 1..)]
    pub files: Vec<PathBuf>,

    /// How the account is written.
    #[arg(long, short, value_enum, value_name = "FORMAT", default_value_t)]
    pub output: explain::Format,

    /// As of when (RFC 3339), for a dump of the past; now by default.
    #[arg(long, value_name = "TIME", value_parser = timestamp)]
    pub at: Option<Timestamp>,
}

/// A time as RFC 3339 has it: `2026-11-24T08:00:00Z`.
fn timestamp(text: &str) -> Result<Timestamp, String> {
    let parsed = text.parse::<jiff::Timestamp>();
    let parsed = parsed.map_err(|error| format!("{error}; use a time such as 2026-11-24T08:00:00Z"))?;
    Ok(Timestamp::from_micros(parsed.as_microsecond()))
}

/// What is simulated, and what is shown of it.
#[derive(Debug, Args)]
pub struct SimulateArguments {
    /// Manifests, folders of them, `-` for the standard input, and a scenario. A scenario can name its manifests itself.
    #[arg(value_name = "FILE", required_unless_present = "scenario")]
    pub files: Vec<PathBuf>,

    /// The scenario, where it is not among the files.
    #[arg(long, value_name = "FILE")]
    pub scenario: Option<PathBuf>,

    /// How the timeline is printed.
    #[arg(long, value_enum, default_value_t)]
    pub output: SimulationFormat,

    /// Draw the timeline into this SVG file as well.
    #[arg(long, value_name = "FILE.svg")]
    pub chart: Option<PathBuf>,

    /// How long the simulation lasts, instead of what the scenario says: 90s, 6h, 7d.
    #[arg(long, alias = "until", value_name = "DURATION", value_parser = simulate::span)]
    pub duration: Option<Duration>,

    /// What determines chance, instead of what the scenario says.
    #[arg(long, value_name = "NUMBER")]
    pub seed: Option<u64>,
}

/// How the timeline of a simulation is printed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum SimulationFormat {
    /// For people.
    #[default]
    Table,
    /// For programs; see docs/simulate.md.
    Json,
}

/// A duration as Kubernetes and Go write it: `200ms`, `10s`, `1h30m`.
pub(crate) fn duration(text: &str) -> Result<Duration, String> {
    let remedy = "use a duration such as 500ms, 10s or 1m30s";
    let parsed = kube::core::Duration::from_str(text).map_err(|error| format!("{error}; {remedy}"))?;
    if parsed.is_negative() { Err(format!("it is negative; {remedy}")) } else { Ok(parsed.into()) }
}

/// Prints the custom resource definitions, or writes them into a folder.
///
/// # Errors
/// When they cannot be written there.
pub fn print_crds(arguments: &CrdsArguments) -> Result<(), Box<dyn std::error::Error>> {
    for (name, yaml) in crds_yaml()? {
        match &arguments.output {
            None => io::stdout().write_all(yaml.as_bytes())?,
            Some(folder) => {
                let path = folder.join(name);
                std::fs::write(&path, yaml)
                    .map_err(|error| format!("{} cannot be written: {error}", path.display()))?;
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn an_advertised_address_has_a_port_or_not() {
        let parsed = |text| advertised(text).map(|Advertised { address, port }| (address.to_string(), port));
        assert_eq!(parsed("10.0.0.7"), Ok(("10.0.0.7".to_owned(), None)));
        assert_eq!(parsed("10.0.0.7:443"), Ok(("10.0.0.7".to_owned(), Some(443))));
        assert_eq!(parsed("2001:db8::7"), Ok(("2001:db8::7".to_owned(), None)));
        assert_eq!(parsed("[2001:db8::7]:443"), Ok(("2001:db8::7".to_owned(), Some(443))));
        assert!(parsed("pod.example").unwrap_err().contains("10.0.0.7:8443"));
    }

    #[test]
    fn durations_are_written_as_in_kubernetes() {
        assert_eq!(duration("1m30s"), Ok(Duration::from_secs(90)));
        assert!(duration("-1s").unwrap_err().contains("negative"));
        assert!(duration("soon").unwrap_err().contains("500ms"));
    }

    fn parsed(line: &str) -> Result<Command, String> {
        Cli::try_parse_from(line.split(' ')).map(|cli| cli.command).map_err(|error| error.to_string())
    }

    #[test]
    fn namespaces_are_named_and_an_empty_list_is_not_the_whole_cluster() {
        let namespaces = |line: &str| match parsed(line) {
            Ok(Command::Run(run)) => Ok(run.namespaces.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ")),
            Ok(other) => panic!("{other:?}"),
            Err(error) => Err(error),
        };
        assert_eq!(namespaces("mail-failover run"), Ok(String::new()));
        assert_eq!(
            namespaces("mail-failover run --namespaces shop,billing --namespaces ops"),
            Ok("shop billing ops".to_owned())
        );
        for wrong in ["--namespaces=", "--namespaces=shop,", "--namespaces=*", "--namespaces=Shop"] {
            let error = namespaces(&format!("mail-failover run {wrong}")).unwrap_err();
            assert!(error.contains("--namespaces") && error.contains("shop,billing"), "{error}");
        }
    }

    #[test]
    fn explain_reads_a_cluster_or_files() {
        let Ok(Command::Explain(Explanation::Route(route))) = parsed("mail-failover explain route orders -n shop")
        else {
            panic!()
        };
        assert_eq!((route.name.as_str(), route.namespace.as_deref()), ("orders", Some("shop")));
        assert!(route.files.is_empty() && route.output == explain::Format::Text);
        let line = "mail-failover explain route orders --file a.yaml b.yaml -o json";
        let Ok(Command::Explain(Explanation::Route(route))) = parsed(line) else { panic!() };
        assert_eq!(route.files, [PathBuf::from("a.yaml"), PathBuf::from("b.yaml")]);
        assert_eq!(route.output, explain::Format::Json);
        assert!(parsed("mail-failover explain route").unwrap_err().contains("NAME"));
        assert!(parsed(&format!("{line} --kubeconfig k")).unwrap_err().contains("--kubeconfig"));
    }

    #[test]
    fn lint_wants_files_unless_it_prints_its_rules() {
        let Ok(Command::Lint(arguments)) = parsed("mail-failover lint a.yaml b --at 1970-01-01T00:00:01Z") else {
            panic!()
        };
        assert_eq!(arguments.files, [PathBuf::from("a.yaml"), PathBuf::from("b")]);
        assert_eq!((arguments.fail_on, arguments.output), (Severity::Error, Format::Text));
        assert_eq!(arguments.at, Some(Timestamp::from_micros(1_000_000)));
        assert!(matches!(parsed("mail-failover lint --rules"), Ok(Command::Lint(_))));
        assert!(parsed("mail-failover lint").unwrap_err().contains("FILE"));
        assert!(parsed("mail-failover lint a.yaml --at noon").unwrap_err().contains("2026-11-24T08:00:00Z"));
        assert!(parsed("mail-failover lint a.yaml --fail-on never").unwrap_err().contains("warning"));
    }
}
