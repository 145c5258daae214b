//! Generation of main.cf and master.cf.

use std::path::Path;

use anyhow::Result;

use super::Options;

/// A line of main.cf.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Parameter {
    name: &'static str,
    value: String,
    is_first: bool,
}

impl Parameter {
    /// Puts the value before the present one, with a comma between them.
    #[must_use]
    pub fn ahead(self) -> Self {
        Self { is_first: true, ..self }
    }

    pub(super) fn name(&self) -> &'static str {
        self.name
    }

    /// The value to set; `now` returns the present one.
    pub(super) fn value_after(&self, now: impl FnOnce() -> Result<String>) -> Result<String> {
        let Self { name: _, value, is_first } = self;
        if !is_first {
            return Ok(value.clone());
        }
        let now = now()?;
        Ok(if now.trim().is_empty() { value.clone() } else { format!("{value}, {}", now.trim()) })
    }
}

/// A line of main.cf that replaces the present value.
pub fn parameter(name: &'static str, value: impl Into<String>) -> Parameter {
    Parameter { name, value: value.into(), is_first: false }
}

/// Postfix's time limits for a server, and its pauses before it retries deferred mail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PostfixTimeouts {
    /// A few seconds where its defaults are minutes, so that a trial with a server that hangs ends
    /// in time. Deferred mail is tried again after half a minute to a minute.
    Lowered,
    /// Postfix's defaults: 30 s to connect, 5 minutes for a greeting or a reply, 10 for the end of
    /// the data. Deferred mail is tried again after 5 minutes or more.
    Defaults,
}

impl PostfixTimeouts {
    /// The parameters of main.cf.
    pub(super) fn parameters(self) -> &'static [(&'static str, &'static str)] {
        match self {
            Self::Lowered => &[
                ("smtp_connect_timeout", "2s"),
                ("smtp_helo_timeout", "3s"),
                ("smtp_starttls_timeout", "3s"),
                ("smtp_mail_timeout", "3s"),
                ("smtp_rcpt_timeout", "3s"),
                ("smtp_data_init_timeout", "3s"),
                ("smtp_data_xfer_timeout", "3s"),
                ("smtp_data_done_timeout", "4s"),
                ("smtp_rset_timeout", "2s"),
                ("smtp_quit_timeout", "2s"),
                // Without it, each byte of a slow reply restarts the timeout.
                ("smtp_per_request_deadline", "yes"),
                ("minimal_backoff_time", "30s"),
                ("maximal_backoff_time", "60s"),
                ("queue_run_delay", "30s"),
            ],
            Self::Defaults => &[],
        }
    }
}

/// The beginning of main.cf: a relay that delivers nothing itself, looks nothing up in DNS, and
/// trusts the documentation networks.
pub(super) fn main(options: &Options, queue: &Path, data: &Path, daemons: &Path) -> String {
    let log = &options.log;
    let log_folder = log.parent().unwrap_or(Path::new("/"));
    format!(
        "compatibility_level = 3.6\n\
         queue_directory = {}\ndata_directory = {}\ndaemon_directory = {}\n\
         maillog_file = {}\nmaillog_file_prefixes = {}\n\
         myhostname = mx.shop.example\nmyorigin = $myhostname\n\
         mydestination =\nlocal_transport = error:5.1.1 no mail is delivered here\nlocal_recipient_maps =\nalias_maps =\nalias_database =\n\
         # The address that it listens on is in master.cf: this would have to be one of an interface, and ours is a local route.\n\
         inet_interfaces = all\ninet_protocols = ipv4\n\
         mynetworks = 127.0.0.0/8, 192.0.2.0/24, 198.51.100.0/24, 203.0.113.0/24\n\
         smtpd_relay_restrictions = permit_mynetworks, reject\n\
         # Next hops are addresses. Nothing answers names in here, and asking would take seconds.\n\
         smtpd_peername_lookup = no\nsmtp_dns_support_level = disabled\n",
        queue.display(),
        data.display(),
        daemons.display(),
        log.display(),
        log_folder.display(),
    )
}

/// The text of master.cf: Debian's, without what delivers to local users.
pub(super) fn master(options: &Options) -> String {
    let address = options.at;
    let chroot = if options.chroot { "y" } else { "n" };
    format!(
        "{address} inet n - {chroot} - - smtpd\n\
         pickup unix n - {chroot} 60 1 pickup\n\
         cleanup unix n - {chroot} - 0 cleanup\n\
         qmgr unix n - n 300 1 qmgr\n\
         tlsmgr unix - - {chroot} 1000? 1 tlsmgr\n\
         rewrite unix - - {chroot} - - trivial-rewrite\n\
         bounce unix - - {chroot} - 0 bounce\n\
         defer unix - - {chroot} - 0 bounce\n\
         trace unix - - {chroot} - 0 bounce\n\
         verify unix - - {chroot} - 1 verify\n\
         flush unix n - {chroot} 1000? 0 flush\n\
         proxymap unix - - n - - proxymap\n\
         proxywrite unix - - n - 1 proxymap\n\
         smtp unix - - {chroot} - - smtp\n\
         relay unix - - {chroot} - - smtp\n\
         showq unix n - {chroot} - - showq\n\
         error unix - - {chroot} - - error\n\
         retry unix - - {chroot} - - error\n\
         discard unix - - {chroot} - - discard\n\
         anvil unix - - {chroot} - 1 anvil\n\
         scache unix - - {chroot} - 1 scache\n\
         postlog unix-dgram n - n - 1 postlogd\n\
        "
    )
}

#[cfg(test)]
mod tests {
    use super::super::parameter;
    use super::*;

    fn set(parameter: &Parameter, now: &str) -> String {
        parameter.value_after(|| Ok(now.to_owned())).expect("a value")
    }

    #[test]
    fn a_value_replaces_another_or_goes_ahead_of_it() {
        let maps = parameter("transport_maps", "inline:{}");
        assert_eq!(set(&maps, "lmdb:x\n"), "inline:{}");
        assert_eq!(set(&maps.clone().ahead(), "lmdb:x\n"), "inline:{}, lmdb:x");
        assert_eq!(set(&maps.ahead(), "\n"), "inline:{}");
    }

    #[test]
    fn nothing_is_chrooted_that_is_not_meant_to_be() {
        let mut options = Options::new("198.51.100.9:25".parse().expect("an address"), "/tmp/x/mail.log".into());
        assert!(master(&options).contains("smtp unix - - y - - smtp\n"));
        options.chroot = false;
        assert!(!master(&options).contains(" y "));
    }
}
