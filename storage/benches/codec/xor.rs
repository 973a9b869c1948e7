//! What the column codec is compared with: XOR of neighbours as in Prometheus' chunks, values only, in chunks of 120.
//!
//! # Source
//! Pelkonen et al., "Gorilla", VLDB 2015; Prometheus `tsdb/chunkenc/xor.go`.

const CHUNK: usize = 120;

#[derive(Default)]
struct BitWriter {
    out: Vec<u8>,
    free: u32,
}

impl BitWriter {
    fn put(&mut self, v: u64, mut bits: u32) {
        while bits > 0 {
            if self.free == 0 {
                self.out.push(0);
                self.free = 8;
            }
            let n = bits.min(self.free);
            let part = (v >> (bits - n)) as u8 & (0xff >> (8 - n));
            *self.out.last_mut().expect("pushed above") |= part << (self.free - n);
            self.free -= n;
            bits -= n;
        }
    }
}

pub fn encode(values: &[f64]) -> Vec<u8> {
    let mut w = BitWriter::default();
    for chunk in values.chunks(CHUNK) {
        w.free = 0;
        w.put(chunk[0].to_bits(), 64);
        let (mut leading, mut trailing) = (u32::MAX, 0);
        for pair in chunk.windows(2) {
            let xor = pair[0].to_bits() ^ pair[1].to_bits();
            if xor == 0 {
                w.put(0, 1);
                continue;
            }
            let (l, t) = (xor.leading_zeros().min(31), xor.trailing_zeros());
            if leading != u32::MAX && l >= leading && t >= trailing {
                w.put(0b10, 2);
                w.put(xor >> trailing, 64 - leading - trailing);
            } else {
                (leading, trailing) = (l, t);
                w.put(0b11, 2);
                w.put(u64::from(l), 5);
                w.put(u64::from(64 - l - t) & 63, 6);
                w.put(xor >> t, 64 - l - t);
            }
        }
    }
    // So that the reader may load nine bytes anywhere.
    w.out.extend_from_slice(&[0; 9]);
    w.out
}

/// Bytes that [`encode`] adds for its reader.
pub const PADDING: usize = 9;

struct BitReader<'a> {
    bytes: &'a [u8],
    bit: usize,
}

impl BitReader<'_> {
    fn get(&mut self, bits: u32) -> u64 {
        let (byte, shift) = (self.bit / 8, (self.bit % 8) as u32);
        let load: [u8; 8] = self.bytes[byte..byte + 8].try_into().expect("eight bytes");
        let mut word = u64::from_be_bytes(load) << shift;
        if shift > 0 {
            word |= u64::from(self.bytes[byte + 8]) >> (8 - shift);
        }
        self.bit += bits as usize;
        word >> (64 - bits)
    }
}

pub fn decode(bytes: &[u8], n: usize, out: &mut Vec<f64>) {
    let mut r = BitReader { bytes, bit: 0 };
    let mut left = n;
    while left > 0 {
        let len = left.min(CHUNK);
        r.bit = r.bit.next_multiple_of(8);
        let mut bits = r.get(64);
        out.push(f64::from_bits(bits));
        let (mut len_bits, mut trailing) = (0, 0);
        for _ in 1..len {
            if r.get(1) == 1 {
                if r.get(1) == 1 {
                    let leading = r.get(5) as u32;
                    len_bits = match r.get(6) as u32 {
                        0 => 64,
                        n => n,
                    };
                    trailing = 64 - leading - len_bits;
                }
                bits ^= r.get(len_bits) << trailing;
            }
            out.push(f64::from_bits(bits));
        }
        left -= len;
    }
}
