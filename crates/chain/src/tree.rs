//! The tree of all known headers and the active chain in it.
//!
//! Nodes live in one arena and are never removed; a child always comes after its parent, so one
//! forward pass visits all descendants. Each node has a skip pointer as in Core's `src/chain.cpp`,
//! which makes any ancestor reachable in logarithmic time.

use std::collections::{HashMap, HashSet};

use bitcoin::block::Header;
use bitcoin::{BlockHash, Work};
use ironpeer_consensus::Ancestry;
use ironpeer_primitives::{HeaderInfo, Height, UnixTime};
use ironpeer_store::FilePos;

/// Index of a node in the arena.
pub(crate) type NodeId = u32;

/// The genesis block's node.
pub(crate) const GENESIS: NodeId = 0;

/// Sequence of blocks that lay on the best chain when it was loaded: they win every tie.
pub(crate) const SEQUENCE_BEST_FROM_DISK: i64 = 0;
/// Sequence of all other loaded blocks.
pub(crate) const SEQUENCE_FROM_DISK: i64 = 1;

/// Headers whose times make up the median (BIP113).
const MEDIAN_SPAN: usize = 11;

/// How far a block has been checked, in Core's order (`BLOCK_VALID_*`, `src/chain.h`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Validity {
    /// The header is good and so are its ancestors'.
    Tree,
    /// The body belongs to the header and passes the checks without coins.
    Transactions,
    /// Everything was checked (or assumed), scripts included.
    Scripts,
}

/// One header and what is known of its block.
#[derive(Clone, Debug)]
pub(crate) struct Node {
    pub header: Header,
    pub hash: BlockHash,
    pub height: Height,
    pub chainwork: Work,
    pub parent: Option<NodeId>,
    skip: NodeId,
    pub median_time_past: UnixTime,
    pub validity: Validity,
    pub failed: bool,
    /// Transactions in the block, 0 while the body is unknown.
    pub tx_count: u32,
    /// Transactions up to and including this block, 0 while a body on the way is unknown.
    pub chain_tx_count: u64,
    pub data: Option<FilePos>,
    pub undo: Option<FilePos>,
    /// Order of arrival among blocks of equal work; the lower wins.
    pub sequence: i64,
}

impl Node {
    /// Its body and all its ancestors' bodies have been seen, and it is not known to be bad.
    pub(crate) fn connectable(&self) -> bool {
        !self.failed && self.validity >= Validity::Transactions && self.chain_tx_count > 0
    }
}

/// Chain work as a number that orders, for sets and maps.
pub(crate) fn work_key(work: Work) -> [u8; 32] {
    work.to_be_bytes()
}

/// A possible best tip: more work wins, then the earlier arrival, then the older node (Core's
/// `CBlockIndexWorkComparator`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Candidate {
    work: [u8; 32],
    sequence: std::cmp::Reverse<i64>,
    pub id: std::cmp::Reverse<NodeId>,
}

/// All headers, and the active chain.
#[derive(Debug)]
pub(crate) struct HeaderTree {
    nodes: Vec<Node>,
    by_hash: HashMap<BlockHash, NodeId>,
    /// The active chain by height; never empty.
    active: Vec<NodeId>,
    best_header: NodeId,
    /// Counts the changes of the tip; equals the last event's number.
    pub event_seq: u64,
}

impl HeaderTree {
    /// A tree of the genesis block alone, which is active.
    pub(crate) fn new(genesis: Header) -> Self {
        let hash = genesis.block_hash();
        let node = Node {
            header: genesis,
            hash,
            height: Height::GENESIS,
            chainwork: genesis.work(),
            parent: None,
            skip: GENESIS,
            median_time_past: UnixTime::from(genesis.time),
            validity: Validity::Tree,
            failed: false,
            tx_count: 0,
            chain_tx_count: 0,
            data: None,
            undo: None,
            sequence: SEQUENCE_FROM_DISK,
        };
        Self {
            nodes: vec![node],
            by_hash: HashMap::from([(hash, GENESIS)]),
            active: vec![GENESIS],
            best_header: GENESIS,
            event_seq: 0,
        }
    }

    /// Ids are made by `insert` alone and nodes are never removed, so the index is in range.
    #[allow(clippy::indexing_slicing)]
    pub(crate) fn node(&self, id: NodeId) -> &Node {
        &self.nodes[id as usize]
    }

    /// As [`node`](Self::node).
    #[allow(clippy::indexing_slicing)]
    pub(crate) fn node_mut(&mut self, id: NodeId) -> &mut Node {
        &mut self.nodes[id as usize]
    }

    pub(crate) fn id(&self, hash: &BlockHash) -> Option<NodeId> {
        self.by_hash.get(hash).copied()
    }

    pub(crate) fn ids(&self) -> impl Iterator<Item = NodeId> + use<> {
        0..self.nodes.len() as NodeId
    }

