use std::net::{Ipv4Addr, TcpListener};

use super::*;
use crate::testing::Folder;

fn settings(folder: &Folder) -> ProgramSettings {
    let any_port = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    ProgramSettings {
        prefix: "mail_failover_test",
        credentials_directory: folder.path().join("credentials"),
        state_directory: folder.path().to_owned(),
        listen_address: any_port,
        health_listen_address: any_port,
        name: None,
        token_file: None,
        tells_accounts_apart: false,
    }
}

/// Begins a program, has it keep these records, and ends it.
async fn run(folder: &Folder, records: &[(StateRecord, &str)]) {
    let end = CancellationToken::new();
    let program = Program::begin(settings(folder), &end).await.unwrap();
    for (record, content) in records {
        program.state_writer.keep(*record, content);
    }
    end.cancel();
    program.writing.await.unwrap();
}

#[tokio::test]
async fn a_program_goes_on_with_what_an_earlier_one_has_kept() {
    let folder = Folder::new();
    let end = CancellationToken::new();
    let fresh = Program::begin(settings(&folder), &end).await.unwrap();
    assert!(fresh.saved_document().is_none() && fresh.memory().is_none());
    let memory = serde_json::to_string(&CoreMemory::default()).unwrap();
    run(&folder, &[(StateRecord::Document, "a document"), (StateRecord::Memory, &memory)]).await;
    let next = Program::begin(settings(&folder), &end).await.unwrap();
    let (source, document) = next.saved_document().unwrap();
    assert_eq!((source.as_str(), document), ("disk", "a document"));
    assert!(next.memory().is_some());
}

#[tokio::test]
async fn a_memory_that_cannot_be_read_is_none() {
    let folder = Folder::new();
    run(&folder, &[(StateRecord::Memory, "of another version")]).await;
    let next = Program::begin(settings(&folder), &CancellationToken::new()).await.unwrap();
    assert!(next.memory().is_none());
}

#[tokio::test]
async fn an_address_that_cannot_be_had_is_named_with_its_flag() {
    let folder = Folder::new();
    let taken = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let address = taken.local_addr().unwrap();
    for (flag, settings) in [
        ("--listen-address", ProgramSettings { listen_address: address, ..settings(&folder) }),
        ("--health-listen-address", ProgramSettings { health_listen_address: address, ..settings(&folder) }),
    ] {
        let error = Program::begin(settings, &CancellationToken::new()).await.unwrap_err().to_string();
        assert!(error.starts_with(&format!("cannot listen on {address}: ")), "{error}");
        assert!(error.ends_with(&format!("; choose another with {flag}")), "{error}");
    }
}
