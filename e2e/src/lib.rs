//! A real control plane, fault-injecting SMTP servers, and what the suites, the demo and the benches share.

pub mod agent;
pub mod apply;
pub mod bench;
pub mod clients;
pub mod command;
pub mod control_plane;
pub mod environment;
pub mod eventually;
pub mod gateway;
pub mod haproxy;
pub mod helm;
pub mod mail;
pub mod mta;
pub mod node;
pub mod operator;
pub mod postfix;
pub mod process;
pub mod scene;
pub mod scrape;
pub mod service_account;
pub mod stage;
pub mod standalone;
pub mod story;
pub mod strace;
pub mod suite;
pub mod views;
