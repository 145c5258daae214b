//! The user that Postfix's processes run as.

use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use crate::postfix_config;

/// User of the operating system.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MailOwner {
    /// Number of the user.
    pub uid: u32,
    /// Primary group of the user, if it is known here.
    pub gid: Option<u32>,
}

/// Returns `mail_owner`: on every system Postfix's folder `private` belongs to that user. In a new queue, before
/// Postfix has made the folder, `postconf` is asked. The folders' own group is root's.
pub async fn mail_owner(queue_directory: &Path, config_directory: &Path) -> Option<MailOwner> {
    let accounts = std::fs::read_to_string("/etc/passwd").unwrap_or_default();
    if let Ok(private) = std::fs::metadata(queue_directory.join("private")) {
        return Some(with_uid(&accounts, private.uid()));
    }
    let configuration = postfix_config::from_postconf(Some(config_directory)).await.ok()?;
    named(&accounts, configuration.value("mail_owner"))
}

/// Looks an account up in `passwd(5)`, where a package that installs Postfix makes its user.
// A sidecar's image may not have the account. The user alone is enough for all that Postfix asks with.
fn with_uid(accounts: &str, uid: u32) -> MailOwner {
    let known = accounts.lines().filter_map(account).find(|(_, account)| account.uid == uid);
    known.map_or(MailOwner { uid, gid: None }, |(_, account)| account)
}

fn named(accounts: &str, name: &str) -> Option<MailOwner> {
    accounts.lines().filter_map(account).find_map(|(known, account)| (known == name).then_some(account))
}

fn account(line: &str) -> Option<(&str, MailOwner)> {
    let mut fields = line.split(':');
    let (name, _password) = (fields.next()?, fields.next()?);
    Some((name, MailOwner { uid: fields.next()?.parse().ok()?, gid: Some(fields.next()?.parse().ok()?) }))
}

#[cfg(test)]
mod tests {
    use super::*;

    const ACCOUNTS: &str = "root:x:0:0:root:/root:/bin/bash\n+nis\nbroken:x:102\npostfix:x:102:105::/var/spool/postfix:/usr/sbin/nologin\n";

    #[test]
    fn accounts_are_found_by_number_and_by_name() {
        let postfix = MailOwner { uid: 102, gid: Some(105) };
        assert_eq!(with_uid(ACCOUNTS, 102), postfix);
        assert_eq!(with_uid(ACCOUNTS, 7), MailOwner { uid: 7, gid: None });
        assert_eq!(named(ACCOUNTS, "postfix"), Some(postfix));
        assert_eq!(named(ACCOUNTS, "broken"), None);
    }
}
