//! `mail-failover simulate` on the scenarios that ship, and on a week of fifty backends.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use clap::Parser;
use mail_failover_tools::simulate::{self, Overrides, SimulateArguments, Simulation, chart, json, load};

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples/scenarios")
}

fn scenarios() -> Vec<PathBuf> {
    let mut files: Vec<_> = fs::read_dir(folder()).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.retain(|path| path.extension().is_some_and(|ending| ending == "yaml"));
    files.sort();
    assert!(files.len() >= 12, "{files:?}");
    files
}

fn loaded(path: &Path) -> Simulation {
    load(&[path.to_owned()], None, Overrides::default()).unwrap_or_else(|errors| panic!("{errors:#?}"))
}

#[derive(Parser)]
struct Line {
    #[command(flatten)]
    arguments: SimulateArguments,
}

/// The exit code, and what is written to the two streams.
fn run(arguments: &[&str]) -> (u8, String, String) {
    let line = ["simulate"].iter().chain(arguments);
    let arguments = Line::try_parse_from(line).unwrap().arguments;
    let (mut out, mut errors) = (vec![], vec![]);
    let code = simulate::run(&arguments, &mut out, &mut errors);
    (code, String::from_utf8(out).unwrap(), String::from_utf8(errors).unwrap())
}

#[test]
fn every_scenario_that_ships_goes_as_it_says() {
    for path in scenarios() {
        let simulation = loaded(&path);
        let outcome = simulation.run(true);
        assert!(!outcome.checked.is_empty(), "{} expects nothing", path.display());
        let unmet: Vec<_> = outcome.checked.iter().filter(|checked| !checked.is_met).collect();
        assert!(unmet.is_empty(), "{}: {unmet:#?}", path.display());
    }
}

#[test]
fn deep_probes_delay_nothing_whatever_the_number_of_replicas() {
    let fleets = fs::canonicalize(folder().join("fleets")).unwrap();
    for file in ["deep-standby", "deep-standby-recovers", "log-ins-fail"] {
        let shipped = fs::read_to_string(folder().join(file).with_extension("yaml")).unwrap();
        for observers in 1..=5 {
            let names: Vec<_> = (0..observers).map(|number| format!("replica-{number}")).collect();
            let replicas = format!("observers: [{}]", names.join(", "));
            let observed = |line: &str| if line.starts_with("observers:") { replicas.clone() } else { line.to_owned() };
            let text: Vec<_> = shipped.lines().map(observed).collect();
            let text = text.join("\n").replace("fleets/", &format!("{}/", fleets.display()));
            let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("{file}-{observers}.yaml"));
            fs::write(&path, text).unwrap();
            let outcome = loaded(&path).run(true);
            let unmet: Vec<_> = outcome.checked.iter().filter(|checked| !checked.is_met).collect();
            assert!(unmet.is_empty(), "{file}, {observers} replicas: {unmet:#?}");
        }
    }
}

#[test]
fn a_message_that_is_throttled_is_counted_as_not_sent() {
    let simulation = loaded(&folder().join("throttled-for-hours.yaml"));
    let outcome = simulation.run(true);
    // One minute from 0:10, and from 0:20 until the route has left five minutes later.
    let refused: Duration = outcome.summaries.iter().map(|summary| summary.refused).sum();
    assert!(refused >= Duration::from_mins(6) && refused < Duration::from_mins(8), "{refused:?}");
}

/// The scenario of throttled mail, with or without an agent and alternates.
fn throttled_mail(has_agents: bool, has_alternates: bool) -> Simulation {
    let number = u8::from(has_agents) * 2 + u8::from(has_alternates);
    let places = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("throttled-{number}"));
    fs::create_dir_all(&places).unwrap();
    let mut fleet = fs::read_to_string(folder().join("fleets/shop.yaml")).unwrap();
    if !has_agents {
        fleet = fleet.replace("  - agent: {configMap: orders-agent}\n", "");
    }
    if !has_alternates {
        fleet = fleet.replace("  - name: sendgrid\n  - name: mailgun-eu\n  outputs", "  outputs");
    }
    let shipped = fs::read_to_string(folder().join("throttled-mail.yaml")).unwrap();
    // What it expects is about a route with alternates.
    let (scenario, _) = shipped.split_once("expect:").unwrap();
    fs::write(places.join("fleet.yaml"), fleet).unwrap();
    fs::write(places.join("scenario.yaml"), scenario.replace("fleets/shop.yaml", "fleet.yaml")).unwrap();
    loaded(&places.join("scenario.yaml"))
}

