//! Recipes of the images that the suites use.

use std::env;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail, ensure};

use super::{Recipe, digest, digest_below, run};
use crate::control_plane::{Binaries, Product, Program};
use crate::helm::repository;
use crate::node::packages::BUSYBOX;
use crate::operator::{beside_us, hide_package};

/// The name of the image with a shell and small tools, such as a client and a server for any port
/// (`nc`, `wget`, `httpd`, `nslookup`). It also serves as the sandbox image, which holds a pod's
/// network.
pub const TOOLBOX: &str = "localhost/toolbox:1";
/// The name of the image of Debian with Postfix, without a configuration: [`postfix`].
pub const POSTFIX: &str = "localhost/postfix:1";
/// The name of the image of Debian with Python: [`python`].
pub const PYTHON: &str = "localhost/python:3.11";
/// The name of the operator's image: [`operator`].
pub const OPERATOR: &str = "localhost/mail-failover-operator:e2e";
/// The name of the image of Postfix with the agent: [`postfix_agent`].
pub const POSTFIX_AGENT: &str = "localhost/postfix-with-mail-failover:1";

/// The variable with the profile of cargo by which a static operator is compiled for its image.
pub const PROFILE: &str = "MAIL_FAILOVER_IMAGE_PROFILE";

/// The image with a shell and small tools.
pub fn toolbox() -> Recipe {
    Recipe {
        name: TOOLBOX,
        bases: &[],
        key: || digest(&[Path::new(BUSYBOX)]),
        assemble: toolbox_folder,
        arguments: &[],
    }
}

/// The image of the cluster's name server.
pub fn coredns() -> Recipe {
    Recipe {
        name: "localhost/coredns:1",
        bases: &[],
        key: || Ok(Product::CoreDns.version().to_owned()),
        assemble: |folder| {
            let binaries = Binaries::locate(&[Program::CoreDns])?;
            fs::copy(binaries.path(Program::CoreDns)?, folder.join("coredns"))?;
            write(folder, "FROM scratch\nCOPY coredns /coredns\nUSER 65532:65532\nENTRYPOINT [\"/coredns\"]\n")
        },
        arguments: &[],
    }
}

/// Debian with Postfix, for a Dockerfile to build on. Postfix has no configuration and nothing starts it.
pub fn postfix() -> Recipe {
    Recipe {
        name: POSTFIX,
        bases: &[],
        key: || Ok(POSTFIX_PACKAGES.to_owned() + DEBIAN),
        assemble: |folder| debian_with(POSTFIX_PACKAGES, folder),
        arguments: &[],
    }
}

/// Debian with Python, in the place of a public image with that name.
pub fn python() -> Recipe {
    Recipe {
        name: PYTHON,
        bases: &[],
        key: || Ok(PYTHON_PACKAGES.to_owned() + DEBIAN),
        assemble: |folder| debian_with(PYTHON_PACKAGES, folder),
        arguments: &[],
    }
}

fn debian_with(packages: &str, folder: &Path) -> Result<()> {
    let mut command = Command::new("mmdebstrap");
    command.args(["--quiet", "--variant=minbase", &format!("--include={packages}"), DEBIAN]);
    command.arg(folder.join("root.tar"));
    run(&mut command, &folder.join("mmdebstrap.log"))?;
    write(folder, "FROM scratch\nADD root.tar /\n")
}

const DEBIAN: &str = "bookworm";
const PYTHON_PACKAGES: &str = "python3";
const POSTFIX_PACKAGES: &str = "postfix,postfix-pcre,postfix-lmdb,libsasl2-modules,ca-certificates";

/// The operator's image by the `Dockerfile` of the repository, from the present source. It contains
/// the program that cargo has built for the suites, and the few libraries that it is linked with.
///
/// The program is static, as users build it (`image/build-binary`), with a profile in
/// `MAIL_FAILOVER_IMAGE_PROFILE`, and on a machine whose C library differs from that of the Debian
/// in [`postfix`]. Users get the profile `dist`. That compiles all dependencies once more.
pub fn operator() -> Recipe {
    Recipe {
        name: OPERATOR,
        bases: &[],
        key: || match profile() {
            Some(profile) => Ok(digest_below(&repository(""), &SOURCES)? + &profile),
            None => Ok(digest_of_program("mail-failover")? + &digest_below(&repository(""), &["Dockerfile"])?),
        },
        assemble: |folder| {
            let binary = folder.join("target/image");
            let dockerfile = fs::read_to_string(repository("Dockerfile")).context("cannot read the Dockerfile")?;
            if let Some(profile) = profile() {
                compile(&profile, &binary)?;
                // buildah builds the last stage.
                return write(folder, &format!("{dockerfile}\nFROM prebuilt\n"));
            }
            fs::create_dir_all(&binary)?;
            let program = beside_us("mail-failover")?;
            add_program(&program, &binary.join("mail-failover"))?;
            copy_libraries(&program, &folder.join("libraries"))?;
            write(folder, &format!("{dockerfile}\nFROM prebuilt\nCOPY libraries /\n"))
        },
        arguments: &[],
    }
}

