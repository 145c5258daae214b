/// Seeded source of chance that can be asked out of order: the same question always has the same answer, so that
/// skipped rounds need no draw.
// Each draw is the first of a `fastrand` generator (wyrand) that is seeded with the question.
#[derive(Clone, Copy, Debug)]
pub(super) struct Draw(u64);

impl Draw {
    pub(super) fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// Derives an independent source for something.
    pub(super) fn of(self, what: u64) -> Self {
        Self(fastrand::Rng::with_seed(self.0.wrapping_add(what.wrapping_mul(0x9E37_79B9_7F4A_7C15))).u64(..))
    }

    /// Returns a number from 0 up to, but without, 1.
    pub(super) fn fraction(self, question: u64) -> f64 {
        fastrand::Rng::with_seed(self.0.wrapping_add(question)).f64()
    }
}
