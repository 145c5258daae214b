//! Search for the control plane's programs.
//!
//! The places in this order: the folder `KUBEBUILDER_ASSETS`; kube-apiserver and etcd on `PATH` if
//! both are there, and the other programs of Kubernetes if all of those are, too; the cache folder
//! (`MAIL_FAILOVER_CACHE`, else `~/.cache/mail-failover-operator`); a build with Go from
//! `e2e/tools`, into the cache folder; and kubectl on `PATH` where there is no Go.

use std::env;
use std::ffi::OsString;
use std::fs::{self, File, TryLockError};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use super::programs::Program;
use crate::environment;
use crate::process::tail;

/// The interval at which a build reports that it is still going on.
const PROGRESS: Duration = Duration::from_secs(10);

/// The programs of a control plane, found or built.
#[derive(Clone, Debug, Default)]
pub struct Binaries {
    found: Vec<(Program, PathBuf)>,
    origin: String,
}

impl Binaries {
    /// Finds these programs, and builds those that it does not find. A build may take minutes, and
    /// says so on standard error.
    ///
    /// # Errors
    /// When `KUBEBUILDER_ASSETS` lacks etcd or kube-apiserver, when Go is missing, or when a build fails.
    pub fn locate(wanted: &[Program]) -> Result<Self> {
        let (mut found, mut origins) = (Vec::new(), Vec::new());
        let mut missing = Vec::new();
        let places = Places::from_env()?;
        for program in wanted {
            match places.find(*program) {
                Some((path, origin)) => {
                    found.push((*program, path));
                    origins.push(origin);
                }
                None => missing.push(*program),
            }
        }
        for (program, path) in build(&missing, &places.cache)? {
            found.push((program, path));
            origins.push(format!("{} {}", program.product().name(), program.product().version()));
        }
        origins.sort_unstable();
        origins.dedup();
        Ok(Self { found, origin: origins.join(", ") })
    }

    /// The path of a program that was wanted.
    ///
    /// # Errors
    /// When it was not.
    pub fn path(&self, program: Program) -> Result<&Path> {
        self.found
            .iter()
            .find(|(found, _)| *found == program)
            .map(|(_, path)| path.as_path())
            .with_context(|| format!("{} was not asked for", program.name()))
    }

    /// A description of their origin, for messages.
    pub fn origin(&self) -> &str {
        &self.origin
    }
}

/// The places in which programs are searched.
struct Places {
    assets: Option<PathBuf>,
    on_path: Option<Vec<(Program, PathBuf)>>,
    cache: PathBuf,
}

impl Places {
    fn from_env() -> Result<Self> {
        let assets = environment::path("KUBEBUILDER_ASSETS");
        if let Some(folder) = &assets {
            for program in [Program::Etcd, Program::KubeApiServer] {
                if !folder.join(program.name()).is_file() {
                    bail!(
                        "KUBEBUILDER_ASSETS={} holds no {}: set it right or unset it",
                        folder.display(),
                        program.name()
                    );
                }
            }
        }
        // As a pair or not at all: a distribution's etcd alone is often too old for the API server that would be built.
        // So is a kubelet beside an API server of another version.
        let on_path = all_on_path(&[Program::Etcd, Program::KubeApiServer]).map(|mut pair| {
            let others = [Program::KubeControllerManager, Program::KubeScheduler, Program::Kubelet, Program::KubeProxy];
            pair.extend(all_on_path(&others).unwrap_or_default());
            pair
        });
        Ok(Self { assets, on_path, cache: cache_folder()? })
    }

    fn find(&self, program: Program) -> Option<(PathBuf, String)> {
        if let Some(path) = self.assets.as_ref().map(|folder| folder.join(program.name())).filter(|path| path.is_file())
        {
            return Some((path, "KUBEBUILDER_ASSETS".to_owned()));
        }
        let on_its_path = self.on_path.iter().flatten().find(|(found, _)| *found == program);
        if let Some((_, path)) = on_its_path {
            return Some((path.clone(), path.display().to_string()));
        }
        let path = cached(&self.cache, program);
        let product = program.product();
        if path.is_file() {
            return Some((path, format!("{} {}", product.name(), product.version())));
        }
        // Any kubectl of the last years will do where the pinned one cannot be built.
        let any =
            (program == Program::Kubectl && on_path("go").is_none()).then(|| on_path(program.name())).flatten()?;
        let origin = any.display().to_string();
        Some((any, origin))
    }
}

/// These programs, if each of them is on `PATH`.
fn all_on_path(programs: &[Program]) -> Option<Vec<(Program, PathBuf)>> {
    programs.iter().map(|program| on_path(program.name()).map(|path| (*program, path))).collect()
}

/// The path of a program in the cache: `<cache>/kubernetes-v1.37.2/kube-apiserver`.
fn cached(cache: &Path, program: Program) -> PathBuf {
    let product = program.product();
    cache.join(format!("{}-{}", product.name(), product.version())).join(program.name())
}

