//! Mail through a cluster, as users have it: the operator installed by Helm, and a tenant with an
//! application, Postfix and two providers.
//!
//! It serves suites and benches whose trials run pods, and checks nothing itself.

pub mod images;
pub mod installation;
pub mod shop;
