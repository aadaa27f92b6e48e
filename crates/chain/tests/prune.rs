//! Old block files are deleted as far as the rules allow, and no further.

mod support;

use std::sync::Arc;

use ironpeer_chain::{Backends, Config, Location, OpenError, Prune, ReadError, Reindex, VerifyError};
use ironpeer_primitives::{ChainRead, Height};
use ironpeer_store::{Disk, MemDisk, MemKv};
use support::{Node, regtest};

/// Enough for four files of 64 KiB of blocks without transactions.
const BLOCKS: usize = 1_200;

struct Remains {
    disk: MemDisk,
    backends: Backends,
}

impl Remains {
    fn new() -> Self {
        let disk = MemDisk::new();
        let backends = Backends {
            disk: Arc::new(disk.clone()),
            index: Arc::new(MemKv::new()),
            coins: Arc::new(MemKv::new()),
        };
        Self { disk, backends }
    }

    fn config(&self, prune: Option<Prune>) -> Config {
        let location = Location::Given(self.backends.clone());
        Config { location, prune, small_block_files: true, ..regtest() }
    }

    fn block_files(&self) -> Vec<String> {
        let names = self.disk.list("/blocks".as_ref()).unwrap().into_iter().map(|(name, _)| name);
        let mut names: Vec<_> = names.filter(|name| name.starts_with("blk")).collect();
        names.sort_unstable();
        names
    }
}

/// The state of every block: its bytes and undo data are both there, or both pruned.
fn first_kept(node: &Node) -> u32 {
    let view = node.view();
    let stored: Vec<bool> = (1..=view.tip().height.0)
        .map(|height| {
            let hash = view.active_at(Height(height)).unwrap().hash;
            match (view.block(&hash), view.undo(&hash)) {
                (Ok(block), Ok(_)) => {
                    assert_eq!(block.block_hash(), hash);
                    true
                }
                (Err(ReadError::Pruned), Err(ReadError::Pruned)) => false,
                (block, undo) => panic!("at {height}: {block:?}, {undo:?}"),
            }
        })
        .collect();
    let first = stored.iter().position(|stored| *stored).unwrap();
    assert!(stored[first..].iter().all(|stored| *stored), "no hole above the first block kept");
    first as u32 + 1
}

#[test]
fn whole_files_go_up_to_the_height_asked_for() {
    let remains = Remains::new();
    let manual = remains.config(Some(Prune::Manual));
    let node = Node::open(manual.clone());
    let base = node.extend(&node.tip(), 0, BLOCKS);
    let files = remains.block_files();
    assert!(files.len() >= 4, "{files:?}");
    let before = node.view().size_on_disk();
    assert_eq!((node.view().prune_height(), first_kept(&node)), (None, 1));

    node.handle.prune_blocking(Some(Height(600))).unwrap();
    let pruned = node.view().prune_height().unwrap();
    assert!(pruned > Height(200) && pruned <= Height(600), "{pruned}");
    assert_eq!(first_kept(&node), pruned.0 + 1);
    assert!(remains.block_files().len() < files.len());
    assert!(node.view().size_on_disk() < before);
    assert_eq!(node.handle.verify_blocking(4, 0), Ok(Err(VerifyError::SkippedMissingBlocks)));
    assert_eq!(node.handle.verify_blocking(4, 300), Ok(Ok(())));

    // Asking for all leaves the last 288 and the file they begin in.
    node.handle.prune_blocking(Some(Height(BLOCKS as u32))).unwrap();
    let pruned = node.view().prune_height().unwrap();
    assert!(pruned.0 <= BLOCKS as u32 - 288, "{pruned}");
    let coins = node.coins();
    node.stop();

    let node = Node::open(manual);
    assert_eq!((node.view().prune_height(), first_kept(&node)), (Some(pruned), pruned.0 + 1));
    assert_eq!((node.tip(), node.coins()), (base.last().unwrap().block_hash(), coins));
    // A reorganisation as deep as promised.
    let fork = base[BLOCKS - 280].block_hash();
    let rival = node.extend(&fork, 1, 280);
    assert_eq!(node.tip(), rival.last().unwrap().block_hash());
    node.stop();

    let error = Node::try_open(remains.config(None)).err().unwrap();
    assert!(matches!(&error, OpenError::Corrupted(text) if text.contains("unpruned mode")), "{error}");
}

#[test]
fn a_chain_that_is_not_pruned_keeps_all() {
    let remains = Remains::new();
    let node = Node::open(remains.config(None));
    node.extend(&node.tip(), 0, 700);
    node.handle.prune_blocking(Some(Height(400))).unwrap();
    node.handle.prune_blocking(None).unwrap();
    assert_eq!((node.view().prune_height(), first_kept(&node)), (None, 1));
}

#[test]
fn reading_all_files_anew_begins_at_the_first_gap() {
    let remains = Remains::new();
    let node = Node::open(remains.config(Some(Prune::Manual)));
    node.extend(&node.tip(), 0, BLOCKS);
    node.handle.prune_blocking(Some(Height(600))).unwrap();
    node.stop();
    // File 0 is gone, so nothing that is left leads back to the genesis block.
    let again = Config { reindex: Reindex::All, ..remains.config(Some(Prune::Manual)) };
    let node = Node::open(again);
    node.handle.reindex_blocking().unwrap();
    assert_eq!(node.view().tip().height, Height::GENESIS);
    let base = node.extend(&node.tip(), 0, 5);
    assert_eq!(node.view().tip().hash, base[4].block_hash());
    node.check();
    node.stop();
}

#[test]
fn reading_all_files_anew_writes_undo_data_over_the_old() {
    let remains = Remains::new();
    let node = Node::open(remains.config(None));
    node.extend(&node.tip(), 0, 50);
    let (size, tip) = (node.view().size_on_disk(), node.tip());
    node.stop();
    for _ in 0..2 {
        let node = Node::open(Config { reindex: Reindex::All, ..remains.config(None) });
        node.handle.reindex_blocking().unwrap();
        assert_eq!((node.tip(), node.view().size_on_disk()), (tip, size));
        node.check();
        node.stop();
    }
}

#[test]
fn what_a_follower_still_needs_is_kept() {
    let remains = Remains::new();
    let node = Node::open(remains.config(Some(Prune::Manual)));
    let base = node.extend(&node.tip(), 0, BLOCKS);
    node.view().set_prune_lock("behind", Height(300));
    node.view().set_prune_lock("at the tip", Height(BLOCKS as u32));
    node.handle.prune_blocking(Some(Height(900))).unwrap();
    let pruned = node.view().prune_height().unwrap();
    assert!(pruned <= Height(300 - 11), "{pruned}");
    assert_eq!(first_kept(&node), pruned.0 + 1);
    // It has caught up, and a reorganisation takes it back a little.
    node.view().set_prune_lock("behind", Height(BLOCKS as u32));
    node.extend(&base[BLOCKS - 5].block_hash(), 1, 6);
    node.handle.prune_blocking(Some(Height(900))).unwrap();
    assert!(node.view().prune_height().unwrap() > Height(600));
    node.stop();
}
