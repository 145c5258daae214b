//! DNS servers that people run: BIND, Knot and PowerDNS, each with one zone that takes updates signed by TSIG; and the
//! tools dig and nsupdate.

use std::fmt::Write as _;
use std::fs;
use std::io::Write as _;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use rustix::process::Signal;
use tokio::net::TcpStream;

use crate::control_plane::binaries::on_path;
use crate::eventually::eventually;
use crate::process::Process;
use crate::test_env::TestEnv;

/// The remedy if a server or a tool is missing.
pub const HOW_TO_INSTALL: &str =
    "BIND, Knot or PowerDNS is not installed (on Debian and Ubuntu: e2e/tools/install-debian-packages)";
/// The zone of every server.
pub const ZONE: &str = "shop.example";
/// The name of the TSIG key that every server knows.
pub const KEY_NAME: &str = "mail-failover";
/// That key, in base64.
pub const KEY: &str = "c2l4dGVlbiBieXRlcyBhdCBsZWFzdCwgYW5kIHNvbWU=";

/// The port of PowerDNS' API.
pub const API_PORT: u16 = 8081;
/// The key of PowerDNS' API.
pub const API_KEY: &str = "open-sesame";

/// The programs of all servers and tools.
const PROGRAMS: [&str; 7] = ["named", "knotd", "knotc", "pdns_server", "pdnsutil", "dig", "nsupdate"];
/// The time limit of a server's start.
const STARTING: Duration = Duration::from_secs(30);
/// The port of DNS.
const PORT: u16 = 53;

/// Returns true if every server and tool is installed.
pub fn is_installed() -> bool {
    PROGRAMS.iter().all(|program| on_path(program).is_some())
}

/// A program that serves zones.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Software {
    Bind,
    Knot,
    PowerDns,
}

/// Settings of a BIND beside its zone.
#[derive(Clone, Debug)]
pub struct BindOptions {
    /// Servers that are told of each change (NOTIFY).
    pub told: Vec<IpAddr>,
    /// Grants of the `update-policy`.
    pub grants: String,
    /// `refresh` of the zone, in seconds: secondaries that are not told look so often.
    pub refresh: u32,
    /// The addresses of the zone's NS records.
    pub name_servers: Vec<IpAddr>,
}

impl Default for BindOptions {
    fn default() -> Self {
        Self {
            told: vec![],
            grants: format!("grant {KEY_NAME} subdomain {ZONE}. MX TXT A AAAA CNAME;"),
            refresh: 3600,
            name_servers: vec![],
        }
    }
}

/// A running server. Killed when dropped.
pub struct NameServer {
    process: Process,
    command: Box<dyn Fn() -> Command + Send + Sync>,
    log: PathBuf,
    address: SocketAddr,
}

impl NameServer {
    /// Starts a BIND as the primary server of the zone.
    ///
    /// # Errors
    /// When it does not listen in time.
    pub async fn bind(env: &TestEnv, name: &str, at: IpAddr, options: &BindOptions) -> Result<Self> {
        let folder = folder(env, name)?;
        let name_servers = if options.name_servers.is_empty() { &[at][..] } else { &options.name_servers };
        fs::write(folder.join("zone"), zone_file(name_servers, options.refresh))?;
        let told: Vec<_> = options.told.iter().map(ToString::to_string).collect();
        let told = told.iter().flat_map(|address| [address.as_str(), "; "]).collect::<String>();
        let zone = format!(
            "zone \"{ZONE}\" {{ type primary; file \"zone\"; notify explicit; also-notify {{ {told}}}; notify-source {at}; update-policy {{ {} }}; }};",
            options.grants
        );
        Self::named(name, &folder, at, &zone).await
    }

    /// Starts a BIND as a secondary server of the zone of another one.
    ///
    /// # Errors
    /// When it does not listen in time.
    pub async fn bind_secondary(env: &TestEnv, name: &str, at: IpAddr, primary: &Self) -> Result<Self> {
        let folder = folder(env, name)?;
        let zone = format!(
            "zone \"{ZONE}\" {{ type secondary; file \"zone\"; primaries {{ {}; }}; allow-notify {{ any; }}; min-refresh-time 1; max-refresh-time 5; min-retry-time 1; max-retry-time 2; }};",
            primary.address.ip()
        );
        Self::named(name, &folder, at, &zone).await
    }

