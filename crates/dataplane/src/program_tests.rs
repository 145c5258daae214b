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
    drop(fresh);
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
async fn a_taken_address_is_told_with_its_flag_and_served_once_it_is_free() {
    let folder = Folder::new();
    for flag in ["--listen-address", "--health-listen-address"] {
        let taken = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let address = taken.local_addr().unwrap();
        let mut wanted = settings(&folder);
        match flag {
            "--listen-address" => wanted.listen_address = address,
            _ => wanted.health_listen_address = address,
        }
        let end = CancellationToken::new();
        let program = Program::begin(wanted, &end).await.unwrap();
        let readiness = program.readiness.clone();
        assert!(readiness.missing().is_empty(), "mail goes on");
        let (_, why) = readiness.remarks().remove(0);
        assert!(why.starts_with(&format!("cannot listen on {address}: ")), "{why}");
        assert!(why.ends_with(&format!("; choose another with {flag}")), "{why}");
        let mut tasks = Tasks::default();
        program.serve(axum::Router::new(), &mut tasks, &end);
        drop(taken);
        let served = async {
            while !readiness.remarks().is_empty() {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        tokio::time::timeout(Duration::from_mins(1), served).await.unwrap();
        tokio::net::TcpStream::connect(address).await.unwrap();
        tasks.stop(&end, &LAST_TASKS).await;
    }
}

#[tokio::test]
async fn two_programs_do_not_keep_their_state_in_one_folder() {
    let folder = Folder::new();
    let (first, end) = (settings(&folder), CancellationToken::new());
    let first = Program::begin(first, &end).await.unwrap();
    let error = Program::begin(settings(&folder), &end).await.unwrap_err().to_string();
    assert!(error.contains(&folder.path().display().to_string()), "{error}");
    let mut tasks = Tasks::default();
    first.serve(axum::Router::new(), &mut tasks, &end);
    assert!(Program::begin(settings(&folder), &end).await.is_err(), "it serves");
    tasks.stop(&end, &LAST_TASKS).await;
    assert!(Program::begin(settings(&folder), &CancellationToken::new()).await.is_ok(), "it has ended");
}
