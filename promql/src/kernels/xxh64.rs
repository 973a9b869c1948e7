//! XXH64, the hash by which Prometheus samples series in `limit_ratio`: the same series are chosen here.
//!
//! # Source
//! <https://github.com/Cyan4973/xxHash/blob/dev/doc/xxhash_spec.md>, seed 0.

const P1: u64 = 0x9E37_79B1_85EB_CA87;
const P2: u64 = 0xC2B2_AE3D_27D4_EB4F;
const P3: u64 = 0x1656_67B1_9E37_79F9;
const P4: u64 = 0x85EB_CA77_C2B2_AE63;
const P5: u64 = 0x27D4_EB2F_1656_67C5;

fn round(acc: u64, lane: u64) -> u64 {
    acc.wrapping_add(lane.wrapping_mul(P2)).rotate_left(31).wrapping_mul(P1)
}

fn merge(acc: u64, lane: u64) -> u64 {
    (acc ^ round(0, lane)).wrapping_mul(P1).wrapping_add(P4)
}

fn little_endian(bytes: &[u8]) -> u64 {
    bytes.iter().rev().fold(0, |n, b| n << 8 | u64::from(*b))
}

/// The hash of `data`.
pub(crate) fn hash(data: &[u8]) -> u64 {
    let stripes = data.chunks_exact(32);
    let rest = stripes.remainder();
    let mut h = if data.len() < 32 {
        P5
    } else {
        let mut lanes = [P1.wrapping_add(P2), P2, 0, 0u64.wrapping_sub(P1)];
        for stripe in stripes {
            for (lane, bytes) in lanes.iter_mut().zip(stripe.chunks_exact(8)) {
                *lane = round(*lane, little_endian(bytes));
            }
        }
        let rotated = [1, 7, 12, 18].iter().zip(lanes).map(|(r, lane)| lane.rotate_left(*r));
        let sum = rotated.fold(0u64, u64::wrapping_add);
        lanes.into_iter().fold(sum, merge)
    };
    h = h.wrapping_add(data.len() as u64);
    let words = rest.chunks_exact(8);
    let mut tail = words.remainder();
    for word in words {
        h = (h ^ round(0, little_endian(word))).rotate_left(27).wrapping_mul(P1).wrapping_add(P4);
    }
    if tail.len() >= 4 {
        h = (h ^ little_endian(&tail[..4]).wrapping_mul(P1)).rotate_left(23).wrapping_mul(P2).wrapping_add(P3);
        tail = &tail[4..];
    }
    for byte in tail {
        h = (h ^ u64::from(*byte).wrapping_mul(P5)).rotate_left(11).wrapping_mul(P1);
    }
    h = (h ^ (h >> 33)).wrapping_mul(P2);
    h = (h ^ (h >> 29)).wrapping_mul(P3);
    h ^ (h >> 32)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, want: u64) {
        assert_eq!(hash(text.as_bytes()), want, "{text:?}");
    }

    #[test]
    fn hashes_are_those_of_the_specification() {
        check("", 0xef46_db37_51d8_e999);
        check("a", 0xd24e_c4f1_a98c_6e5b);
        check("abc", 0x44bc_2cf5_ad77_0999);
        check("The quick brown fox jumps over the lazy dog", 0x0b24_2d36_1fda_71bc);
    }
}
