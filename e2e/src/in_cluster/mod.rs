//! Mail through a cluster, as users have it: the operator installed by Helm, and a tenant with an application, Postfix and two providers.
//!
//! For suites and benches whose trials run pods. It decides nothing about what is to be shown.

pub mod images;
pub mod installation;
pub mod shop;
