//! `mail-failover lint` as it is run: on our own examples, and by what its exit code says to a pipeline.

use std::fs;
use std::path::{Path, PathBuf};

use clap::Parser;
use mail_failover_runtime::clock::Clock;
use mail_failover_tools::lint::{self, LintArguments};

#[derive(Parser)]
struct Line {
    #[command(flatten)]
    arguments: LintArguments,
}

/// The exit code, and what is written to the two streams.
fn run(arguments: &[&str]) -> (u8, String, String) {
    let line = ["lint"].iter().chain(arguments);
    let arguments = Line::try_parse_from(line).unwrap().arguments;
    let (mut out, mut errors) = (vec![], vec![]);
    let code = lint::run(&arguments, Clock::system().now(), &mut out, &mut errors);
    (code, String::from_utf8(out).unwrap(), String::from_utf8(errors).unwrap())
}

/// Folders that hold manifests, however deep. Scenarios are none; their fleets are.
fn folders(folder: &Path) -> Vec<PathBuf> {
    let entries: Vec<_> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    let is_manifest =
        |path: &PathBuf| path.extension().is_some_and(|ending| ending == "yaml") && !folder.ends_with("scenarios");
    let own = entries.iter().any(is_manifest).then(|| folder.to_owned());
    own.into_iter().chain(entries.iter().filter(|path| path.is_dir()).flat_map(|path| folders(path))).collect()
}

/// Each folder is applied for itself.
#[test]
fn our_own_examples_are_clean() {
    let folders = folders(&Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples"));
    assert!(!folders.is_empty());
    for folder in folders {
        let files = fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path());
        let files: Vec<_> = files.filter(|path| path.extension().is_some_and(|ending| ending == "yaml")).collect();
        // The fleets of scenarios show what befalls a route that lint warns of.
        let fail_on = if folder.ends_with("fleets") { "error" } else { "warning" };
        let arguments: Vec<_> = files.iter().map(|file| file.to_str().unwrap()).chain(["--fail-on", fail_on]).collect();
        let (code, out, errors) = run(&arguments);
        assert_eq!((code, errors.as_str()), (0, ""), "{}:\n{out}", folder.display());
    }
}

#[test]
fn exit_codes_tell_findings_from_files_that_cannot_be_read() {
    let folder = std::env::temp_dir().join(format!("mail-failover-lint-{}", std::process::id()));
    fs::create_dir_all(&folder).unwrap();
    let file = |name: &str, text: &str| {
        let path = folder.join(name);
        fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let backend = "apiVersion: mailfailover.io/v1alpha1\nkind: SendingBackend\nmetadata:\n  name: a\nspec:\n  smtp:\n    host: relay.example\n    port: 2525\n";
    let (plain, broken) = (file("plain.yaml", backend), file("broken.yaml", &backend.replace("port", "prot")));
    let nonsense = file("nonsense.yaml", "a: b: c\n");

    let (code, out, _) = run(&[&plain]);
    assert!(code == 0 && out.contains("warning TLSNotVerified"), "{code}: {out}");
    assert_eq!(run(&[&plain, "--fail-on", "warning"]).0, 1);
    let (code, out, _) = run(&[&broken]);
    assert!(
        code == 1 && out.contains("broken.yaml:8: error UnknownField: SendingBackend default/a: spec.smtp.prot"),
        "{out}"
    );
    let (code, out, errors) = run(&[&plain, &nonsense]);
    assert!(code == 2 && out.is_empty() && errors.contains("nonsense.yaml:1"), "{code}: {out}{errors}");
    assert_eq!(run(&["/nowhere"]).0, 2);
    fs::remove_file(&nonsense).unwrap();
    fs::create_dir_all(folder.join("deep/er")).unwrap();
    fs::rename(&broken, folder.join("deep/er/broken.yaml")).unwrap();
    file("deep/values.yaml", "replicas: 2\n");
    let (code, out, _) = run(&[folder.to_str().unwrap()]);
    assert!(code == 1 && out.contains("deep/er/broken.yaml:8: error UnknownField"), "subfolders are read: {out}");
    assert!(out.contains("; 1 file without any Kubernetes object: ") && out.contains("deep/values.yaml"), "{out}");
    let (code, out, _) = run(&["--rules"]);
    assert!(code == 0 && out.contains("| `NoSpareCapacity` | warning |"), "{out}");
    fs::remove_dir_all(folder).unwrap();
}
