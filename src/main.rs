//! The `mail-failover` binary.

fn main() {}
