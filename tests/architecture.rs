//! What is deliberately absent, checked: the invariants of ARCHITECTURE.md that a compiler does not see.

use std::fs;
use std::path::{Path, PathBuf};

fn sources(folder: &str) -> Vec<PathBuf> {
    let mut found = vec![];
    let mut folders = vec![Path::new(env!("CARGO_MANIFEST_DIR")).join(folder)];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                found.push(path);
            }
        }
    }
    assert!(!found.is_empty(), "{folder} has no sources");
    found
}

/// Lines outside comments and outside test modules that contain any of the words.
fn offences(folder: &str, forbidden: &[&str]) -> Vec<String> {
    let mut offences = vec![];
    for path in sources(folder).into_iter().filter(|path| !path.to_string_lossy().ends_with("_tests.rs")) {
        let text = fs::read_to_string(&path).unwrap();
        let code = text.split("#[cfg(test)]").next().unwrap();
        for (line, number) in code.lines().zip(1..).filter(|(line, _)| !line.trim_start().starts_with("//")) {
            if let Some(word) = forbidden.iter().find(|word| line.contains(**word)) {
                offences.push(format!("{}:{number}: {word}: {}", path.display(), line.trim()));
            }
        }
    }
    offences
}

#[test]
fn model_and_engine_are_pure() {
    let impure = [
        "kube",
        "k8s_openapi",
        "tokio",
        "serde",
        "futures",
        "async ",
        "Instant",
        "SystemTime",
        "fastrand",
        "rand::",
        "std::fs",
        "std::net::Tcp",
        "std::io",
        "std::thread",
        "std::env",
        "tracing",
    ];
    for folder in ["src/model", "src/engine"] {
        assert_eq!(offences(folder, &impure), Vec::<String>::new());
    }
}

#[test]
fn outputs_only_say_what_should_be() {
    assert_eq!(
        offences("src/output", &["kube::", "tokio", "async ", "Instant", "SystemTime", "fastrand"]),
        Vec::<String>::new()
    );
}

#[test]
fn what_an_agent_concludes_and_answers_is_pure() {
    let impure =
        ["kube", "tokio", "async ", "Instant", "SystemTime", "fastrand", "std::fs", "std::net", "std::io", "tracing"];
    let pure = ["answers.rs", "core/", "netstring.rs", "reply.rs", "local.rs", "maps.rs", "text.rs"];
    for file in pure {
        assert!(
            sources("src/agent").iter().any(|path| path.to_string_lossy().contains(file)),
            "{file} is not there any more"
        );
    }
    let offences: Vec<_> = offences("src/agent", &impure)
        .into_iter()
        .filter(|offence| pure.iter().any(|file| offence.contains(&format!("/{file}"))))
        .collect();
    assert_eq!(offences, Vec::<String>::new());
}

#[test]
fn the_contract_between_operator_and_agents_is_pure() {
    let impure = ["kube::", "tokio", "async ", "Instant", "SystemTime", "fastrand", "std::fs", "std::io", "tracing"];
    assert_eq!(offences("src/agent_contract", &impure), Vec::<String>::new());
}

#[test]
fn one_place_reads_the_wall_clock_and_one_place_writes_to_the_api_server() {
    let readers: Vec<_> = offences("src", &["SystemTime::now", "jiff::Timestamp::now", "Zoned::now"]);
    assert!(readers.iter().all(|reader| reader.contains("src/clock.rs")), "{readers:#?}");
    let writers = offences("src", &[".patch(", ".patch_status(", ".create(&", ".replace(&", ".delete(&"]);
    // The Leases have writers of their own: the leader's, and each replica's as an observer. A TokenReview is a question: nothing keeps it.
    let places = [
        "src/controller/applier.rs",
        "src/leader/",
        "src/observers/publish.rs",
        "src/observers/sweep.rs",
        "src/reports/token.rs",
    ];
    let allowed = |writer: &String| places.iter().any(|place| writer.contains(place));
    assert!(writers.iter().all(allowed), "{writers:#?}");
}

#[test]
fn what_replicas_tell_one_another_is_pure_but_for_the_tasks_that_carry_it() {
    for file in ["report.rs", "name.rs", "liveness.rs", "board.rs"] {
        let path = format!("src/observers/{file}");
        assert!(Path::new(env!("CARGO_MANIFEST_DIR")).join(&path).exists(), "{path} is not there any more");
        let impure: Vec<_> =
            offences("src/observers", &["async move", "Client", "SystemTime", "Instant::now", "fastrand"])
                .into_iter()
                .filter(|offence| offence.contains(&path))
                .collect();
        assert_eq!(impure, Vec::<String>::new());
    }
}

#[test]
fn a_simulation_touches_no_network_and_no_clock() {
    let forbidden =
        ["kube::Client", "tokio", "async ", "Instant", "SystemTime", "std::net::Tcp", "fastrand::f64", "fastrand::u64"];
    assert_eq!(offences("src/simulate", &forbidden), Vec::<String>::new());
}

#[test]
fn nobody_decides_outside_the_engine() {
    let deciders = offences("src", &["decide("]);
    // What is explained or simulated is told to people, and an input to nothing.
    let askers = ["src/engine/", "src/controller/route.rs", "src/explain/account.rs", "src/simulate/world/"];
    let allowed = |decider: &String| askers.iter().any(|asker| decider.contains(asker));
    assert!(deciders.iter().all(allowed), "{deciders:#?}");
}
