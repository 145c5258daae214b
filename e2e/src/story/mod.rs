//! How the demos tell what happened: colours where they can be seen, and one timeline for what was seen and what was written down.

mod ink;
mod timeline;

pub use ink::{Ink, fold};
pub use timeline::{Clock, Timeline, between};
