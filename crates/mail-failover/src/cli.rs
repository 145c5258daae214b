//! Command line of the binary, and the commands that need no cluster.

use std::io::{self, Write};
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

use crate::classify::ClassifyArguments;
use mail_failover_agent::AgentCommand;
use mail_failover_api::crds_yaml;
use mail_failover_operator::app::OperatorArguments;
use mail_failover_operator::probe_job::ProbeArguments;
use mail_failover_relay::RelayCommand;
use mail_failover_tools::explain::ExplainCommand;
use mail_failover_tools::lint::LintArguments;
use mail_failover_tools::report::ReportArguments;
use mail_failover_tools::simulate::SimulateArguments;

/// Moves outgoing mail to a standby when a sending backend fails.
#[derive(Debug, Parser)]
#[command(name = "mail-failover", version, about)]
pub struct Cli {
    /// Command to run.
    #[command(subcommand)]
    pub command: Command,
}

/// Commands of the program.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run the operator until SIGTERM or SIGINT.
    Run(Box<OperatorArguments>),
    /// Print the custom resource definitions as YAML, or write them into a folder.
    Crds(CrdsArguments),
    /// Check manifests: report what the API server would refuse, and what a mail operator would not accept.
    ///
    /// Exit codes: 0, nothing that counts; 1, findings that count (see --fail-on); 2, files that cannot be read.
    #[command(after_help = LINT_EXAMPLES)]
    Lint(LintArguments),
    /// Explain why something is as it is.
    #[command(subcommand)]
    Explain(ExplainCommand),
    /// Write a report on a time: transitions, objectives, Events, and what is not known.
    #[command(after_help = REPORT_EXAMPLES)]
    Report(ReportArguments),
    /// Simulate a scenario of faults: health, decisions, holds and shares over time.
    ///
    /// Exit codes: 0, every expectation of the scenario is met; 1, one is not; 2, files that cannot be used.
    #[command(after_help = SIMULATE_EXAMPLES)]
    Simulate(SimulateArguments),
    /// Probe one backend once and print the result as one line of JSON, as the pods of probes with `job` do.
    #[command(after_help = PROBE_EXAMPLES)]
    Probe(Box<ProbeArguments>),
    /// Say what SMTP replies are about, what follows from each, and which rule says so.
    ///
    /// Exit codes: 0, every line was a reply; 1, one was none; 2, replies that cannot be read.
    #[command(after_help = CLASSIFY_EXAMPLES)]
    Classify(ClassifyArguments),
    /// Run beside a queueing mail server: answer where each message goes, and move the queue when that changes.
    #[command(subcommand)]
    Agent(AgentCommand),
    /// Run between an application and the backends of a route: carry each message while the application waits.
    #[command(subcommand)]
    Relay(RelayCommand),
}

const PROBE_EXAMPLES: &str = "Examples:
  mail-failover probe --host email-smtp.eu-west-1.amazonaws.com --port 587 --tls StartTLS --depth StartTLS
  mail-failover probe --host relay.example --port 465 --tls Implicit --depth Auth --login-folder ./login";

const CLASSIFY_EXAMPLES: &str = "Examples:
  mail-failover classify RCPT '550 5.1.1 user unknown'
  mail-failover classify replies.tsv --output json
  mail-failover classify --backend-file mail.yaml --backend relay-a DATA '554 5.7.1 house limit reached'
  grep status=bounced /var/log/mail.log | mail-failover classify --postfix-log";

const LINT_EXAMPLES: &str = "Examples:
  mail-failover lint mail.yaml deploy/
  kubectl get mailroutes,sendingbackends,failoverpolicies -o yaml | mail-failover lint -
  mail-failover lint --fail-on warning --output github mail.yaml";

const REPORT_EXAMPLES: &str = "Examples:
  mail-failover report --since 30d > report.md
  mail-failover report --since 7d -n shop --prometheus http://prometheus.monitoring:9090 --output html > report.html
  kubectl get mailroutes,sendingbackends,events -A -o yaml | mail-failover report --since 1d --file -";

const SIMULATE_EXAMPLES: &str = "Examples:
  mail-failover simulate examples/scenarios/ses-account-paused.yaml
  mail-failover simulate mail.yaml --scenario outage.yaml --chart outage.svg
  kubectl get mailroutes,sendingbackends,failoverpolicies -o yaml | mail-failover simulate - --scenario outage.yaml --output json";