/// The folder of programs that are built once: `MAIL_FAILOVER_CACHE`, else
/// `~/.cache/mail-failover-operator`.
///
/// # Errors
/// When neither the variable nor a home directory is set.
pub fn cache_folder() -> Result<PathBuf> {
    if let Some(folder) = environment::path("MAIL_FAILOVER_CACHE") {
        return std::path::absolute(folder).context("MAIL_FAILOVER_CACHE");
    }
    let home =
        env::home_dir().context("no home directory: set MAIL_FAILOVER_CACHE to the folder for built programs")?;
    Ok(home.join(".cache").join("mail-failover-operator"))
}

/// The path of a program as a shell would find it, or in the folders that an ordinary user's `PATH`
/// may lack.
pub fn on_path(name: &str) -> Option<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    let system = ["/usr/sbin", "/sbin"].map(PathBuf::from);
    env::split_paths(&path).chain(system).map(|folder| folder.join(name)).find(|path| path.is_file())
}

/// `PATH` with these folders before it, and after it the folders that an ordinary user's may lack.
pub(crate) fn search_path(first: &[&Path]) -> OsString {
    let path = env::var_os("PATH").unwrap_or_default();
    let folders = first.iter().map(|folder| folder.to_path_buf()).chain(env::split_paths(&path));
    let all = folders.chain(["/usr/sbin", "/sbin"].map(PathBuf::from));
    // Fails for a folder with a colon in its name, which no PATH can hold.
    env::join_paths(all).unwrap_or(path)
}

/// Builds programs into the cache folder, one after another; each can be used as soon as it is
/// there.
fn build(programs: &[Program], cache: &Path) -> Result<Vec<(Program, PathBuf)>> {
    if programs.is_empty() {
        return Ok(Vec::new());
    }
    let names = programs.iter().map(|program| program.name()).collect::<Vec<_>>().join(", ");
    let Some(go) = on_path("go") else {
        bail!(
            "{names} must be built, and Go is not installed. Install Go (https://go.dev/dl), or set KUBEBUILDER_ASSETS to a \
             folder with kube-apiserver and etcd, or put both on PATH, or set E2E_KUBECONFIG to use a cluster you have"
        );
    };
    fs::create_dir_all(cache).with_context(|| format!("cannot make the cache folder {}", cache.display()))?;
    let _lock = lock(&cache.join("build.lock"))?;
    let started = Instant::now();
    let mut built = Vec::new();
    for (index, program) in programs.iter().enumerate() {
        let target = cached(cache, *program);
        // Another suite may have built it while this one waited for the lock.
        if !target.is_file() {
            let which =
                format!("[{}/{}] {} {}", index + 1, programs.len(), program.name(), program.product().version());
            eprintln!("{which}: building with Go, once; the first may take minutes");
            build_one(&go, *program, &target, &which, started)?;
        }
        built.push((*program, target));
    }
    Ok(built)
}

/// Locks the cache, so that only one suite builds at a time.
pub(crate) fn lock(path: &Path) -> Result<File> {
    let file = File::create(path).with_context(|| format!("cannot write {}", path.display()))?;
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => {
            eprintln!("another suite builds programs or images; waiting for it ({})", path.display());
            file.lock().with_context(|| format!("cannot lock {}", path.display()))?;
        }
        Err(TryLockError::Error(error)) => {
            return Err(error).with_context(|| format!("cannot lock {}", path.display()));
        }
    }
    Ok(file)
}

fn build_one(go: &Path, program: Program, target: &Path, which: &str, started: Instant) -> Result<()> {
    let folder = target.parent().context("a program's path has a parent")?;
    fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
    let unfinished = folder.join(format!(".{}.unfinished", program.name()));
    let log = folder.join(format!("{}.build.log", program.name()));
    let output = File::create(&log).with_context(|| format!("cannot write {}", log.display()))?;
    let mut child = Command::new(go)
        .args(["build", "-trimpath", "-buildvcs=false", "-tags", program.product().build_tags()])
        .args(["-ldflags", &program.product().linker_flags(), "-o"])
        .arg(&unfinished)
        .arg(program.package())
        .current_dir(program.product().folder())
        .env("CGO_ENABLED", "0")
        .env("GOWORK", "off")
        .stdin(Stdio::null())
        .stdout(output.try_clone()?)
        .stderr(output)
        .spawn()
        .with_context(|| format!("cannot start {}", go.display()))?;
    let mut said = Instant::now();
    let status = loop {
        if let Some(status) = child.try_wait()? {
            break status;
        }
        if said.elapsed() >= PROGRESS {
            said = Instant::now();
            eprintln!("{which}: {} s so far", started.elapsed().as_secs());
        }
        sleep(Duration::from_millis(100));
    };
    if !status.success() {
        bail!("{which}: go build failed ({status}):\n{}\nThe whole log: {}", tail(&log, 20), log.display());
    }
    fs::rename(&unfinished, target).with_context(|| format!("cannot move {which} to {}", target.display()))?;
    // The log of a successful build is of no use.
    let _ = fs::remove_file(&log);
    eprintln!("{which}: ready after {} s", started.elapsed().as_secs());
    Ok(())
}
