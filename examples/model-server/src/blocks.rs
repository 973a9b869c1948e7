//! The context cache: a fixed number of blocks, each holding the tokens of a stretch of some sequence's context.
//!
//! What a GPU server keeps as keys and values per token is here the tokens themselves: the scheduler writes them while
//! it prefills and decodes, and the model reads its context back through a sequence's block table. Full blocks stay
//! findable by their content and all that precedes it until they are needed for something else, least recently used
//! first, so that sequences with a common beginning share blocks. No block is free and in use at once.

use std::collections::{BTreeMap, HashMap};
use std::hash::{DefaultHasher, Hash, Hasher};

use crate::model::Token;

/// Number of a block in its pool.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct BlockId(usize);

/// The content of a full block together with all blocks before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub(crate) struct PrefixHash(u64);

impl PrefixHash {
    fn then(self, tokens: &[Token]) -> Self {
        // DefaultHasher::new() has fixed keys: equal content hashes equally in every process.
        let mut hasher = DefaultHasher::new();
        (self.0, tokens).hash(&mut hasher);
        Self(hasher.finish())
    }
}

#[derive(Debug, Default)]
struct Block {
    tokens: Vec<Token>,
    owners: usize,
    /// Where it is found while its content may be shared: the hash of what precedes it, and its own.
    shared_as: Option<(PrefixHash, PrefixHash)>,
    /// Its place in the order of release while it has no owner.
    released: u64,
}

/// All blocks.
#[derive(Debug)]
pub(crate) struct BlockPool {
    block_tokens: usize,
    blocks: Vec<Block>,
    /// Blocks without owner by the time of their release; the first is reused first.
    free: BTreeMap<u64, BlockId>,
    shared: HashMap<PrefixHash, BlockId>,
    releases: u64,
}

impl BlockPool {
    pub(crate) fn new(n_blocks: usize, block_tokens: usize) -> Self {
        let blocks = (0..n_blocks)
            .map(|i| Block { tokens: Vec::with_capacity(block_tokens), released: i as u64, ..Block::default() })
            .collect();
        let free = (0..n_blocks).map(|i| (i as u64, BlockId(i))).collect();
        Self { block_tokens, blocks, free, shared: HashMap::new(), releases: n_blocks as u64 }
    }

    pub(crate) fn block_tokens(&self) -> usize {
        self.block_tokens
    }

    /// Share of the blocks that have an owner, 0 to 1.
    pub(crate) fn usage(&self) -> f64 {
        (self.blocks.len() - self.free.len()) as f64 / self.blocks.len() as f64
    }

    /// An empty block with one owner, or none if all have owners already.
    pub(crate) fn allocate(&mut self) -> Option<BlockId> {
        let (_, id) = self.free.pop_first()?;
        let block = &mut self.blocks[id.0];
        debug_assert_eq!(block.owners, 0);
        if let Some((_, hash)) = block.shared_as.take() {
            self.shared.remove(&hash);
        }
        block.tokens.clear();
        block.owners = 1;
        Some(id)
    }

    /// Gives the block up; it can be reused once it has no owner, and can be found until then.
    pub(crate) fn release(&mut self, id: BlockId) {
        let block = &mut self.blocks[id.0];
        assert!(block.owners > 0, "a released block has an owner");
        block.owners -= 1;
        if block.owners == 0 {
            block.released = self.releases;
            self.free.insert(self.releases, id);
            self.releases += 1;
        }
    }

    /// Becomes an owner of as many full blocks as hold the beginning of `tokens`, at most all but its last token.
    pub(crate) fn take_prefix(&mut self, tokens: &[Token]) -> (Vec<BlockId>, PrefixHash) {
        let (mut taken, mut hash) = (Vec::new(), PrefixHash::default());
        // One token at least must be computed: the next one is predicted from it.
        for chunk in tokens[..tokens.len().saturating_sub(1)].chunks_exact(self.block_tokens) {
            let next = hash.then(chunk);
            let Some(&id) = self.shared.get(&next) else { break };
            let block = &mut self.blocks[id.0];
            if block.shared_as != Some((hash, next)) || block.tokens != chunk {
                break;
            }
            if block.owners == 0 {
                self.free.remove(&block.released);
            }
            block.owners += 1;
            taken.push(id);
            hash = next;
        }
        (taken, hash)
    }

