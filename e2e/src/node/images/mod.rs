//! Container images without a container engine: built by buildah from a Dockerfile, as root, and
//! kept as archives in the cache folder.
//!
//! They are built outside of the namespaces, since a Dockerfile may fetch packages.

mod recipes;
mod store;

use std::fmt::Write as _;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

use anyhow::{Context, Result, bail};
use ring::digest::{Context as Digest, SHA256};

use self::store::{KEY, Store};
use crate::control_plane::binaries::{cache_folder, lock};
use crate::process::tail;

pub use self::recipes::{OPERATOR, POSTFIX, POSTFIX_AGENT, POSTFIX_AGENT_OPTIONS, PROFILE, PYTHON, TOOLBOX};
pub use self::recipes::{add_program, coredns, digest_of_program, operator, postfix, postfix_agent, python, toolbox};

/// The recipe of an image.
#[derive(Clone, Copy, Debug)]
pub struct Recipe {
    /// The reference that pods use, with a tag: `localhost/toolbox:1`. They must not pull it:
    /// `imagePullPolicy: Never` or `IfNotPresent`.
    pub name: &'static str,
    /// Images that its Dockerfile refers to in `FROM`.
    pub bases: &'static [fn() -> Recipe],
    /// A text that changes when the image must be built anew. [`digest`] makes one of files.
    pub key: fn() -> Result<String>,
    /// Writes the Dockerfile and everything that it copies into this folder, which is empty.
    pub assemble: fn(&Path) -> Result<()>,
    /// Values of `ARG`s in the Dockerfile.
    pub arguments: &'static [(&'static str, &'static str)],
}

/// An image that has been built.
#[derive(Clone, Debug)]
pub struct Image {
    /// The reference that pods use.
    pub name: &'static str,
    /// An archive in the format of `docker save`.
    pub archive: PathBuf,
}

/// Builds an image and its bases, unless the cache holds it.
///
/// # Errors
/// When it cannot be assembled or built; the end of what buildah said is in the message.
pub fn build(recipe: &Recipe) -> Result<Image> {
    let folder = cache_folder()?.join("images");
    fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
    let image = Image { name: recipe.name, archive: folder.join(archive_name(recipe.name, &whole_key(recipe)?)) };
    if !image.archive.is_file() {
        let _lock = lock(&folder.join("build.lock"))?;
        // Another suite may have built it while this one waited.
        if !image.archive.is_file() {
            build_with_bases(recipe, &folder, &image.archive).with_context(|| format!("the image {}", recipe.name))?;
        }
    }
    Ok(image)
}

/// The variable with the command that loads images into a cluster that exists already. The path of
/// an archive is appended.
pub const LOADER: &str = "E2E_LOAD_IMAGE";

/// The command in `E2E_LOAD_IMAGE`, if it is set.
pub fn loader() -> Option<String> {
    std::env::var(LOADER).ok().filter(|command| !command.trim().is_empty())
}

/// Loads an image into a cluster that exists already.
///
/// # Errors
/// When the command fails.
pub fn load_with(loader: &str, image: &Image) -> Result<()> {
    let mut words = loader.split_whitespace();
    let program = words.next().with_context(|| format!("{LOADER} is empty"))?;
    eprintln!("{loader} {}", image.archive.display());
    let status = Command::new(program)
        .args(words)
        .arg(&image.archive)
        .stdin(Stdio::null())
        .status()
        .with_context(|| format!("{LOADER}={loader}: cannot start {program}"))?;
    if !status.success() {
        bail!("{LOADER}={loader}: {status} for {}", image.archive.display());
    }
    Ok(())
}

/// The SHA-256 of files with their paths; of a folder, that of all its files.
///
/// # Errors
/// When one cannot be read.
pub fn digest(paths: &[&Path]) -> Result<String> {
    digest_of(Path::new(""), paths.iter().map(|path| path.to_path_buf()))
}

