use std::fs;
use std::process::Command;

use super::*;
use mail_failover_dataplane::testing::Folder;
use prometheus_client::registry::Registry;

#[tokio::test]
async fn an_agent_that_starts_postfix_is_ready_when_postfix_is() {
    let folder = Folder::new();
    let postfix = Postfix {
        config_directory: folder.path().to_owned(),
        queue_directory: folder.path().to_owned(),
        metrics: MtaMetrics::new(&mut Registry::default()),
    };
    let readiness = Readiness::default();
    readiness.expect(POSTFIX);
    let waiting = tokio::spawn(await_postfix(postfix, readiness.clone()));
    let why = async |part: &str| {
        while !readiness.missing().iter().any(|(_, why)| why.contains(part)) {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    why("Postfix does not run: ").await;

    // A process that is called so, and catches SIGHUP only after a while.
    let master = folder.path().join("master");
    fs::copy("/bin/sh", &master).unwrap();
    let script = format!(
        "while [ ! -e {}/go ]; do sleep 0.1; done; trap : HUP; while :; do sleep 0.1; done",
        folder.path().display()
    );
    // A shell cannot trap a signal that was ignored when it started, as by nohup.
    let mut process =
        Command::new("env").arg("--default-signal=HUP").arg(&master).args(["-c", &script]).spawn().unwrap();
    fs::create_dir_all(folder.path().join("pid")).unwrap();
    fs::write(folder.path().join("pid/master.pid"), process.id().to_string()).unwrap();
    why("Postfix is starting").await;
    fs::write(folder.path().join("go"), "").unwrap();
    waiting.await.unwrap();
    assert!(readiness.missing().is_empty());
    process.kill().unwrap();
    process.wait().unwrap();
}
