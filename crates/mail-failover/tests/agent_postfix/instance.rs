//! Postfix of a test's own, in a folder of its own.

use std::fs;
use std::net::{SocketAddr, TcpListener};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};

use mail_failover_agent::mta::Master;
use rustix::process::Pid;

/// Returns true if there can be a Postfix here; prints the reason if not, and fails where nothing may be skipped.
pub fn possible() -> bool {
    let reason = if !rustix::process::getuid().is_root() {
        "Postfix starts as root, and this is not root"
    } else if Command::new("postconf").arg("-d").arg("mail_version").output().is_err() {
        "Postfix is not installed"
    } else {
        return true;
    };
    assert!(std::env::var_os("E2E_REQUIRE_ALL").is_none(), "{reason}");
    eprintln!("skipped: {reason}");
    false
}

pub struct Instance {
    folder: PathBuf,
    at: SocketAddr,
}

impl Instance {
    /// Configures it as a package leaves it: Debian's master.cf, nothing of ours. Not to be started.
    pub fn stock() -> Self {
        let instance = Self::new();
        let stock = ["/etc/postfix/master.cf.proto", "/etc/postfix/master.cf"];
        let services = stock.iter().find_map(|path| fs::read_to_string(path).ok()).unwrap();
        fs::write(instance.etc().join("master.cf"), services).unwrap();
        instance.set("smtp_host_lookup = dns");
        instance
    }

    /// Configures a service that takes mail, daemons in the queue directory as their root, and everything of ours but
    /// timeouts.
    pub fn listening() -> Self {
        let instance = Self::new();
        let services = format!(
            "{} inet n - y - - smtpd\npickup unix n - y 60 1 pickup\ncleanup unix n - y - 0 cleanup\nqmgr unix n - n 300 1 qmgr\n\
             rewrite unix - - y - - trivial-rewrite\nbounce unix - - y - 0 bounce\ndefer unix - - y - 0 bounce\n\
             trace unix - - y - 0 bounce\nflush unix n - y 1000? 0 flush\nproxymap unix - - n - - proxymap\nsmtp unix - - y - - smtp\n\
             showq unix n - y - - showq\nerror unix - - y - - error\nretry unix - - y - - error\nanvil unix - - y - 1 anvil\n\
             scache unix - - y - 1 scache\npostlog unix-dgram n - n - 1 postlogd\n",
            instance.at
        );
        fs::write(instance.etc().join("master.cf"), services).unwrap();
        instance.set("transport_maps = socketmap:unix:mail-failover/socketmap:transport");
        instance
            .set("smtpd_end_of_data_restrictions = check_client_access socketmap:unix:mail-failover/socketmap:intake");
        instance.set("maillog_file = /dev/stdout");
        fs::create_dir(instance.queue().join("mail-failover")).unwrap();
        instance
    }

    /// Configures the same in the background, with the lines that `agent postfix-config` prints and its log in a file.
    pub fn beside_an_agent() -> Self {
        let instance = Self::listening();
        instance.set(&format!("maillog_file_prefixes = {}", instance.folder.display()));
        let printed = Command::new(env!("CARGO_BIN_EXE_mail-failover"))
            .args([
                "agent",
                "postfix-config",
                "--format",
                "commands",
                "--without-sasl",
                "--without-tls",
                "--maillog-file",
            ])
            .arg(instance.mail_log())
            .output()
            .unwrap();
        let commands = String::from_utf8(printed.stdout).unwrap();
        let shell = Command::new("sh").args(["-ec", &commands]).env("MAIL_CONFIG", instance.etc()).output().unwrap();
        assert!(shell.status.success(), "{}", String::from_utf8_lossy(&shell.stderr));
        instance
    }

    /// Starts it, in the background.
    pub fn start(&self) {
        let start = Command::new("postfix").arg("-c").arg(self.etc()).arg("start").output().unwrap();
        assert!(start.status.success(), "{}", String::from_utf8_lossy(&start.stderr));
    }

    fn new() -> Self {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let name = format!("mail-failover-agent-{}-{}", std::process::id(), NUMBER.fetch_add(1, Ordering::Relaxed));
        let folder = std::env::temp_dir().join(name);
        for name in ["etc", "queue", "data"] {
            fs::create_dir_all(folder.join(name)).unwrap();
        }
        fs::set_permissions(&folder, fs::Permissions::from_mode(0o755)).unwrap();
        let owner = Command::new("chown").arg("postfix").arg(folder.join("data")).status().unwrap();
        assert!(owner.success());
        let at = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let folder_name = folder.display();
        let main_cf = format!(
            "compatibility_level = 3.6\nqueue_directory = {folder_name}/queue\ndata_directory = {folder_name}/data\n\
             command_directory = /usr/sbin\ndaemon_directory = /usr/lib/postfix/sbin\nmail_owner = postfix\nsetgid_group = postdrop\n\
             myhostname = mx.example\nmydestination =\ninet_interfaces = 127.0.0.1\ninet_protocols = ipv4\nmynetworks = 127.0.0.0/8\n\
             alias_maps =\nsmtp_dns_support_level = disabled\nsmtp_host_lookup = native\n"
        );
        fs::write(folder.join("etc/main.cf"), main_cf).unwrap();
        Self { folder, at }
    }

    pub fn etc(&self) -> PathBuf {
        self.folder.join("etc")
    }

    pub fn queue(&self) -> PathBuf {
        self.folder.join("queue")
    }

    /// Returns the folder, which is removed with the instance.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Returns the file to which it logs, beside an agent.
    pub fn mail_log(&self) -> PathBuf {
        self.folder.join("mail.log")
    }

    /// Returns the address at which it takes mail.
    pub fn at(&self) -> SocketAddr {
        self.at
    }

    /// Appends a line to main.cf.
    pub fn set(&self, line: &str) {
        let set = Command::new("postconf").arg("-c").arg(self.etc()).args(["-e", line]).status().unwrap();
        assert!(set.success(), "{line}");
    }

    /// The script that waits for master.
    pub fn parent_of_master(&self) -> Pid {
        let file = fs::read_to_string(self.queue().join("pid/master.pid")).unwrap();
        let stat = fs::read_to_string(Path::new("/proc").join(file.trim()).join("stat")).unwrap();
        let parent = stat.rsplit_once(") ").unwrap().1.split(' ').nth(1).unwrap();
        Pid::from_raw(parent.parse().unwrap()).unwrap()
    }
}

impl Drop for Instance {
    fn drop(&mut self) {
        if let Ok(master) = Master::find(&self.queue()) {
            let _ = master.kill();
        }
        drop(fs::remove_dir_all(&self.folder));
    }
}
