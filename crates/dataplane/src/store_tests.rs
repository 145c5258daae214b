//! Tests of records on a real disk.

use std::os::unix::fs::PermissionsExt;

use super::*;
use crate::testing::Folder;

fn store(folder: &Folder) -> StateStore {
    StateStore::new(folder.path().join("state"))
}

#[test]
fn a_folder_has_one_process_at_a_time() {
    let folder = Folder::new();
    let store = store(&folder);
    let lock = store.lock().unwrap();
    assert!(lock.is_some());
    let error = store.lock().unwrap_err().to_string();
    let path = folder.path().join("state").display().to_string();
    assert!(error.contains(&path) && error.ends_with("with --state-directory"), "{error}");
    drop(lock);
    assert!(store.lock().unwrap().is_some());
}

#[test]
fn a_folder_that_cannot_be_written_to_is_no_reason_to_end() {
    let folder = Folder::new();
    fs::write(folder.path().join("state"), "no folder").unwrap();
    assert!(store(&folder).lock().unwrap().is_none());
}

#[test]
fn what_was_saved_is_loaded() {
    let folder = Folder::new();
    let store = store(&folder);
    for record in StateRecord::ALL {
        assert_eq!(store.load(record).unwrap(), None);
        for content in ["", "one", "two\nlines\n", "ümlaut"] {
            store.save(record, content).unwrap();
            assert_eq!(store.load(record).unwrap().as_deref(), Some(content));
        }
    }
    let mode = fs::metadata(store.path(StateRecord::Document)).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let left: Vec<_> =
        fs::read_dir(folder.path().join("state")).unwrap().flatten().map(|entry| entry.file_name()).collect();
    assert_eq!(left.len(), StateRecord::ALL.len(), "{left:?}");
}

#[test]
fn every_single_damaged_byte_is_noticed() {
    let folder = Folder::new();
    let store = store(&folder);
    let path = store.path(StateRecord::Document);
    store.save(StateRecord::Document, "{\"a\": 1}").unwrap();
    let good = fs::read(&path).unwrap();
    for at in 0..good.len() {
        for flip in [0x01, 0x20, 0x80] {
            let mut bad = good.clone();
            bad[at] ^= flip;
            fs::write(&path, &bad).unwrap();
            store.load(StateRecord::Document).expect_err(&format!("byte {at} with {flip:#x}"));
        }
        fs::write(&path, &good[..at]).unwrap();
        store.load(StateRecord::Document).expect_err(&format!("cut at {at}"));
    }
    fs::write(&path, [good.as_slice(), b"x"].concat()).unwrap();
    store.load(StateRecord::Document).expect_err("longer");
}

#[test]
fn one_record_is_not_taken_for_another() {
    let folder = Folder::new();
    let store = store(&folder);
    store.save(StateRecord::Memory, "{}").unwrap();
    fs::rename(store.path(StateRecord::Memory), store.path(StateRecord::Document)).unwrap();
    store.load(StateRecord::Document).expect_err("it is a memory");
}

#[test]
fn a_newer_version_is_not_guessed_at() {
    let folder = Folder::new();
    let store = store(&folder);
    store.save(StateRecord::Memory, "{}").unwrap();
    let text = fs::read_to_string(store.path(StateRecord::Memory)).unwrap().replacen("state 1", "state 2", 1);
    fs::write(store.path(StateRecord::Memory), text).unwrap();
    assert_eq!(
        store.load(StateRecord::Memory).unwrap_err().to_string(),
        "it is of another version or of something else"
    );
}

#[test]
fn a_failed_save_leaves_the_one_before() {
    let folder = Folder::new();
    let store = store(&folder);
    store.save(StateRecord::Document, "good").unwrap();
    // A folder in the way of the new file: what a full disk does, root included.
    fs::create_dir_all(folder.path().join("state/document.new/x")).unwrap();
    store.save(StateRecord::Document, "better").unwrap_err();
    assert_eq!(store.load(StateRecord::Document).unwrap().as_deref(), Some("good"));
}

#[test]
fn an_interrupted_save_is_no_obstacle() {
    let folder = Folder::new();
    let store = store(&folder);
    fs::create_dir_all(folder.path().join("state")).unwrap();
    fs::write(folder.path().join("state/document.new"), "half").unwrap();
    store.save(StateRecord::Document, "whole").unwrap();
    assert_eq!(store.load(StateRecord::Document).unwrap().as_deref(), Some("whole"));
}