    pub(crate) fn len(&self) -> usize {
        self.nodes.len()
    }

    /// Adds a header below `parent`. It becomes the best header if it has the most work.
    pub(crate) fn insert(&mut self, header: Header, hash: BlockHash, parent: NodeId) -> NodeId {
        if let Some(known) = self.id(&hash) {
            return known;
        }
        let id = self.nodes.len() as NodeId;
        let above = self.node(parent);
        let height = above.height.next();
        let node = Node {
            header,
            hash,
            height,
            chainwork: above.chainwork + header.work(),
            parent: Some(parent),
            skip: self.ancestor(parent, Height(skip_height(height.0))).unwrap_or(GENESIS),
            median_time_past: self.median_time(header.time, parent),
            validity: Validity::Tree,
            failed: above.failed,
            tx_count: 0,
            chain_tx_count: 0,
            data: None,
            undo: None,
            sequence: SEQUENCE_FROM_DISK,
        };
        if !node.failed && node.chainwork > self.node(self.best_header).chainwork {
            self.best_header = id;
        }
        self.nodes.push(node);
        self.by_hash.insert(hash, id);
        id
    }

    fn median_time(&self, time: u32, parent: NodeId) -> UnixTime {
        let mut times = [0u32; MEDIAN_SPAN];
        let mut len = 0;
        let mut at = Some(parent);
        let mut next = Some(time);
        for slot in &mut times {
            let Some(time) = next else { break };
            *slot = time;
            len += 1;
            next = at.map(|id| self.node(id).header.time);
            at = at.and_then(|id| self.node(id).parent);
        }
        let times = times.get_mut(..len).unwrap_or_default();
        times.sort_unstable();
        UnixTime::from(times.get(len / 2).copied().unwrap_or(0))
    }

    /// The ancestor of `id` at `height`, or `None` if `id` is lower than that.
    pub(crate) fn ancestor(&self, id: NodeId, height: Height) -> Option<NodeId> {
        let mut at = id;
        let mut node = self.node(at);
        if height > node.height {
            return None;
        }
        while node.height > height {
            if self.is_active(at) {
                return self.active.get(height.index()).copied();
            }
            let skip = Height(skip_height(node.height.0));
            let before = Height(skip_height(node.height.0.saturating_sub(1)));
            // Take the skip unless the parent's skip leads nearer to the goal.
            let take = skip == height
                || (skip > height && !(before.0.saturating_add(2) < skip.0 && before >= height));
            at = if take { node.skip } else { node.parent.unwrap_or(GENESIS) };
            node = self.node(at);
        }
        Some(at)
    }

    /// Whether `ancestor` lies on the way from `id` to genesis (`id` itself counts).
    pub(crate) fn descends(&self, id: NodeId, ancestor: NodeId) -> bool {
        self.ancestor(id, self.node(ancestor).height) == Some(ancestor)
    }

    pub(crate) fn is_active(&self, id: NodeId) -> bool {
        self.active.get(self.node(id).height.index()) == Some(&id)
    }

    pub(crate) fn active_at(&self, height: Height) -> Option<NodeId> {
        self.active.get(height.index()).copied()
    }

    pub(crate) fn tip(&self) -> NodeId {
        self.active.last().copied().unwrap_or(GENESIS)
    }

    pub(crate) fn tip_node(&self) -> &Node {
        self.node(self.tip())
    }

    /// Makes the chain ending at `id` the active one.
    pub(crate) fn set_tip(&mut self, id: NodeId) {
        let fork = self.fork_with_active(id);
        let keep = self.node(fork).height.index() + 1;
        self.active.truncate(keep);
        let mut branch = Vec::new();
        let mut at = id;
        while at != fork {
            branch.push(at);
            at = self.node(at).parent.unwrap_or(fork);
        }
        self.active.extend(branch.into_iter().rev());
    }

    /// The last block that `id`'s chain shares with the active one.
    pub(crate) fn fork_with_active(&self, id: NodeId) -> NodeId {
        let mut at = self.ancestor(id, self.tip_node().height).unwrap_or(id);
        while !self.is_active(at) {
            at = self.node(at).parent.unwrap_or(GENESIS);
        }
        at
    }

    /// The last common ancestor of two nodes.
    pub(crate) fn common_ancestor(&self, a: NodeId, b: NodeId) -> NodeId {
        let height = self.node(a).height.min(self.node(b).height);
        let mut a = self.ancestor(a, height).unwrap_or(GENESIS);
        let mut b = self.ancestor(b, height).unwrap_or(GENESIS);
        while a != b {
            a = self.node(a).parent.unwrap_or(GENESIS);
            b = self.node(b).parent.unwrap_or(GENESIS);
        }
        a
    }

