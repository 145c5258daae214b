//! What the decision engine is worth and what it costs, without a control plane: false alarms, beside HAProxy's rule; time per evidence and
//! decision. `BENCH_QUICK=1` simulates a hundredth.

mod alarms;

fn main() {
    alarms::print(1);
}