/// Arguments of the command that prints the custom resource definitions.
#[derive(Debug, Args)]
pub struct CrdsArguments {
    /// Write one file per definition into this folder instead of printing them.
    #[arg(long, value_name = "FOLDER")]
    pub output: Option<PathBuf>,
}

/// Prints the custom resource definitions, or writes them into a folder.
///
/// # Errors
/// When a file or the output cannot be written.
pub fn print_crds(arguments: &CrdsArguments) -> Result<(), Box<dyn std::error::Error>> {
    for (name, yaml) in crds_yaml()? {
        match &arguments.output {
            None => io::stdout().write_all(yaml.as_bytes())?,
            Some(folder) => {
                let path = folder.join(name);
                std::fs::create_dir_all(folder)
                    .and_then(|()| std::fs::write(&path, yaml))
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
    use mail_failover_core::model::Timestamp;
    use mail_failover_tools::explain;
    use mail_failover_tools::lint::{LintFormat, Severity};

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    /// Long flags of a command.
    fn flags(command: &str) -> Vec<String> {
        let cli = Cli::command();
        let command = cli.find_subcommand(command).unwrap();
        command.get_arguments().filter_map(|argument| argument.get_long().map(str::to_owned)).collect()
    }

    #[test]
    fn a_probe_has_no_flag_of_calls_that_it_never_makes() {
        let probe = flags("probe");
        assert!(probe.contains(&"allow-ports".to_owned()), "{probe:?}");
        for of_calls in ["allow-webhook-ports", "allow-dns-ports"] {
            assert!(flags("run").contains(&of_calls.to_owned()), "{of_calls}");
            assert!(!probe.contains(&of_calls.to_owned()), "{of_calls}");
        }
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
        let Ok(Command::Explain(ExplainCommand::Route(route))) = parsed("mail-failover explain route orders -n shop")
        else {
            panic!()
        };
        assert_eq!((route.name.as_str(), route.namespace.as_deref()), ("orders", Some("shop")));
        assert!(route.files.is_empty() && route.output == explain::ExplanationFormat::Text);
        let line = "mail-failover explain route orders --file a.yaml b.yaml -o json";
        let Ok(Command::Explain(ExplainCommand::Route(route))) = parsed(line) else { panic!() };
        assert_eq!(route.files, [PathBuf::from("a.yaml"), PathBuf::from("b.yaml")]);
        assert_eq!(route.output, explain::ExplanationFormat::Json);
        assert!(parsed("mail-failover explain route").unwrap_err().contains("NAME"));
        let Ok(Command::Explain(ExplainCommand::Backend(backend))) = parsed("mail-failover explain backend ses-eu")
        else {
            panic!()
        };
        assert_eq!(backend.name, "ses-eu");
        assert!(parsed(&format!("{line} --kubeconfig k")).unwrap_err().contains("--kubeconfig"));
    }

    #[test]
    fn a_report_is_about_days_or_hours() {
        let Ok(Command::Report(report)) = parsed("mail-failover report --since 7d -n shop --output html") else {
            panic!()
        };
        assert_eq!(report.since, std::time::Duration::from_hours(7 * 24));
        assert!(parsed("mail-failover report --since week").unwrap_err().contains("30d"));
    }

    #[test]
    fn lint_wants_files_unless_it_prints_its_rules() {
        let Ok(Command::Lint(arguments)) = parsed("mail-failover lint a.yaml b --at 1970-01-01T00:00:01Z") else {
            panic!()
        };
        assert_eq!(arguments.files, [PathBuf::from("a.yaml"), PathBuf::from("b")]);
        assert_eq!((arguments.fail_on, arguments.output), (Severity::Error, LintFormat::Text));
        assert_eq!(arguments.at, Some(Timestamp::from_micros(1_000_000)));
        assert!(matches!(parsed("mail-failover lint --rules"), Ok(Command::Lint(_))));
        assert!(parsed("mail-failover lint").unwrap_err().contains("FILE"));
        assert!(parsed("mail-failover lint a.yaml --at noon").unwrap_err().contains("2026-11-24T08:00:00Z"));
        assert!(parsed("mail-failover lint a.yaml --fail-on never").unwrap_err().contains("warning"));
    }
}
