#!/usr/bin/env python3
"""An independent full node, `bcoin`, syncs from ours and ours from it.

bcoin.py DAEMON BCOIN

BCOIN is the `node` program of the package. It knows segwit but not taproot, asks for blocks with
`getblocks`, and on regtest activates segwit by signalling, at height 432.
"""

import sys
import tempfile
from contextlib import contextmanager
from pathlib import Path

from daemon import daemon, free_ports, running, until
from rpc import Rpc

# Segwit where bcoin has it, and blocks that signal for it.
AS_BCOIN = ["-testactivationheight=segwit@432", "-blockversion=536870915"]


class Bcoin:
    """A node of bcoin that speaks with one of ours only."""

    def __init__(self, rpc_port, port):
        self.rpc = Rpc(rpc_port)
        self.port = port
        until("bcoin's JSON-RPC", self.answers)

    def answers(self):
        try:
            return self.rpc.getblockcount() is not None
        except (OSError, ValueError):
            return False

    def address(self, script):
        """Its regtest addresses have a prefix of their own."""
        return self.rpc.decodescript(script)["addresses"][0]


@contextmanager
def bcoin(program, only):
    with tempfile.TemporaryDirectory() as prefix:
        rpc_port, port = free_ports(2)
        command = ["node", program, "--network=regtest", "--memory=true", f"--prefix={prefix}", "--no-wallet=true",
                   f"--only=127.0.0.1:{only}", "--listen=true", "--host=127.0.0.1", f"--port={port}",
                   "--http-host=127.0.0.1", f"--http-port={rpc_port}", "--workers=false"]
        with running(command, Path(prefix, "said.txt")):
            yield Bcoin(rpc_port, port)


def same_tip(one, other):
    def holds():
        return one.getbestblockhash() == other.getbestblockhash()

    return holds


def mempool(rpc):
    return sorted(rpc.getrawmempool())


def main():
    program, bcoin_program = sys.argv[1:]
    with daemon(program, *AS_BCOIN) as node:
        ours = node.rpc
        home = node.address(0)
        blocks = ours.generatetoaddress(220, home)
        with bcoin(bcoin_program, node.port) as other:
            try:
                exchange(program, node, home, blocks, other)
            except AssertionError:
                print("tips:", ours.getblockcount(), ours.getbestblockhash(), other.rpc.getblockcount(),
                      other.rpc.getbestblockhash(), "peers:", ours.getpeerinfo())
                raise
    print("ok  bcoin")


def exchange(program, node, home, blocks, other):
    ours, theirs = node.rpc, other.rpc
    until("bcoin at our tip", same_tip(ours, theirs))
    assert theirs.getblockcount() == 220
    print("ok  bcoin has 220 blocks of ours")

    # bcoin leaves a `getheaders` unanswered that it has nothing for, and as Core does, ours sends a
    # peer that owes one no other for two minutes. On a new connection bcoin has something.
    ours.addnode(f"127.0.0.1:{other.port}", "onetry", False)
    until("the second connection", lambda: ours.getconnectioncount() == 2)

    script = ours.validateaddress(home)["scriptPubKey"]
    theirs.generatetoaddress(220, other.address(script))
    until("ours at bcoin's tip", same_tip(ours, theirs))
    assert ours.getblockcount() == 440
    active = ours.getdeploymentinfo()["deployments"]["segwit"]
    assert active["active"] and theirs.getblockchaininfo()["softforks"] is not None
    print("ok  ours has 220 blocks of bcoin, announced one by one; segwit is active")

    rewards = [ours.getblock(block)["tx"][0] for block in blocks[:2]]
    first, second = (node.pay(0, reward, 50, node.address(1), 3, 0.0001) for reward in rewards)
    ids = [ours.sendrawtransaction(first)]
    until("our transaction at bcoin", lambda: mempool(theirs) == ids)
    ids.append(theirs.sendrawtransaction(second))
    until("bcoin's transaction at ours", lambda: mempool(ours) == sorted(ids))
    theirs.generatetoaddress(1, other.address(script))
    until("ours at bcoin's tip", same_tip(ours, theirs))
    block = ours.getblock(ours.getbestblockhash(), 2)
    assert sorted(tx["txid"] for tx in block["tx"][1:]) == sorted(ids)
    assert all(tx["vin"][0]["txinwitness"] for tx in block["tx"])
    until("empty mempools", lambda: mempool(ours) == [] == mempool(theirs))
    print("ok  transactions with witnesses both ways, and a block of bcoin's with both")

    fork = ours.getblockhash(ours.getblockcount() - 2)
    ours.invalidateblock(fork)
    ours.generatetoaddress(4, home)
    until("bcoin on our longer branch", same_tip(ours, theirs))
    assert theirs.getblockcount() == 442
    print("ok  bcoin reorganised 3 blocks to ours")

    ours.setnetworkactive(False)
    until("no peer", lambda: ours.getconnectioncount() == 0)
    ours.generatetoaddress(2, home)
    theirs.generatetoaddress(4, other.address(script))
    assert not same_tip(ours, theirs)()
    ours.setnetworkactive(True)
    # bcoin comes back by itself, but takes its time.
    ours.addnode(f"127.0.0.1:{other.port}", "onetry", False)
    until("ours on bcoin's longer branch", same_tip(ours, theirs))
    assert ours.getblockcount() == 446
    print("ok  ours reorganised 2 blocks to bcoin's")

    with daemon(program, *AS_BCOIN, f"-connect=127.0.0.1:{other.port}", "-v2transport=0") as fresh:
        until("a fresh node of ours at bcoin's tip", same_tip(fresh.rpc, theirs))
        coins = [rpc.gettxoutsetinfo("muhash")["muhash"] for rpc in (ours, fresh.rpc)]
        assert coins[0] == coins[1]
        print("ok  a fresh node of ours has all 446 blocks from bcoin")


main()
