//! Bounds of the engine's memory for a backend, as in `docs/benchmarks.md`. The test is alone in
//! its program, since the allocator counts all of it.

#[expect(dead_code, reason = "nothing is decided here")]
#[path = "../benches/engine/scale.rs"]
mod scale;

use peak_alloc::PeakAlloc;
use scale::{KINDS, ScaleFixture};

#[global_allocator]
static ALLOCATOR: PeakAlloc = PeakAlloc;

const SIZE: usize = 100;

#[test]
fn a_backend_takes_bounded_memory_however_much_is_observed() {
    for kind in KINDS {
        let mut scale = ScaleFixture::of(SIZE, kind);
        for round in 0..500 {
            scale.pass_round();
            for number in 0..SIZE {
                // Turns now and then, so that every message is replaced many times.
                scale.observe(number, (round + number) % 40 < 30);
            }
        }
        let before = ALLOCATOR.current_usage();
        drop(std::mem::take(&mut scale.evidence));
        let bytes = (before - ALLOCATOR.current_usage()) / SIZE;
        println!("{}: {bytes} bytes", kind.name);
        assert!(bytes > 200, "{}: {bytes} is too little to be true", kind.name);
        assert!(bytes <= kind.at_most, "{}: {bytes} of {}", kind.name, kind.at_most);
    }
}
