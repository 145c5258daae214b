//! Value and cost of the decision engine, without a control plane: false alarms, beside HAProxy's
//! rule; time per result of a probe and per decision. `BENCH_QUICK=1` simulates and measures a
//! hundredth.

mod alarms;
mod cost;
#[expect(dead_code, reason = "memory is measured by another program, whose allocator counts")]
mod scale;

use std::env;
use std::fs;
use std::thread::available_parallelism;

fn main() {
    // `cargo test --all-targets` runs the programs of benches as well; nothing is measured then.
    if !env::args().any(|argument| argument == "--bench") {
        println!("the bench of the engine measures nothing: it is for `cargo bench`");
        return;
    }
    let is_quick = env::var_os("BENCH_QUICK").is_some_and(|value| !value.is_empty() && value != "0");
    let divisor = if is_quick { 100 } else { 1 };
    let cores = available_parallelism().map_or(0, std::num::NonZero::get);
    let load = || fs::read_to_string("/proc/loadavg").unwrap_or_default();
    let profile = if cfg!(debug_assertions) { "debug build" } else { "release build" };
    println!("{cores} cores, {profile}; load {}", load().trim());
    cost::print(divisor);
    alarms::print(divisor);
    println!("load {}", load().trim());
}
