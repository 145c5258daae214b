//! Whom the socket is given to: Postfix's processes, which all run as its `mail_owner`.
//!
//! An agent that starts before Postfix ever did, as with an empty volume for the queue, finds nothing in the queue directory that would say
//! who that is; the user database does.

use std::io;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::path::Path;

/// The user as which Postfix's processes run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MailOwner {
    /// Its number.
    pub uid: u32,
    /// Its primary group, which those processes have; none when the user database of this machine does not know the user.
    pub gid: Option<u32>,
}

/// `mail_owner` as Postfix comes from everywhere.
const DEFAULT: &str = "postfix";

impl MailOwner {
    /// The user to whom the folder `private` of this queue directory belongs, or `postfix` when Postfix has not made it yet.
    pub fn of(queue_directory: &Path) -> Option<Self> {
        let users = std::fs::read_to_string("/etc/passwd").unwrap_or_default();
        let private = std::fs::metadata(queue_directory.join("private"));
        Self::find(private.ok().map(|private| private.uid()), &users)
    }

    /// In a file as passwd(5) has it.
    fn find(uid: Option<u32>, users: &str) -> Option<Self> {
        let user = |line: &str| {
            let mut fields = line.split(':');
            let name = fields.next()?.to_owned();
            let (uid, gid) = (fields.nth(1)?.parse::<u32>().ok()?, fields.next()?.parse().ok()?);
            Some((name, Self { uid, gid: Some(gid) }))
        };
        let mut users = users.lines().filter_map(user);
        match uid {
            None => users.find(|(name, _)| name == DEFAULT).map(|(_, user)| user),
            Some(uid) => {
                Some(users.find(|(_, user)| user.uid == uid).map_or(Self { uid, gid: None }, |(_, user)| user))
            }
        }
    }

    /// Gives it the file, or its group at least, as far as this process may: a root without `CAP_CHOWN` may not give files away, and needs
    /// not when its own group is Postfix's.
    ///
    /// # Errors
    /// When the file cannot be looked at.
    pub fn give(self, file: &Path) -> io::Result<()> {
        let Self { uid, gid } = self;
        // Whether it worked is seen from the file.
        if chown(file, Some(uid), gid).is_err() && gid.is_some() {
            drop(chown(file, None, gid));
        }
        let metadata = std::fs::metadata(file)?;
        let (owner, group, mode) = (metadata.uid(), metadata.gid(), metadata.permissions().mode());
        // Of a group that nobody here knows, any but root's may be the right one.
        let of_group = gid.map_or(group != 0, |gid| gid == group);
        let is_reached = mode & 0o002 != 0 || owner == uid && mode & 0o200 != 0 || of_group && mode & 0o020 != 0;
        if !is_reached {
            tracing::warn!(
                "Postfix's processes (uid {uid}) may not use the socket, which belongs to uid {owner} and gid {group} with mode {:o}, and Postfix will refuse mail with 451; run the agent with Postfix's group, or with --socket-mode 0666",
                mode & 0o777
            );
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const USERS: &str =
        "root:x:0:0:root:/root:/bin/sh\npostfix:x:101:105::/var/spool/postfix:/bin/false\nbroken\nmail:x:8:9:::\n";

    #[test]
    fn the_owner_is_known_before_postfix_has_ever_run() {
        let owner = |uid, gid| Some(MailOwner { uid, gid });
        for (what, uid, users, want) in [
            ("Postfix has not run yet", None, USERS, owner(101, Some(105))),
            ("it has", Some(101), USERS, owner(101, Some(105))),
            ("as another user", Some(8), USERS, owner(8, Some(9))),
            ("as a user of another container", Some(555), USERS, owner(555, None)),
            ("nothing is known", None, "", None),
        ] {
            assert_eq!(MailOwner::find(uid, users), want, "{what}");
        }
    }
}