/// The SHA-256 of files below a folder that may be anywhere: their paths inside it count.
///
/// # Errors
/// When one cannot be read.
pub fn digest_below(folder: &Path, paths: &[&str]) -> Result<String> {
    digest_of(folder, paths.iter().map(|path| folder.join(path)))
}

fn digest_of(folder: &Path, paths: impl DoubleEndedIterator<Item = PathBuf>) -> Result<String> {
    let mut digest = Digest::new(&SHA256);
    let mut waiting: Vec<PathBuf> = paths.rev().collect();
    while let Some(path) = waiting.pop() {
        digest.update(path.strip_prefix(folder).unwrap_or(&path).as_os_str().as_encoded_bytes());
        digest.update(&[0]);
        if path.is_dir() {
            let mut inside = fs::read_dir(&path)?.map(|entry| Ok(entry?.path())).collect::<Result<Vec<_>>>()?;
            inside.sort_unstable_by(|one, other| other.cmp(one));
            waiting.extend(inside);
        } else {
            digest.update(&fs::read(&path).with_context(|| format!("cannot read {}", path.display()))?);
        }
    }
    Ok(hexadecimal(digest))
}

fn hexadecimal(digest: Digest) -> String {
    digest.finish().as_ref().iter().fold(String::new(), |mut text, byte| {
        // Writing to a String cannot fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// The key of the recipe and of all its bases.
fn whole_key(recipe: &Recipe) -> Result<String> {
    let mut digest = Digest::new(&SHA256);
    digest.update((recipe.key)().with_context(|| format!("the image {}", recipe.name))?.as_bytes());
    for (name, value) in recipe.arguments {
        digest.update(format!("\0{name}={value}").as_bytes());
    }
    for base in recipe.bases {
        digest.update(whole_key(&base())?.as_bytes());
    }
    Ok(hexadecimal(digest))
}

/// The name of an archive: `localhost-toolbox-1` and the beginning of the key.
fn archive_name(name: &str, key: &str) -> String {
    format!("{}-{}.tar", file_name(name), &key[..key.len().min(16)])
}

fn file_name(name: &str) -> String {
    name.replace(['/', ':'], "-")
}

fn build_with_bases(recipe: &Recipe, folder: &Path, archive: &Path) -> Result<()> {
    let store = Store { folder: folder.join("buildah") };
    for base in recipe.bases {
        let base = base();
        let key = whole_key(&base)?;
        if store.label(base.name, KEY).as_deref() != Some(&key) {
            let archive = folder.join(archive_name(base.name, &key));
            build_with_bases(&base, folder, &archive)?;
        }
    }
    let begun = Instant::now();
    eprintln!("image {}: building", recipe.name);
    let context = tempfile::Builder::new().prefix("mail-failover-image-").tempdir().context("no temporary folder")?;
    (recipe.assemble)(context.path())?;
    store.build(recipe, &whole_key(recipe)?, context.path(), &folder.join("build.log"))?;
    remove_earlier(recipe.name, folder)?;
    let unfinished = archive.with_extension("unfinished");
    let _ = fs::remove_file(&unfinished);
    store.save(recipe.name, &unfinished, &folder.join("build.log"))?;
    fs::rename(&unfinished, archive).with_context(|| format!("cannot move to {}", archive.display()))?;
    eprintln!("image {}: ready after {:.1} s", recipe.name, begun.elapsed().as_secs_f64());
    Ok(())
}

/// Removes old archives of an image. Some are kept: other checkouts of this repository share the
/// folder, and may be about to load theirs.
fn remove_earlier(name: &str, folder: &Path) -> Result<()> {
    const KEPT: usize = 4;
    let mut archives = Vec::new();
    for entry in fs::read_dir(folder)?.flatten() {
        let file = entry.file_name();
        let key =
            file.to_str().and_then(|file| file.strip_prefix(&file_name(name))?.strip_prefix('-')?.strip_suffix(".tar"));
        if key.is_some_and(|key| !key.contains('-')) {
            archives.push((entry.metadata()?.modified()?, entry.path()));
        }
    }
    archives.sort_unstable_by(|one, other| other.cmp(one));
    for (_, archive) in archives.into_iter().skip(KEPT) {
        fs::remove_file(archive)?;
    }
    Ok(())
}

fn run(command: &mut Command, log: &Path) -> Result<()> {
    let program = command.get_program().display().to_string();
    let output = File::create(log).with_context(|| format!("cannot write {}", log.display()))?;
    let status = command
        .stdin(Stdio::null())
        .stdout(output.try_clone()?)
        .stderr(output)
        .status()
        .with_context(|| format!("cannot start {program}"))?;
    if !status.success() {
        bail!("{program} failed ({status}):\n{}", tail(log, 20));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_follows_what_the_image_is_made_of() {
        let folder = tempfile::tempdir().expect("a folder");
        fs::create_dir(folder.path().join("bin")).expect("made");
        fs::write(folder.path().join("bin/a"), "one").expect("written");
        let before = digest(&[folder.path()]).expect("read");
        assert_eq!(digest(&[folder.path()]).expect("read"), before);
        fs::write(folder.path().join("bin/a"), "two").expect("written");
        assert_ne!(digest(&[folder.path()]).expect("read"), before);
    }

    #[test]
    fn archives_of_an_image_are_kept_for_a_while() {
        let folder = tempfile::tempdir().expect("a folder");
        for (number, name) in ["a-1-x1", "a-1-x2", "a-1-x3", "a-1-x4", "a-1-x5", "a-1-b-y", "b-1-x1"].iter().enumerate()
        {
            let file = fs::File::create(folder.path().join(format!("localhost-{name}.tar"))).expect("made");
            let at = std::time::SystemTime::UNIX_EPOCH
                + std::time::Duration::from_secs(60 * u64::try_from(number).expect("small"));
            file.set_modified(at).expect("set");
        }
        remove_earlier("localhost/a:1", folder.path()).expect("removed");
        let entries = fs::read_dir(folder.path()).expect("read").flatten();
        let mut left: Vec<_> = entries.filter_map(|entry| entry.file_name().into_string().ok()).collect();
        left.sort();
        let expected = ["a-1-b-y", "a-1-x2", "a-1-x3", "a-1-x4", "a-1-x5", "b-1-x1"];
        assert_eq!(left, expected.map(|name| format!("localhost-{name}.tar")));
    }

    #[test]
    fn a_key_follows_no_checkouts_place() {
        let digests = ["one", "other"].map(|name| {
            let folder = tempfile::tempdir().expect("a folder");
            let checkout = folder.path().join(name);
            fs::create_dir_all(checkout.join("src")).expect("made");
            fs::write(checkout.join("src/main.rs"), "fn main() {}").expect("written");
            digest_below(&checkout, &["src"]).expect("read")
        });
        assert_eq!(digests[0], digests[1]);
    }

    #[test]
    fn a_change_of_the_base_is_a_change_of_the_image() {
        fn recipe(bases: &'static [fn() -> Recipe]) -> Recipe {
            Recipe { name: "localhost/a:1", bases, key: || Ok("a".into()), assemble: |_| Ok(()), arguments: &[] }
        }
        fn base() -> Recipe {
            Recipe { name: "localhost/b:1", ..recipe(&[]) }
        }
        fn other() -> Recipe {
            Recipe { key: || Ok("b".into()), ..base() }
        }
        let keys = [recipe(&[]), recipe(&[base]), recipe(&[other]), Recipe { arguments: &[("A", "1")], ..recipe(&[]) }]
            .map(|recipe| whole_key(&recipe).expect("a key"));
        let different: std::collections::BTreeSet<_> = keys.iter().collect();
        assert_eq!(different.len(), keys.len(), "{keys:?}");
        assert_eq!(archive_name("localhost/a:1", "0123456789abcdef0"), "localhost-a-1-0123456789abcdef.tar");
    }
}
