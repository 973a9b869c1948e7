//! The bytes by which lines are recognised, in a third of their length.
//!
//! Neighbours in an exposition begin alike, so a key is kept as the number of bytes that it shares with the key of
//! the line that stood before it, and the bytes that follow. To compare it with a body in which that line stands
//! before it again, the shared part is compared within the body; otherwise the chain of shared parts is followed,
//! each byte compared once. Chains are short, and nothing is ever put together to be compared.

/// Bytes that must be shared to be worth a reference.
const SHARED_MIN: usize = 8;
/// Length of a chain of references.
const DEPTH_MAX: u8 = 16;

/// Keys of lines by index.
#[derive(Debug, Default)]
pub(super) struct Keys {
    keys: Vec<Key>,
    bytes: Vec<u8>,
}

#[derive(Debug, Clone, Copy)]
struct Key {
    /// Own bytes.
    start: u32,
    len: u32,
    /// Line whose key begins with the `shared` bytes that come before.
    base: u32,
    shared: u16,
    depth: u8,
    hash: u32,
}

/// A line and where it begins in the body at hand.
#[derive(Debug, Clone, Copy)]
pub(super) struct Placed {
    pub(super) line: u32,
    pub(super) at: usize,
}

impl Keys {
    /// Bytes of keys.
    pub(super) fn n_bytes(&self) -> usize {
        self.bytes.len()
    }

    /// Gives back memory that is not needed.
    pub(super) fn trim(&mut self) {
        let (n, bytes) = (self.keys.len(), self.bytes.len());
        if self.keys.capacity() > n + n / 4 {
            self.keys.shrink_to(n + n / 8);
        }
        if self.bytes.capacity() > bytes + bytes / 4 {
            self.bytes.shrink_to(bytes + bytes / 8);
        }
    }

    pub(super) fn heap_bytes(&self) -> usize {
        self.keys.capacity() * size_of::<Key>() + self.bytes.capacity()
    }

    /// Sets the key of `line`, which is the next unused index or one that no key refers to, to `body[at..end]`.
    pub(super) fn set(&mut self, line: u32, body: &[u8], at: usize, end: usize, before: Option<Placed>, hash: u32) {
        let whole = &body[at..end];
        let mut key = Key { start: 0, len: 0, base: line, shared: 0, depth: 0, hash };
        if let Some(before) = before.filter(|b| b.line != line)
            && let depth = self.keys[before.line as usize].depth
            && depth < DEPTH_MAX
        {
            let limit = self.len(before.line).min(whole.len()).min(usize::from(u16::MAX));
            let other = &body[before.at..before.at + limit];
            let shared = whole.iter().zip(other).take_while(|(a, b)| a == b).count();
            if shared >= SHARED_MIN {
                key.base = before.line;
                // At most what a u16 holds, by `limit`.
                key.shared = shared as u16;
                key.depth = depth + 1;
            }
        }
        let own = &whole[usize::from(key.shared)..];
        key.start = u32::try_from(self.bytes.len()).expect("a body is refused if its keys could exceed 32 bits");
        key.len = u32::try_from(own.len()).expect("a body is refused if its keys could exceed 32 bits");
        self.bytes.extend_from_slice(own);
        match self.keys.get_mut(line as usize) {
            Some(slot) => *slot = key,
            None => self.keys.push(key),
        }
    }

    pub(super) fn hash(&self, line: u32) -> u32 {
        self.keys[line as usize].hash
    }

    /// End of the key of `line` if `body` has it at `at`; and whether the line before it was not the one it refers to.
    pub(super) fn find(&self, line: u32, body: &[u8], at: usize, before: Option<Placed>) -> Option<(usize, bool)> {
        let key = &self.keys[line as usize];
        let shared = usize::from(key.shared);
        let own = self.own(key);
        let end = at + shared + own.len();
        if body.get(at + shared..end)? != own {
            return None;
        }
        if shared == 0 {
            return Some((end, false));
        }
        match before {
            Some(before) if before.line == key.base => {
                (body[before.at..before.at + shared] == body[at..at + shared]).then_some((end, false))
            }
            _ => self.begins_with(key.base, &body[at..at + shared]).then_some((end, true)),
        }
    }

