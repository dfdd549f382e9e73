//! Random draws as a function of where they are used.
//!
//! Every random number in the project comes from [`stream`]: a ChaCha8 generator whose 256-bit key is
//! `(seed, purpose, epoch, item)`, so that nothing depends on loader threads, on the order of work or on where a
//! run was interrupted, and no generator state has to be saved. (Salmon et al., "Parallel random numbers: as easy as
//! 1, 2, 3", SC 2011, is the idea; ChaCha8 is used because its Rust implementation is portable and kept.)

pub use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::SeedableRng;

/// What a stream is drawn for. The numbers are part of the reproducibility contract: never reuse or renumber.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u64)]
pub enum Purpose {
    /// Order of the training rows in an epoch; item 0 shuffled, item 1 drawn with replacement.
    Shuffle = 1,
    /// Augmentation of one row in one epoch; the item is the row.
    Augment = 2,
    /// Start values of one parameter; epoch 0, the item is the parameter's [`name_key`].
    Initialise = 3,
    /// Dropout of one row in one epoch; the item is [`pair_key`] of row and layer.
    Dropout = 4,
    /// Phantom radiographs; the item is the image.
    Phantom = 5,
    /// Resampling for intervals and tests; the item is the resample.
    Bootstrap = 6,
    /// Patients of a cross-validation, item 0, or of splits, item 1; epoch 0.
    Folds = 7,
    /// Random freeze plans of a search; epoch 0, item 0.
    FreezePlans = 8,
}

/// The generator for `(seed, purpose, epoch, item)`. Two calls with the same arguments give the same numbers on every
/// machine; different arguments give independent streams.
pub fn stream(seed: u64, purpose: Purpose, epoch: u64, item: u64) -> ChaCha8Rng {
    let mut key = [0u8; 32];
    for (chunk, word) in key.chunks_exact_mut(8).zip([seed, purpose as u64, epoch, item]) {
        chunk.copy_from_slice(&word.to_le_bytes());
    }
    ChaCha8Rng::from_seed(key)
}

/// A stable 64-bit key of a name (FNV-1a, 64 bit), for items that are named rather than numbered.
pub fn name_key(name: &str) -> u64 {
    name.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3))
}

/// A key of two keys, for items such as (row, layer). Order matters.
pub fn pair_key(first: u64, second: u64) -> u64 {
    // One round of splitmix64 (Steele, Lea and Flood 2014) between the two keeps pairs apart.
    let mut z = first.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    (z ^ (z >> 31)) ^ second
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand_chacha::rand_core::Rng;

    #[test]
    fn same_key_same_numbers_and_every_part_of_the_key_counts() {
        let first = |seed, purpose, epoch, item| stream(seed, purpose, epoch, item).next_u64();
        let base = first(1, Purpose::Shuffle, 2, 3);
        assert_eq!(base, first(1, Purpose::Shuffle, 2, 3));
        for other in [
            first(0, Purpose::Shuffle, 2, 3),
            first(1, Purpose::Augment, 2, 3),
            first(1, Purpose::Shuffle, 0, 3),
            first(1, Purpose::Shuffle, 2, 0),
        ] {
            assert_ne!(base, other);
        }
    }

    #[test]
    fn keys_of_names_and_pairs() {
        // FNV-1a test vectors from the reference distribution.
        assert_eq!(name_key(""), 0xcbf2_9ce4_8422_2325);
        assert_eq!(name_key("a"), 0xaf63_dc4c_8601_ec8c);
        assert_ne!(pair_key(1, 2), pair_key(2, 1));
    }
}
