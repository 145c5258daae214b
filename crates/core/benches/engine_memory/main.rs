//! Memory that the decision engine keeps for each backend, counted by an allocator.

#[expect(dead_code, reason = "time is measured by another program, whose allocator does not count")]
#[path = "../engine/scale.rs"]
mod scale;

use std::env;
use std::hint::black_box;

use peak_alloc::PeakAlloc;
use scale::{KINDS, SIZES, ScaleFixture, travelled_memory};

#[global_allocator]
static ALLOCATOR: PeakAlloc = PeakAlloc;

fn main() {
    if !env::args().any(|argument| argument == "--bench") {
        println!("the bench of the engine's memory measures nothing: it is for `cargo bench`");
        return;
    }
    println!(
        "\nMemory of the engine, in bytes on the heap for each backend; what a policy, its probes and routes are made of is not in it\n"
    );
    let [few, more, many] = SIZES;
    println!("{:<26} {few:>8} {more:>8} {many:>8} {:>6} {:>8} {:>4}", "BACKENDS", "RATIO", "AT MOST", "MET");
    for kind in KINDS {
        let bytes = SIZES.map(|size| {
            let mut scale = ScaleFixture::of(size, kind);
            let before = ALLOCATOR.current_usage();
            drop(black_box(std::mem::take(&mut scale.evidence)));
            before.saturating_sub(ALLOCATOR.current_usage()) / size
        });
        let [few, more, many] = bytes;
        let met = if bytes.iter().all(|bytes| *bytes <= kind.at_most) { "yes" } else { "NO" };
        #[expect(clippy::cast_precision_loss, reason = "a few thousand")]
        let ratio = many as f64 / few as f64;
        println!("{:<26} {few:>8} {more:>8} {many:>8} {ratio:>6.2} {:>8} {met:>4}", kind.name, kind.at_most);
    }
    let scale = ScaleFixture::of(3, KINDS[0]);
    let before = ALLOCATOR.current_usage();
    let memory = black_box(travelled_memory(&scale, 0));
    println!("\na route that has moved {} times: {}", memory.history.len(), ALLOCATOR.current_usage() - before);
}