    pub(crate) fn best_header(&self) -> NodeId {
        self.best_header
    }

    /// Looks for the best header anew, from the active tip on (Core's `RecalculateBestHeader`).
    pub(crate) fn recalculate_best_header(&mut self) {
        let mut best = self.tip();
        for id in self.ids() {
            let node = self.node(id);
            if !node.failed && node.chainwork > self.node(best).chainwork {
                best = id;
            }
        }
        self.best_header = best;
    }

    /// All nodes below `id`, parents first, `id` itself left out.
    pub(crate) fn descendants(&self, id: NodeId) -> Vec<NodeId> {
        let mut below = HashSet::from([id]);
        let mut found = Vec::new();
        for at in id + 1..self.nodes.len() as NodeId {
            if self.node(at).parent.is_some_and(|parent| below.contains(&parent)) {
                below.insert(at);
                found.push(at);
            }
        }
        found
    }

    /// The key under which `id` competes to be the tip.
    pub(crate) fn candidate(&self, id: NodeId) -> Candidate {
        let node = self.node(id);
        Candidate {
            work: work_key(node.chainwork),
            sequence: std::cmp::Reverse(node.sequence),
            id: std::cmp::Reverse(id),
        }
    }

    pub(crate) fn info(&self, id: NodeId) -> HeaderInfo {
        let node = self.node(id);
        HeaderInfo {
            hash: node.hash,
            header: node.header,
            height: node.height,
            chainwork: node.chainwork,
            median_time_past: node.median_time_past,
            tx_count: node.tx_count,
            has_data: node.data.is_some(),
            failed: node.failed,
            fully_valid: !node.failed && node.validity == Validity::Scripts,
            active: self.is_active(id),
        }
    }

    /// Hashes from `id` back to genesis, ever sparser (Core's `LocatorEntries`).
    pub(crate) fn locator(&self, id: NodeId) -> Vec<BlockHash> {
        const DENSE: usize = 10;
        let mut hashes = Vec::new();
        let mut step = 1u32;
        let mut at = id;
        loop {
            let node = self.node(at);
            hashes.push(node.hash);
            if node.height == Height::GENESIS {
                return hashes;
            }
            let height = Height(node.height.0.saturating_sub(step));
            at = self.ancestor(at, height).unwrap_or(GENESIS);
            if hashes.len() > DENSE {
                step = step.saturating_mul(2);
            }
        }
    }

    /// Where a locator meets the active chain (Core's `FindForkInGlobalIndex`).
    pub(crate) fn find_fork(&self, locator: &[BlockHash]) -> NodeId {
        let tip = self.tip();
        for id in locator.iter().filter_map(|hash| self.id(hash)) {
            if self.is_active(id) {
                return id;
            }
            if self.descends(id, tip) {
                return tip;
            }
        }
        GENESIS
    }

    /// The ends of all branches, and the active tip.
    pub(crate) fn branch_ends(&self) -> Vec<NodeId> {
        // Core's `getchaintips` looks at blocks off the active chain that no other such block
        // builds on; the tip itself is always among them.
        let off_chain: Vec<NodeId> = self.ids().filter(|id| !self.is_active(*id)).collect();
        let parents: HashSet<NodeId> = off_chain.iter().filter_map(|id| self.node(*id).parent).collect();
        let mut ends: Vec<NodeId> = off_chain.into_iter().filter(|id| !parents.contains(id)).collect();
        ends.push(self.tip());
        ends
    }

    /// The chain that ends at `id`, for contextual rules.
    pub(crate) fn chain_of(&self, id: NodeId) -> Ancestors<'_> {
        Ancestors { tree: self, end: id }
    }
}

/// A chain in the tree, for the rules that look back.
pub(crate) struct Ancestors<'a> {
    tree: &'a HeaderTree,
    end: NodeId,
}

impl Ancestry for Ancestors<'_> {
    fn height(&self) -> Height {
        self.tree.node(self.end).height
    }

    fn header_at(&self, height: Height) -> Option<(BlockHash, Header)> {
        let node = self.tree.node(self.tree.ancestor(self.end, height)?);
        Some((node.hash, node.header))
    }

    fn median_time_past_at(&self, height: Height) -> Option<UnixTime> {
        Some(self.tree.node(self.tree.ancestor(self.end, height)?).median_time_past)
    }
}

/// The height a node's skip pointer leads to (Core's `GetSkipHeight`): clearing low bits makes
/// each ancestor reachable in few steps.
fn skip_height(height: u32) -> u32 {
    let clear_lowest = |n: u32| n & n.wrapping_sub(1);
    match height {
        0 | 1 => 0,
        odd if odd & 1 == 1 => clear_lowest(clear_lowest(odd - 1)) + 1,
        even => clear_lowest(even),
    }
}

#[cfg(test)]
#[path = "tree_tests.rs"]
mod tests;
