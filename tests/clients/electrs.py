#!/usr/bin/env python3
"""`electrs` indexes a regtest chain through the node's JSON-RPC and REST.

electrs.py DAEMON ELECTRS

What the Electrum protocol then says of a script is compared with what the node itself says.
"""

import hashlib
import json
import socket
import sys
import tempfile
from pathlib import Path

from daemon import HANG, daemon, free_ports, running, until


class Electrum:
    """One connection to an Electrum server."""

    def __init__(self, port):
        self.stream = socket.create_connection(("127.0.0.1", port), timeout=HANG).makefile("rw")
        self.id = 0

    def call(self, method, *params):
        self.id += 1
        self.stream.write(json.dumps({"id": self.id, "method": method, "params": params}) + "\n")
        self.stream.flush()
        while True:
            reply = json.loads(self.stream.readline())
            if reply.get("id") == self.id:
                break  # else a notification
        assert reply.get("error") is None, reply
        return reply["result"]


def connect(port):
    try:
        return Electrum(port)
    except OSError:
        return None


def main():
    program, electrs = sys.argv[1:]
    with daemon(program, "-rest") as node, tempfile.TemporaryDirectory() as folder:
        rpc = node.rpc
        ours, theirs = node.address(0), node.address(1)
        blocks = rpc.generatetoaddress(110, ours)
        electrum_port, metrics_port = free_ports(2)
        command = [electrs, "--network", "regtest", "--db-dir", f"{folder}/db", "--cookie-file", str(node.cookie_file),
                   "--daemon-dir", node.datadir, "--daemon-rpc-addr", f"127.0.0.1:{node.rpc_port}",
                   "--electrum-rpc-addr", f"127.0.0.1:{electrum_port}",
                   "--monitoring-addr", f"127.0.0.1:{metrics_port}", "--wait-duration-secs", "1"]
        with running(command, Path(folder, "electrs.log"), cwd=folder) as process:
            def index():
                assert process.poll() is None, "electrs ended"
                return connect(electrum_port)

            client = until("the Electrum server", index)
            compare(rpc, client, ours, theirs, blocks, node)
    print("ok  electrs")


def compare(rpc, client, ours, theirs, blocks, node):
    def scripthash(address):
        script = bytes.fromhex(rpc.validateaddress(address)["scriptPubKey"])
        return hashlib.sha256(script).digest()[::-1].hex()

    def at_tip():
        best = rpc.getbestblockhash()
        tip = client.call("blockchain.headers.subscribe")
        return tip == {"height": rpc.getblockcount(), "hex": rpc.getblockheader(best, False)}

    def confirmed_agrees(address):
        """Balance and unspent outputs, from the node's own scan of its coins."""
        scan = rpc.scantxoutset("start", [f"addr({address})"])
        balance = client.call("blockchain.scripthash.get_balance", scripthash(address))
        assert balance["confirmed"] == round(scan["total_amount"] * 1e8), (balance, scan["total_amount"])
        if rpc.getrawmempool():
            return balance  # the list lacks what is spent there
        listed = client.call("blockchain.scripthash.listunspent", scripthash(address))
        got = sorted((coin["tx_hash"], coin["tx_pos"], coin["value"], coin["height"]) for coin in listed if coin["height"])
        coins = sorted((c["txid"], c["vout"], round(c["amount"] * 1e8), c["height"]) for c in scan["unspents"])
        assert got == coins, (got, coins)
        return balance

    def history(address):
        return client.call("blockchain.scripthash.get_history", scripthash(address))

    client.call("server.version", "ironpeer", "1.4")
    until("the index at the tip", at_tip)
    assert confirmed_agrees(ours)["confirmed"] == 110 * 50 * 10**8
    rewards = [rpc.getblock(block)["tx"][0] for block in blocks]
    assert history(ours) == [{"height": height, "tx_hash": txid} for height, txid in enumerate(rewards, 1)]
    for height in (1, 110):
        assert client.call("blockchain.block.header", height) == rpc.getblockheader(blocks[height - 1], False)
    assert client.call("blockchain.transaction.get", rewards[0]) == rpc.getrawtransaction(rewards[0], 0, blocks[0])
    assert client.call("blockchain.relayfee") == rpc.getmempoolinfo()["minrelaytxfee"]
    print("ok  110 blocks: tip, balance, history and outputs of a script")

    raw = node.pay(0, rewards[0], 50, theirs, 7, 0.0001)
    txid = client.call("blockchain.transaction.broadcast", raw)
    assert rpc.getrawmempool() == [txid]
    until("the unconfirmed payment", lambda: history(theirs))
    assert history(theirs) == [{"height": 0, "tx_hash": txid, "fee": 10_000}]
    assert client.call("blockchain.scripthash.get_balance", scripthash(theirs))["unconfirmed"] == 7 * 10**8
    print("ok  a transaction sent through electrs")

    paid = rpc.generatetoaddress(1, ours)[0]
    until("the index at the tip", at_tip)
    assert history(theirs) == [{"height": 111, "tx_hash": txid}]
    proof = client.call("blockchain.transaction.get_merkle", txid, 111)
    assert proof["pos"] == 1 and proof["merkle"] == [rpc.getblock(paid)["tx"][0]], proof
    for address in (ours, theirs):
        confirmed_agrees(address)
    print("ok  it is confirmed")

    rpc.invalidateblock(paid)
    rpc.generateblock(ours, [])
    rpc.generateblock(ours, [])
    until("the index at the tip", at_tip)
    until("the payment unconfirmed again", lambda: history(theirs) == [{"height": 0, "tx_hash": txid, "fee": 10_000}])
    for address in (ours, theirs):
        confirmed_agrees(address)
    rpc.generatetoaddress(1, ours)
    until("the index at the tip", at_tip)
    assert history(theirs) == [{"height": 113, "tx_hash": txid}]
    for address in (ours, theirs):
        confirmed_agrees(address)
    print("ok  a reorganisation, after which it is confirmed in another block")


main()