    async fn named(name: &str, folder: &Path, at: IpAddr, zone: &str) -> Result<Self> {
        let configuration = format!(
            "options {{ directory \"{}\"; listen-on {{ {at}; }}; listen-on-v6 {{ none; }}; pid-file none; session-keyfile none; recursion no; dnssec-validation no; allow-transfer {{ any; }}; notify-delay 0; max-cache-size 8M; }};\n\
             controls {{ }};\n\
             key \"{KEY_NAME}\" {{ algorithm hmac-sha256; secret \"{KEY}\"; }};\n{zone}\n",
            folder.display()
        );
        own(at)?;
        let file = folder.join("named.conf");
        fs::write(&file, configuration)?;
        Self::start(name, folder, at, move || {
            let mut command = Command::new(on_path("named").unwrap_or_default());
            command.args(["-g", "-n", "1", "-c"]).arg(&file);
            command
        })
        .await
    }

    /// Starts a Knot as the primary server of the zone.
    ///
    /// # Errors
    /// When it does not listen in time.
    pub async fn knot(env: &TestEnv, name: &str, at: IpAddr) -> Result<Self> {
        let folder = folder(env, name)?;
        fs::write(folder.join("zone"), zone_file(&[at], 3600))?;
        let place = folder.display();
        let configuration = format!(
            "server:\n  listen: {at}@{PORT}\n  rundir: {place}\n\
             log:\n- target: stderr\n  any: info\n\
             database:\n  storage: {place}\n\
             key:\n- id: {KEY_NAME}\n  algorithm: hmac-sha256\n  secret: {KEY}\n\
             acl:\n- id: updates\n  key: {KEY_NAME}\n  action: update\n  update-type: [MX, TXT, A, AAAA, CNAME]\n\
             zone:\n- domain: {ZONE}\n  file: {place}/zone\n  zonefile-sync: -1\n  acl: updates\n"
        );
        let file = folder.join("knot.conf");
        fs::write(&file, configuration)?;
        Self::start(name, &folder, at, move || {
            let mut command = Command::new(on_path("knotd").unwrap_or_default());
            command.arg("-c").arg(&file);
            command
        })
        .await
    }

    /// Starts a PowerDNS with a database of its own.
    ///
    /// # Errors
    /// When the database cannot be made, or it does not listen in time.
    pub async fn power_dns(env: &TestEnv, name: &str, at: IpAddr) -> Result<Self> {
        let folder = folder(env, name)?;
        let (place, zone) = (folder.display(), folder.join("zone"));
        fs::write(&zone, zone_file(&[at], 3600))?;
        let configuration = format!(
            "launch=gsqlite3\ngsqlite3-database={place}/zones.sqlite3\nlocal-address={at}\nsocket-dir={place}\ndnsupdate=yes\nallow-dnsupdate-from=0.0.0.0/0\nsecurity-poll-suffix=\nguardian=no\ndaemon=no\ncache-ttl=0\nquery-cache-ttl=0\nnegquery-cache-ttl=0\nzone-cache-refresh-interval=0\nwebserver=yes\nwebserver-address={at}\nwebserver-port={API_PORT}\nwebserver-allow-from=0.0.0.0/0\napi=yes\napi-key={API_KEY}\n"
        );
        fs::write(folder.join("pdns.conf"), configuration)?;
        let schema = fs::read_to_string(SCHEMA).with_context(|| format!("cannot read {SCHEMA}"))?;
        run(Command::new("sqlite3").arg(folder.join("zones.sqlite3")), &schema)?;
        let config = format!("--config-dir={place}");
        for arguments in [
            &["load-zone", ZONE, &zone.display().to_string()][..],
            &["import-tsig-key", KEY_NAME, "hmac-sha256", KEY],
            &["set-meta", ZONE, "TSIG-ALLOW-DNSUPDATE", KEY_NAME],
        ] {
            run(Command::new(on_path("pdnsutil").unwrap_or_default()).arg(&config).args(arguments), "")?;
        }
        Self::start(name, &folder, at, move || {
            let mut command = Command::new(on_path("pdns_server").unwrap_or_default());
            command.arg(&config);
            command
        })
        .await
    }

