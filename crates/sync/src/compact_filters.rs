//! Who may have which filters of blocks (BIP157).

use bitcoin::BlockHash;
use bitcoin::p2p::ServiceFlags;
use ironpeer_primitives::{Height, PeerId};

use crate::event::{Action, FilterReply};
use crate::limits::{MAX_GETCFHEADERS, MAX_GETCFILTERS};
use crate::{Cx, Sync};

/// BIP158's basic filter, the only kind there is.
const BASIC_FILTER: u8 = 0;

impl Sync {
    pub(crate) fn on_filter_request(
        &mut self,
        cx: &mut Cx<'_>,
        id: PeerId,
        filter_type: u8,
        start: u32,
        stop: BlockHash,
        reply: FilterReply,
    ) {
        let Some(peer) = self.peers.get(&id) else { return };
        if filter_type != BASIC_FILTER || !peer.our_services.has(ServiceFlags::COMPACT_FILTERS) {
            self.drop_peer(cx, id, &format!("peer requested unsupported block filter type: {filter_type}"));
            return;
        }
        let known = cx.chain.header(&stop).filter(|block| self.block_request_allowed(cx, block));
        let Some(block) = known else {
            self.drop_peer(cx, id, &format!("peer requested invalid block hash: {stop}"));
            return;
        };
        let Some(more) = block.height.0.checked_sub(start) else {
            let why = format!(
                "peer sent invalid getcfilters/getcfheaders with start height {start} and stop height {}",
                block.height
            );
            self.drop_peer(cx, id, &why);
            return;
        };
        let most = match reply {
            FilterReply::Filters => MAX_GETCFILTERS,
            FilterReply::Headers => MAX_GETCFHEADERS,
            FilterReply::Checkpoints => u32::MAX,
        };
        if more >= most {
            let count = u64::from(more).saturating_add(1);
            self.drop_peer(cx, id, &format!("peer requested too many cfilters/cfheaders: {count} / {most}"));
            return;
        }
        cx.push(Action::SendFilters { peer: id, reply, start: Height(start), stop });
    }
}