#[test]
fn throttled_mail_counts_as_not_sent_unless_an_alternate_takes_it() {
    let refused = |has_agents, has_alternates| -> Duration {
        let outcome = throttled_mail(has_agents, has_alternates).run(true);
        outcome.summaries.iter().map(|summary| summary.refused).sum()
    };
    assert_eq!(refused(true, true), Duration::ZERO, "another provider takes each message");
    assert_eq!(refused(true, false), Duration::from_hours(2), "there is no other provider");
    // The route leaves after five minutes, and comes back now and then to find it throttled.
    let without_agents = refused(false, true);
    assert!(without_agents >= Duration::from_mins(5) && without_agents < Duration::from_hours(1), "{without_agents:?}");
}

#[test]
fn what_is_printed_and_drawn_can_be_read() {
    for path in scenarios() {
        let simulation = loaded(&path);
        let outcome = simulation.run(true);
        let told: serde_json::Value = serde_json::from_str(&json(&simulation, &outcome).unwrap()).unwrap();
        assert_eq!(told["timeline"].as_array().unwrap().len(), outcome.timeline.entries.len());
        assert!(told["routes"].as_object().is_some_and(|routes| !routes.is_empty()));
        let drawing = chart(&simulation, &outcome);
        let document =
            roxmltree::Document::parse(&drawing).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        assert_eq!(document.root_element().tag_name().name(), "svg");
        let width = document.root_element().attribute("width").and_then(|width| width.parse::<f64>().ok()).unwrap();
        for rect in document.descendants().filter(|node| node.has_tag_name("rect") && node.has_attribute("x")) {
            let number = |name: &str| rect.attribute(name).unwrap().parse::<f64>().unwrap();
            assert!(number("x") >= 0.0 && number("x") + number("width") <= width + 0.1, "{}: {rect:?}", path.display());
        }
        for text in document.descendants().filter(|node| node.has_tag_name("text")) {
            let number = |name: &str| text.attribute(name).and_then(|number| number.parse::<f64>().ok());
            let content = text.text().unwrap_or_default();
            // The font is not known; no letter is narrower than this.
            let least = 0.3 * number("font-size").unwrap() * f64::from(u16::try_from(content.chars().count()).unwrap());
            let (x, anchor) = (number("x").unwrap(), text.attribute("text-anchor"));
            let left = match anchor {
                Some("end") => x - least,
                Some("middle") => x - least / 2.0,
                _ => x,
            };
            let is_inside = left >= 0.0 && left + least <= width;
            assert!(is_inside, "{}: {content:?} from {left} is outside the picture", path.display());
        }
        // Every transition of the timeline has its number, alone or in a range, above the lane.
        let transitions = outcome.summaries.iter().map(|summary| summary.failovers + summary.failbacks).sum::<usize>();
        let labels = document.descendants().filter(|node| node.attribute("class") == Some("transition"));
        let numbered: Vec<usize> = labels
            .flat_map(|label| {
                let text = label.text().unwrap().trim();
                let (from, to) = text.split_once('–').unwrap_or((text, text));
                from.parse::<usize>().unwrap()..=to.parse().unwrap()
            })
            .collect();
        assert_eq!(numbered, (1..=transitions).collect::<Vec<_>>(), "{}", path.display());
    }
}

#[test]
fn skipping_rounds_changes_nothing_but_their_number() {
    let (mut skipped, mut made) = (0, 0);
    for path in scenarios() {
        let simulation = loaded(&path);
        let (quick, whole) = (simulation.run(true), simulation.run(false));
        assert_eq!(quick.timeline, whole.timeline, "{}", path.display());
        assert_eq!(quick.summaries, whole.summaries, "{}", path.display());
        assert!(quick.rounds <= whole.rounds);
        skipped += whole.rounds - quick.rounds;
        made += quick.rounds;
    }
    assert!(skipped * 2 > made, "{skipped} rounds are skipped, {made} are made");
}

#[test]
fn a_seed_determines_everything() {
    let path = folder().join("blips.yaml");
    let run = |seed| {
        load(std::slice::from_ref(&path), None, Overrides { seed: Some(seed), duration: None }).unwrap().run(true)
    };
    assert_eq!(run(7).timeline, run(7).timeline);
    assert_eq!(run(7).rounds, run(7).rounds);
    assert_ne!(run(7).timeline, run(8).timeline);
}

