//! Output of the demos: colours where they can be seen, and one timeline for observations and the
//! times in `status`.

mod ink;
pub mod relay;
mod timeline;

pub use ink::{Ink, fold};
pub use timeline::{Clock, Timeline, between};
