//! The committed resource definitions are the ones that the code means.

use std::fs;
use std::path::Path;

use mail_failover_api::crds_yaml;

#[test]
fn the_committed_definitions_are_what_the_code_generates() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../crds");
    let generated = crds_yaml().unwrap();
    for (name, yaml) in &generated {
        let committed = fs::read_to_string(folder.join(name)).unwrap_or_default();
        assert!(committed == *yaml, "crds/{name} differs from the code; run `make crds` and commit the result");
    }
    let mut committed: Vec<_> =
        fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    committed.sort();
    let mut names: Vec<_> = generated.into_iter().map(|(name, _)| name).collect();
    names.sort();
    assert_eq!(committed, names, "crds/ holds the generated definitions and nothing else");
}