/// Fifty backends in ten routes, each backend with an outage, a slow hour and a bad line of its own.
fn week_of_fifty() -> (String, String) {
    use std::fmt::Write;
    let mut manifests = String::from(
        "apiVersion: mailfailover.io/v1alpha1\nkind: FailoverPolicy\nmetadata: {name: p}\nspec:\n  failure:\n    latency: {percentile: 90, above: 2s, for: 5m}\n    window: {duration: 10m, minimumSamples: 20, failurePercent: 50}\n",
    );
    let mut scenario = String::from("title: A week of fifty backends\nduration: 7d\nevents:\n");
    for backend in 0..50 {
        let _ = write!(
            manifests,
            "---\napiVersion: mailfailover.io/v1alpha1\nkind: SendingBackend\nmetadata: {{name: b{backend}}}\nspec:\n  smtp: {{host: mx{backend}.example, port: 25}}\n"
        );
        let _ = writeln!(scenario, "- {{at: {}h, for: 90m, backend: b{backend}, fault: NoBanner}}", 3 * backend + 1);
        let _ = writeln!(scenario, "- {{at: {}h, for: 1h, backend: b{backend}, latency: 3s}}", (7 * backend + 5) % 160);
        let at = (11 * backend + 3) % 160;
        let _ = writeln!(scenario, "- {{at: {at}h, for: 2h, backend: b{backend}, fault: Reset, percent: 10}}");
    }
    for route in 0..10 {
        let list: Vec<_> = (0..5).map(|member| format!("{{name: b{}}}", route * 5 + member)).collect();
        let _ = write!(
            manifests,
            "---\napiVersion: mailfailover.io/v1alpha1\nkind: MailRoute\nmetadata: {{name: r{route}}}\nspec:\n  policyRef: {{name: p}}\n  backends: [{}]\n  outputs: [{{configMap: {{name: m{route}, format: Env}}}}]\n",
            list.join(", ")
        );
    }
    (manifests, scenario)
}

#[test]
fn a_simulated_week_of_fifty_backends_takes_seconds() {
    let folder = std::env::temp_dir().join(format!("mail-failover-week-{}", std::process::id()));
    fs::create_dir_all(&folder).unwrap();
    let (manifests, scenario) = week_of_fifty();
    let files = [folder.join("manifests.yaml"), folder.join("scenario.yaml")];
    fs::write(&files[0], manifests).unwrap();
    fs::write(&files[1], scenario).unwrap();
    let simulation = load(&files, None, Overrides::default()).unwrap_or_else(|errors| panic!("{errors:#?}"));
    fs::remove_dir_all(&folder).unwrap();
    let started = Instant::now();
    let outcome = simulation.run(true);
    let took = started.elapsed();
    let transitions: usize = outcome.summaries.iter().map(|summary| summary.failovers + summary.failbacks).sum();
    println!("a week of 50 backends: {} rounds, {transitions} transitions in {took:?}", outcome.rounds);
    assert!(transitions >= 20, "{transitions}");
    // Fifteen seconds of a processor in a debug build, a tenth of it in a release build; the machine may do much else
    // at the time.
    assert!(took < Duration::from_mins(5), "{took:?}");
    let drawing = chart(&simulation, &outcome);
    assert!(roxmltree::Document::parse(&drawing).is_ok() && drawing.len() < 4_000_000, "{}", drawing.len());
}

#[test]
fn exit_codes_tell_an_expectation_that_fails_from_files_that_cannot_be_used() {
    let folder = std::env::temp_dir().join(format!("mail-failover-simulate-{}", std::process::id()));
    fs::create_dir_all(&folder).unwrap();
    let file = |name: &str, text: &str| {
        let path = folder.join(name);
        fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let fleet = self::folder().join("fleets/shop.yaml").to_str().unwrap().to_owned();
    let head = "title: A test\nduration: 1h\n";
    let good = file("good.yaml", &format!("{head}expect: [{{at: 1h, route: orders, active: ses-eu}}]\n"));
    let bad = file("bad.yaml", &format!("{head}expect: [{{at: 1h, route: orders, active: sendgrid}}]\n"));
    let drawing = folder.join("chart.svg").to_str().unwrap().to_owned();

    let (code, out, errors) = run(&[&fleet, &good, "--chart", &drawing]);
    assert!(code == 0 && out.contains("ok   line 3") && errors.is_empty(), "{code}: {out}{errors}");
    assert!(fs::read_to_string(&drawing).unwrap().starts_with("<svg"));
    let (code, out, _) = run(&[&fleet, "--scenario", &bad]);
    assert!(
        code == 1 && out.contains("FAIL line 3") && out.contains("found: Preferred, ses-eu 100 %"),
        "{code}: {out}"
    );
    let (code, out, _) = run(&[&fleet, &good, "--output", "json", "--duration", "2h"]);
    assert!(code == 0 && out.contains("\"end\": \"2026-01-01T02:00:00.000000Z\""), "{code}: {out}");

    let unusable = [
        (vec![fleet.as_str()], "there is no scenario among the files"),
        (vec![&fleet, &good, &bad], "are both scenarios"),
        (vec![&good], "there are no manifests"),
        (vec!["nowhere.yaml", &good], "nowhere.yaml: cannot be read"),
    ];
    for (arguments, message) in unusable {
        let (code, out, errors) = run(&arguments);
        assert!(code == 2 && out.is_empty() && errors.contains(message), "{arguments:?}: {code}: {errors}");
    }
    fs::remove_dir_all(&folder).unwrap();
}
