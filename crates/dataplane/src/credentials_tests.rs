//! Tests of logins on a real disk, as the kubelet and as people write them.

use std::fs;
use std::os::unix::fs::symlink;

use super::*;
use crate::testing::Folder;

fn login(credentials: &Credentials, secret: &str) -> Result<String, String> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    let login = runtime.block_on(credentials.login(&secret.into()));
    login.map(|login| in_a_password_map(&login)).map_err(|missing| missing.to_string())
}

fn credentials(folder: &Folder) -> (Credentials, Registry) {
    let mut registry = Registry::default();
    (Credentials::new(folder.path().to_owned(), &mut registry), registry)
}

fn write(folder: &Folder, secret: &str, username: &str, password: &str) {
    fs::create_dir_all(folder.path().join(secret)).unwrap();
    fs::write(folder.path().join(secret).join("username"), username).unwrap();
    fs::write(folder.path().join(secret).join("password"), password).unwrap();
}

#[test]
fn a_rotated_login_is_used_by_the_next_query() {
    let folder = Folder::new();
    let (credentials, _registry) = credentials(&folder);
    write(&folder, "ses", "user", "one:two three\n");
    assert_eq!(login(&credentials, "ses").unwrap(), "user:one:two three");
    write(&folder, "ses", "user", "other:two thre2\n");
    assert_eq!(login(&credentials, "ses").unwrap(), "user:other:two thre2");
    assert_eq!(credentials.state(&"ses".into()), LoginState::Loaded);
}

#[test]
fn the_last_good_login_stays_whatever_becomes_of_the_files() {
    let folder = Folder::new();
    let (credentials, registry) = credentials(&folder);
    write(&folder, "ses", "user", "hunter2");
    assert_eq!(login(&credentials, "ses").unwrap(), "user:hunter2");
    for (username, password, trouble) in [
        ("user", "", "password: it is empty"),
        ("", "hunter3", "username: it is empty"),
        ("user", "\n", "password: it is empty"),
        ("user", "hunter\n3\n", "password: it holds control characters"),
        ("us:er", "hunter3", "username: it holds a colon"),
        ("user", &"x".repeat(5_000), "password: it has more than 4096 bytes"),
    ] {
        write(&folder, "ses", username, password);
        assert_eq!(login(&credentials, "ses").unwrap(), "user:hunter2", "{trouble}");
        let LoginState::LastGood { trouble: told } = credentials.state(&"ses".into()) else { panic!("{trouble}") };
        assert!(told.contains(trouble), "{told}");
        assert!(!told.contains("hunter"), "{told}");
    }
    fs::write(folder.path().join("ses/password"), b"hunter\xff").unwrap();
    assert_eq!(login(&credentials, "ses").unwrap(), "user:hunter2");
    fs::remove_dir_all(folder.path().join("ses")).unwrap();
    assert_eq!(login(&credentials, "ses").unwrap(), "user:hunter2");
    let mut text = String::new();
    prometheus_client::encoding::text::encode(&mut text, &registry).unwrap();
    assert!(
        text.contains("credentials_usable{secret=\"ses\"} 1") && text.contains("credentials_current{secret=\"ses\"} 0"),
        "{text}"
    );
    write(&folder, "ses", "user", "hunter3");
    assert_eq!(login(&credentials, "ses").unwrap(), "user:hunter3");
}

#[test]
fn what_is_known_is_what_the_latest_look_has_found() {
    let folder = Folder::new();
    let (credentials, _registry) = credentials(&folder);
    let known = || credentials.known(&"ses".into()).map(|login| login.password().to_owned());
    write(&folder, "ses", "user", "hunter2");
    assert_eq!(known(), None, "nobody has looked");
    login(&credentials, "ses").unwrap();
    write(&folder, "ses", "user", "hunter3");
    assert_eq!(known().as_deref(), Some("hunter2"));
    login(&credentials, "ses").unwrap();
    assert_eq!(known().as_deref(), Some("hunter3"));
    fs::remove_dir_all(folder.path().join("ses")).unwrap();
    login(&credentials, "ses").unwrap();
    assert_eq!(known(), None, "the last good one is for who has looked");
}