    /// Writes the next token of a sequence into its newest block. A block that becomes full can be found from now on;
    /// then the hash of the sequence up to here is returned, which was `before` without this block.
    pub(crate) fn push(&mut self, id: BlockId, token: Token, before: PrefixHash) -> Option<PrefixHash> {
        let block = &mut self.blocks[id.0];
        assert!(block.tokens.len() < self.block_tokens && block.owners == 1, "a block is written by its only owner");
        block.tokens.push(token);
        if block.tokens.len() < self.block_tokens {
            return None;
        }
        let hash = before.then(&block.tokens);
        // The first block with this content stays the one that is found.
        if let std::collections::hash_map::Entry::Vacant(place) = self.shared.entry(hash) {
            place.insert(id);
            block.shared_as = Some((before, hash));
        }
        Some(hash)
    }

    pub(crate) fn tokens(&self, id: BlockId) -> &[Token] {
        &self.blocks[id.0].tokens
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Model;

    fn tokens(text: &str) -> Vec<Token> {
        let model = Model::train("abcdefghijklmnopqrstuvwxyz", 1).unwrap();
        let mut out = Vec::new();
        model.encode(text, &mut out);
        out
    }

    /// Stores `text` as a sequence does; returns its blocks and how many tokens it found.
    fn store(pool: &mut BlockPool, text: &str) -> (Vec<BlockId>, usize) {
        let tokens = tokens(text);
        let (mut table, mut hash) = pool.take_prefix(&tokens);
        let found = table.len() * pool.block_tokens();
        for (i, &token) in tokens.iter().enumerate().skip(found) {
            if i % pool.block_tokens() == 0 {
                table.push(pool.allocate().unwrap());
            }
            if let Some(next) = pool.push(*table.last().unwrap(), token, hash) {
                hash = next;
            }
        }
        (table, found)
    }

    #[test]
    fn usage_counts_blocks_with_an_owner() {
        let mut pool = BlockPool::new(4, 2);
        assert_eq!(pool.usage(), 0.0);
        let (table, _) = store(&mut pool, "abc");
        assert_eq!(pool.usage(), 0.5);
        table.into_iter().for_each(|id| pool.release(id));
        assert_eq!(pool.usage(), 0.0);
    }

    #[test]
    fn equal_beginnings_share_full_blocks() {
        let mut pool = BlockPool::new(8, 2);
        let (first, _) = store(&mut pool, "abcdx");
        let (second, found) = store(&mut pool, "abcdyz");
        assert_eq!(found, 4);
        assert_eq!(first[..2], second[..2]);
        assert_eq!(pool.usage(), 4.0 / 8.0);
    }

    #[test]
    fn equal_content_after_another_beginning_is_not_shared() {
        let mut pool = BlockPool::new(8, 2);
        store(&mut pool, "abcd");
        assert_eq!(store(&mut pool, "xxcde").1, 0);
    }

    #[test]
    fn last_token_is_never_taken_from_the_cache() {
        let mut pool = BlockPool::new(8, 2);
        store(&mut pool, "abcd");
        assert_eq!(store(&mut pool, "abcd").1, 2);
    }

    #[test]
    fn released_blocks_are_found_until_reused_oldest_first() {
        let mut pool = BlockPool::new(3, 2);
        let (table, _) = store(&mut pool, "abcdef");
        table.iter().rev().for_each(|&id| pool.release(id));
        // The tail was released first and goes first.
        let taken = pool.allocate().unwrap();
        assert_eq!(taken, table[2]);
        let (found, _) = pool.take_prefix(&tokens("abcdefg"));
        assert_eq!(found, table[..2]);
        assert_eq!(pool.usage(), 1.0);
        assert_eq!(pool.allocate(), None);
    }
}