/// The sources of the operator's image when it is built as users build it.
const SOURCES: [&str; 7] = ["Cargo.lock", "Cargo.toml", "Dockerfile", "crates", "crds", "image", "src"];

/// The profile of cargo for a static program; `None` if the suites' own program will do.
fn profile() -> Option<String> {
    let named = env::var(PROFILE).ok().filter(|profile| !profile.is_empty());
    named.or_else(|| (!is_debian()).then(|| "dev".to_owned()))
}

/// Returns true if this machine runs the Debian of [`postfix`].
fn is_debian() -> bool {
    let release = fs::read_to_string("/etc/os-release").unwrap_or_default();
    release.lines().any(|line| line == format!("VERSION_CODENAME={DEBIAN}"))
}

/// The SHA-256 of a program that cargo has built.
///
/// # Errors
/// When it is not there.
pub fn digest_of_program(name: &str) -> Result<String> {
    let program = beside_us(name)?;
    digest_below(program.parent().context("a program lies in a folder")?, &[name])
}

/// Copies a program without the symbols for debuggers, which are most of it.
///
/// # Errors
/// When strip(1) says so.
pub fn add_program(program: &Path, to: &Path) -> Result<()> {
    let status = Command::new("strip").arg("--strip-all").arg("-o").arg(to).arg(program).status();
    ensure!(status.context("cannot start strip")?.success(), "strip {} failed", program.display());
    Ok(())
}

/// Copies the libraries that a program is linked with to the same paths below `root`.
fn copy_libraries(program: &Path, root: &Path) -> Result<()> {
    let output = Command::new("ldd").arg(program).output().context("cannot start ldd")?;
    ensure!(output.status.success(), "ldd {} failed", program.display());
    let text = String::from_utf8(output.stdout)?;
    for library in text.split_whitespace().filter(|word| word.starts_with('/')) {
        let copy = root.join(library.trim_start_matches('/'));
        fs::create_dir_all(copy.parent().context("a library lies in a folder")?)?;
        fs::copy(library, &copy).with_context(|| format!("cannot copy {library}"))?;
    }
    Ok(())
}

/// Builds the operator's binary. It takes minutes the first time, with cargo's progress on standard
/// error.
fn compile(profile: &str, folder: &Path) -> Result<()> {
    let mut command = Command::new(repository("image/build-binary"));
    hide_package(&mut command);
    let status = command
        .arg(folder)
        .env("PROFILE", profile)
        // Half of the binary would be of no use in a container.
        .env("CARGO_PROFILE_DEV_DEBUG", "false")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .status()
        .context("cannot start image/build-binary")?;
    if !status.success() {
        bail!("image/build-binary failed ({status})");
    }
    Ok(())
}

/// Options of its `agent postfix-config`: backends are near, and the suites' providers take logins
/// without TLS.
pub const POSTFIX_AGENT_OPTIONS: &str = "--timeouts lan --plaintext-logins";

/// The image of Postfix with the agent as its entry point: `examples/postfix-agent/Dockerfile`.
pub fn postfix_agent() -> Recipe {
    Recipe {
        name: POSTFIX_AGENT,
        bases: &[postfix, operator],
        key: || digest_below(&repository(""), &["examples/postfix-agent/Dockerfile"]),
        assemble: |folder| {
            let dockerfile = repository("examples/postfix-agent/Dockerfile");
            fs::copy(dockerfile, folder.join("Dockerfile")).context("cannot copy the Dockerfile")?;
            Ok(())
        },
        arguments: &[("BASE", POSTFIX), ("OPERATOR", OPERATOR), ("OPTIONS", POSTFIX_AGENT_OPTIONS)],
    }
}

fn toolbox_folder(folder: &Path) -> Result<()> {
    let tools = folder.join("bin");
    fs::create_dir_all(&tools)?;
    fs::copy(BUSYBOX, tools.join("busybox")).with_context(|| format!("cannot copy {BUSYBOX}"))?;
    let output = Command::new(BUSYBOX).arg("--list").output()?;
    for tool in String::from_utf8(output.stdout)?.lines().filter(|tool| *tool != "busybox") {
        symlink("busybox", tools.join(tool))?;
    }
    write(
        folder,
        "FROM scratch\nCOPY bin /bin\nENV PATH=/bin\nUSER 65532:65532\nENTRYPOINT [\"/bin/sleep\", \"2147483647\"]\n",
    )
}

fn write(folder: &Path, dockerfile: &str) -> Result<()> {
    fs::write(folder.join("Dockerfile"), dockerfile).context("cannot write a Dockerfile")
}
