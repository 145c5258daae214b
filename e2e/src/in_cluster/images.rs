//! The images of the suite's pods.

use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, ensure};

use crate::node::images::{POSTFIX, POSTFIX_AGENT, Recipe, digest, postfix, postfix_agent};
use crate::operator::beside_us;

/// A user's own, on top of it.
pub const SHOP_POSTFIX: &str = "localhost/shop-postfix:1";
const SHOP_DOCKERFILE: &str = "ARG BASE\nFROM ${BASE}\nRUN postconf -e 'mynetworks = 127.0.0.0/8 10.244.0.0/16'\n";
/// The name of the image of the provider and the application: [`smtp`].
pub const SMTP: &str = "localhost/smtp:1";

/// Takes mail from pods.
pub fn shop_postfix() -> Recipe {
    Recipe {
        name: SHOP_POSTFIX,
        bases: &[postfix_agent],
        key: || Ok(SHOP_DOCKERFILE.to_owned()),
        assemble: |folder| Ok(std::fs::write(folder.join("Dockerfile"), SHOP_DOCKERFILE)?),
        arguments: &[("BASE", POSTFIX_AGENT)],
    }
}

/// The provider and the application: the program `smtp`, which cargo builds along with every test and bench of this package.
pub fn smtp() -> Recipe {
    Recipe {
        name: SMTP,
        bases: &[postfix],
        key: || digest(&[&beside_us("smtp")?]),
        assemble: |folder| {
            add_program(&beside_us("smtp")?, &folder.join("smtp"))?;
            let text = format!("FROM {POSTFIX}\nCOPY smtp /usr/local/bin/smtp\nENTRYPOINT [\"/usr/local/bin/smtp\"]\n");
            Ok(std::fs::write(folder.join("Dockerfile"), text)?)
        },
        arguments: &[],
    }
}

/// Without what only debuggers read, which is most of it.
fn add_program(program: &Path, to: &Path) -> Result<()> {
    let status = Command::new("strip").arg("--strip-all").arg("-o").arg(to).arg(program).status();
    ensure!(status.context("cannot start strip")?.success(), "strip {} failed", program.display());
    Ok(())
}