    /// Whether the key of `line` is `text`.
    pub(super) fn is(&self, line: u32, text: &[u8]) -> bool {
        text.len() == self.len(line) && self.begins_with(line, text)
    }

    /// Puts the key of `line` into `out`, replacing its content.
    pub(super) fn copy(&self, line: u32, out: &mut Vec<u8>) {
        out.clear();
        out.resize(self.len(line), 0);
        let (mut line, mut end) = (line, out.len());
        while end > 0 {
            let key = &self.keys[line as usize];
            let shared = usize::from(key.shared);
            if end > shared {
                out[shared..end].copy_from_slice(&self.own(key)[..end - shared]);
                end = shared;
            }
            line = key.base;
        }
    }

    /// Writes all keys anew, each relative to the one before it in `order`; keys of lines that are not in it are lost.
    pub(super) fn rewrite(&mut self, order: impl Iterator<Item = u32>) {
        let mut fresh = Self { keys: self.keys.clone(), bytes: Vec::with_capacity(self.bytes.len() / 2) };
        let (mut previous, mut current, mut both) = (Vec::new(), Vec::new(), Vec::new());
        let mut before = None;
        for line in order {
            self.copy(line, &mut current);
            both.clear();
            both.extend_from_slice(&previous);
            both.extend_from_slice(&current);
            fresh.set(line, &both, previous.len(), both.len(), before, self.hash(line));
            before = Some(Placed { line, at: 0 });
            std::mem::swap(&mut previous, &mut current);
        }
        *self = fresh;
    }

    fn len(&self, line: u32) -> usize {
        let key = &self.keys[line as usize];
        usize::from(key.shared) + key.len as usize
    }

    fn own(&self, key: &Key) -> &[u8] {
        &self.bytes[key.start as usize..key.start as usize + key.len as usize]
    }

    /// Whether the first bytes of the key of `line`, which is not shorter, are `text`.
    fn begins_with(&self, mut line: u32, mut text: &[u8]) -> bool {
        while !text.is_empty() {
            let key = &self.keys[line as usize];
            let shared = usize::from(key.shared);
            if text.len() > shared {
                let (rest, end) = text.split_at(shared);
                if self.own(key)[..end.len()] != *end {
                    return false;
                }
                text = rest;
            }
            line = key.base;
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn keys_are_those_that_were_set(texts in proptest::collection::vec("[ab]{0,3}(aaaaaaaa|bbbbbbbb){0,3}[ab]{0,4}", 1..40)) {
            let body = texts.concat().into_bytes();
            let mut keys = Keys::default();
            let (mut at, mut before, mut starts) = (0, None, Vec::new());
            for (line, text) in (0u32..).zip(&texts) {
                keys.set(line, &body, at, at + text.len(), before, line);
                before = Some(Placed { line, at });
                starts.push(at);
                at += text.len();
            }
            let mut copy = Vec::new();
            for rewritten in [false, true] {
                if rewritten {
                    keys.rewrite((0..texts.len() as u32).rev());
                }
                for (line, text) in (0u32..).zip(&texts) {
                    keys.copy(line, &mut copy);
                    prop_assert_eq!(copy.as_slice(), text.as_bytes());
                    for (other, other_text) in (0u32..).zip(&texts) {
                        prop_assert_eq!(keys.is(other, text.as_bytes()), other_text == text);
                        let before = line.checked_sub(1).map(|l| Placed { line: l, at: starts[l as usize] });
                        let found = keys.find(other, &body, starts[line as usize], before).map(|f| f.0);
                        let end = starts[line as usize] + other_text.len();
                        let expected = body[starts[line as usize]..].starts_with(other_text.as_bytes()).then_some(end);
                        prop_assert_eq!(found, expected);
                    }
                }
            }
        }
    }
}
