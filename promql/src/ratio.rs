//! The place of a label set between 0 and 1 by which `limit_ratio` samples, the same in every evaluator.
//!
//! # Source
//! Prometheus hashes its in-memory form of a label set (length and text of each name and value) with xxHash64 and
//! divides by 2^64 − 1; so the same series are picked here as there.

use promontory_model::Labels;

const PRIMES: [u64; 5] =
    [0x9e37_79b1_85eb_ca87, 0xc2b2_ae3d_27d4_eb4f, 0x1656_67b1_9e37_79f9, 0x85eb_ca77_c2b2_ae63, 0x27d4_eb2f_1656_67c5];

/// Between 0 and 1, spread evenly over label sets.
#[must_use]
pub fn ratio_offset(labels: &Labels) -> f64 {
    let mut bytes = Vec::with_capacity(labels.heap_bytes());
    for (name, value) in labels {
        for text in [name, value] {
            if text.len() < 255 {
                bytes.push(text.len() as u8);
            } else {
                let length = text.len() as u32;
                bytes.push(255);
                bytes.extend_from_slice(&length.to_le_bytes()[..3]);
            }
            bytes.extend_from_slice(text.as_bytes());
        }
    }
    xxhash64(&bytes) as f64 / u64::MAX as f64
}

fn round(lane: u64, input: u64) -> u64 {
    lane.wrapping_add(input.wrapping_mul(PRIMES[1])).rotate_left(31).wrapping_mul(PRIMES[0])
}

fn word(bytes: &[u8]) -> u64 {
    let mut word = [0; 8];
    word[..bytes.len()].copy_from_slice(bytes);
    u64::from_le_bytes(word)
}

/// xxHash64 with seed 0.
fn xxhash64(bytes: &[u8]) -> u64 {
    let mut chunks = bytes.chunks_exact(32);
    let mut hash = if bytes.len() >= 32 {
        let mut lanes = [PRIMES[0].wrapping_add(PRIMES[1]), PRIMES[1], 0, 0u64.wrapping_sub(PRIMES[0])];
        for chunk in &mut chunks {
            for (lane, input) in lanes.iter_mut().zip(chunk.chunks_exact(8)) {
                *lane = round(*lane, word(input));
            }
        }
        let rotated = lanes.iter().zip([1, 7, 12, 18]).map(|(l, by)| l.rotate_left(by));
        let mut hash = rotated.fold(0u64, u64::wrapping_add);
        for lane in lanes {
            hash = (hash ^ round(0, lane)).wrapping_mul(PRIMES[0]).wrapping_add(PRIMES[3]);
        }
        hash
    } else {
        PRIMES[4]
    };
    hash = hash.wrapping_add(bytes.len() as u64);
    let mut rest = chunks.remainder();
    while rest.len() >= 8 {
        let (head, tail) = rest.split_at(8);
        hash = (hash ^ round(0, word(head))).rotate_left(27).wrapping_mul(PRIMES[0]).wrapping_add(PRIMES[3]);
        rest = tail;
    }
    if rest.len() >= 4 {
        let (head, tail) = rest.split_at(4);
        hash = (hash ^ word(head).wrapping_mul(PRIMES[0])).rotate_left(23).wrapping_mul(PRIMES[1]);
        hash = hash.wrapping_add(PRIMES[2]);
        rest = tail;
    }
    for byte in rest {
        hash = (hash ^ u64::from(*byte).wrapping_mul(PRIMES[4])).rotate_left(11).wrapping_mul(PRIMES[0]);
    }
    hash = (hash ^ (hash >> 33)).wrapping_mul(PRIMES[1]);
    hash = (hash ^ (hash >> 29)).wrapping_mul(PRIMES[2]);
    hash ^ (hash >> 32)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hash_has_the_published_values() {
        assert_eq!(xxhash64(b""), 0xef46_db37_51d8_e999);
        assert_eq!(xxhash64(b"a"), 0xd24e_c4f1_a98c_6e5b);
        assert_eq!(xxhash64(b"Nobody inspects the spammish repetition"), 0xfbce_a83c_8a37_8bf1);
    }

    #[test]
    fn offsets_are_spread_evenly() {
        let below = (0..1000).filter(|i| ratio_offset(&Labels::from_pairs([("a", i.to_string())])) < 0.25).count();
        assert!((200..300).contains(&below), "{below} of 1000 lie below 0.25");
    }
}