    async fn start(
        name: &str,
        folder: &Path,
        at: IpAddr,
        command: impl Fn() -> Command + Send + Sync + 'static,
    ) -> Result<Self> {
        let log = folder.join("log");
        let process = Process::start(format!("name server {name}"), &mut command(), &log)?;
        let server = Self { process, command: Box::new(command), log, address: SocketAddr::new(at, PORT) };
        server.wait_listens().await?;
        Ok(server)
    }

    async fn wait_listens(&self) -> Result<()> {
        eventually(STARTING, "the name server to have the zone", async || {
            TcpStream::connect(self.address).await.with_context(|| self.process.log_tail(20))?;
            Ok((!self.dig(ZONE, "SOA")?.is_empty()).then_some(()))
        })
        .await
    }

    /// The address at which it answers.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Kills the server.
    pub fn kill(&self) {
        self.process.kill();
    }

    /// Starts it again, with the zone as it was.
    ///
    /// # Errors
    /// When it does not listen in time.
    pub async fn restart(&mut self) -> Result<()> {
        let name = self.process.name().to_owned();
        self.process = Process::start(name, &mut (self.command)(), &self.log)?;
        self.wait_listens().await
    }

    /// Stops the server (SIGSTOP): it takes connections and answers none.
    ///
    /// # Errors
    /// When it has ended.
    pub fn pause(&self) -> Result<()> {
        self.process.pause()
    }

    /// Lets it go on.
    ///
    /// # Errors
    /// When it has ended.
    pub fn resume(&self) -> Result<()> {
        self.process.signal(Signal::CONT)
    }

    /// The records of this name and type as dig prints them, in order.
    ///
    /// # Errors
    /// When the server does not answer.
    pub fn dig(&self, name: &str, record_type: &str) -> Result<Vec<String>> {
        let mut dig = Command::new("dig");
        dig.args(["+tcp", "+short", "+tries=1", "+time=3", "+norecurse"]);
        dig.arg(format!("@{}", self.address.ip())).args([name, record_type]);
        let text = run(&mut dig, "")?;
        let mut lines: Vec<_> = text.lines().map(str::to_owned).collect();
        lines.sort();
        Ok(lines)
    }

    /// Sends an update by nsupdate, signed by the key.
    ///
    /// # Errors
    /// When the server refuses it.
    pub fn nsupdate(&self, lines: &[&str]) -> Result<()> {
        let mut text = format!("server {}\nzone {ZONE}\n", self.address.ip());
        for line in lines {
            // Writing to a String cannot fail.
            let _ = writeln!(text, "{line}");
        }
        text.push_str("send\n");
        let key = format!("hmac-sha256:{KEY_NAME}:{KEY}");
        run(Command::new("nsupdate").args(["-v", "-y", &key]), &text).map(drop)
    }
}

/// The tables of PowerDNS.
const SCHEMA: &str = "/usr/share/pdns-backend-sqlite3/schema/schema.sqlite3.sql";

/// Makes an address one of the loopback interface: BIND listens at addresses of interfaces only, and those of trials are
/// parts of networks there.
///
/// # Errors
/// When this network is not ours.
pub fn own(address: IpAddr) -> Result<()> {
    run(Command::new("ip").args(["address", "replace", &format!("{address}/32"), "dev", "lo"]), "").map(drop)
}

fn folder(env: &TestEnv, name: &str) -> Result<PathBuf> {
    let folder = env.folder().join(name);
    fs::create_dir_all(&folder)?;
    Ok(folder)
}

/// A zone file with name servers at these addresses.
fn zone_file(name_servers: &[IpAddr], refresh: u32) -> String {
    let mut text = format!("$ORIGIN {ZONE}.\n$TTL 60\n@ IN SOA ns1 hostmaster 1 {refresh} 60 604800 5\n");
    for (index, address) in name_servers.iter().enumerate() {
        // Writing to a String cannot fail.
        let _ = write!(text, "@ IN NS ns{0}\nns{0} IN A {address}\n", index + 1);
    }
    text
}

/// Runs a command with this input, and returns what it prints.
fn run(command: &mut Command, input: &str) -> Result<String> {
    let program = command.get_program().to_owned();
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .with_context(|| format!("cannot start {}", program.display()))?;
    if let Some(mut stdin) = child.stdin.take() {
        stdin.write_all(input.as_bytes())?;
    }
    let output = child.wait_with_output()?;
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    ensure!(output.status.success(), "{}: {out}{err}", program.display());
    Ok(out.into_owned())
}
