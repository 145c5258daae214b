//! The images of the suite's pods.

use crate::node::images::{POSTFIX, POSTFIX_AGENT, Recipe, add_program, digest_of_program, postfix, postfix_agent};
use crate::operator::beside_us;

/// A user's own image, based on that of the example.
pub const SHOP_POSTFIX: &str = "localhost/shop-postfix:1";
const SHOP_DOCKERFILE: &str = "ARG BASE\nFROM ${BASE}\nRUN postconf -e 'mynetworks = 127.0.0.0/8 10.244.0.0/16'\n";
/// The name of the image of the provider and the application: [`smtp`].
pub const SMTP: &str = "localhost/smtp:1";

/// The image of a Postfix that takes mail from pods.
pub fn shop_postfix() -> Recipe {
    Recipe {
        name: SHOP_POSTFIX,
        bases: &[postfix_agent],
        key: || Ok(SHOP_DOCKERFILE.to_owned()),
        assemble: |folder| Ok(std::fs::write(folder.join("Dockerfile"), SHOP_DOCKERFILE)?),
        arguments: &[("BASE", POSTFIX_AGENT)],
    }
}

/// The provider and the application: the program `smtp`, which cargo builds along with every test and bench of this
/// package.
pub fn smtp() -> Recipe {
    Recipe {
        name: SMTP,
        bases: &[postfix],
        key: || digest_of_program("smtp"),
        assemble: |folder| {
            add_program(&beside_us("smtp")?, &folder.join("smtp"))?;
            let text = format!("FROM {POSTFIX}\nCOPY smtp /usr/local/bin/smtp\nENTRYPOINT [\"/usr/local/bin/smtp\"]\n");
            Ok(std::fs::write(folder.join("Dockerfile"), text)?)
        },
        arguments: &[],
    }
}
