//! Hash that is the same in every release: for values on disk, and for processes that must agree.
//!
//! FNV-1a with an end mark after each part, and the finalizer of splitmix64. The standard library's hasher promises no
//! stability.

const OFFSET: u64 = 0xcbf2_9ce4_8422_2325;
const PRIME: u64 = 0x0100_0000_01b3;
const END_OF_PART: u8 = 0xff;

/// Hash of a sequence of parts.
#[derive(Clone, Copy, Debug)]
pub struct StableHash(u64);

impl Default for StableHash {
    fn default() -> Self {
        Self(OFFSET)
    }
}

impl StableHash {
    /// Adds a part. UTF-8 holds no end mark, so parts of text cannot run together.
    #[must_use]
    pub fn part(self, bytes: &[u8]) -> Self {
        bytes.iter().fold(self, |hash, byte| hash.byte(*byte)).byte(END_OF_PART)
    }

    /// Adds a text that may be absent, which differs from an empty one.
    #[must_use]
    pub fn optional(self, text: Option<&str>) -> Self {
        match text {
            Some(text) => self.part(b"some").part(text.as_bytes()),
            None => self.part(b"none"),
        }
    }

    /// Returns the hash.
    pub fn finish(self) -> u64 {
        // FNV alone leaves the upper bits of short keys alike.
        let Self(hash) = self;
        let hash = (hash ^ (hash >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let hash = (hash ^ (hash >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        hash ^ (hash >> 31)
    }

    fn byte(self, byte: u8) -> Self {
        Self((self.0 ^ u64::from(byte)).wrapping_mul(PRIME))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_on_disk_stay_valid() {
        assert_eq!(StableHash::default().part(b"a").part(b"user@example.net").finish(), 0x0e21_3daf_9ea9_2357);
    }

    #[test]
    fn parts_do_not_run_together() {
        let hash = StableHash::default();
        assert_ne!(hash.part(b"ab").part(b"c").finish(), hash.part(b"a").part(b"bc").finish());
        assert_ne!(hash.optional(None).finish(), hash.optional(Some("")).finish());
    }
}
