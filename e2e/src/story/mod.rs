//! Output of the demos: colours where they can be seen, and one timeline for observations and the
//! times in `status`.

mod ink;
mod timeline;

pub use ink::{Ink, fold};
pub use timeline::{Clock, Timeline, between};