#[test]
fn a_missing_login_is_named_with_its_file() {
    let folder = Folder::new();
    let (credentials, _registry) = credentials(&folder);
    let error = login(&credentials, "ses").unwrap_err();
    let file = folder.path().join("ses/username");
    assert_eq!(
        error,
        format!(
            "the login in Secret ses cannot be read: {}: there is no such file; mount the Secret there",
            file.display()
        )
    );
    assert!(matches!(credentials.state(&"ses".into()), LoginState::Missing { .. }));
}

#[test]
fn a_mounted_secret_is_replaced_as_a_whole() {
    let folder = Folder::new();
    let (credentials, _registry) = credentials(&folder);
    let mount = |version: &str| {
        let secret = folder.path().join("ses");
        fs::create_dir_all(secret.join(version)).unwrap();
        fs::write(secret.join(version).join("username"), format!("user-{version}")).unwrap();
        fs::write(secret.join(version).join("password"), format!("password-{version}")).unwrap();
        symlink(version, secret.join("..data_tmp")).unwrap();
        fs::rename(secret.join("..data_tmp"), secret.join("..data")).unwrap();
        for name in ["username", "password"] {
            let _ = symlink(format!("..data/{name}"), secret.join(name));
        }
    };
    mount("..1");
    assert_eq!(login(&credentials, "ses").unwrap(), "user-..1:password-..1");
    mount("..2");
    fs::remove_dir_all(folder.path().join("ses/..1")).unwrap();
    assert_eq!(login(&credentials, "ses").unwrap(), "user-..2:password-..2");
}

#[test]
fn a_login_is_not_printed() {
    let folder = Folder::new();
    let (credentials, _registry) = credentials(&folder);
    write(&folder, "ses", "user", "hunter2");
    login(&credentials, "ses").unwrap();
    let printed = format!("{credentials:?}");
    assert!(printed.contains("hidden") && !printed.contains("hunter2"), "{printed}");
}

#[test]
fn what_is_not_needed_any_more_is_forgotten() {
    let folder = Folder::new();
    let (credentials, _registry) = credentials(&folder);
    write(&folder, "old", "user", "hunter2");
    write(&folder, "new", "user", "hunter2");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    runtime.block_on(credentials.keep(["old".into()]));
    assert_eq!(credentials.state(&"old".into()), LoginState::Loaded);
    runtime.block_on(credentials.keep(["new".into()]));
    assert!(matches!(credentials.state(&"old".into()), LoginState::Missing { .. }));
    assert_eq!(credentials.state(&"new".into()), LoginState::Loaded);
}

#[test]
fn the_keys_of_a_login_can_be_named_and_two_logins_share_a_secret() {
    let folder = Folder::new();
    let (credentials, _registry) = credentials(&folder);
    let both = folder.path().join("both");
    fs::create_dir_all(&both).unwrap();
    for (name, value) in
        [("ses-user", "a"), ("ses-key", "hunter2"), ("sendgrid-user", "b"), ("sendgrid-key", "hunter3")]
    {
        fs::write(both.join(name), value).unwrap();
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    for (user, key, expected) in [("ses-user", "ses-key", "a:hunter2"), ("sendgrid-user", "sendgrid-key", "b:hunter3")]
    {
        let reference = LoginReference::new("both", Some(user), Some(key));
        let read = runtime.block_on(credentials.login(&reference)).unwrap();
        assert_eq!(in_a_password_map(&read), expected);
        assert_eq!(credentials.state(&reference), LoginState::Loaded);
    }
    let missing = LoginReference::new("both", Some("ses-user"), Some("nothing"));
    let error = runtime.block_on(credentials.login(&missing)).unwrap_err().to_string();
    assert!(error.starts_with("the login in Secret both (ses-user, nothing) cannot be read: "), "{error}");
    assert!(error.contains("both/nothing: there is no such file"), "{error}");
}
