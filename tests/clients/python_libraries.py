#!/usr/bin/env python3
"""`python-bitcoinrpc` and `python-bitcoinlib` against the node: JSON-RPC, and the peer protocol.

python_libraries.py DAEMON
"""

import socket
import sys
from decimal import Decimal

from bitcoin import SelectParams
from bitcoin.core import CTransaction, lx, x
from bitcoin.messages import MsgSerializable, msg_getdata, msg_getheaders, msg_ping, msg_verack, msg_version
from bitcoin.net import CInv
from bitcoin.rpc import Proxy
from bitcoinrpc.authproxy import AuthServiceProxy, JSONRPCException

from daemon import HANG, daemon


def url(node):
    return f"http://{node.cookie_file.read_text()}@127.0.0.1:{node.rpc_port}"


def bitcoinrpc(node):
    client = AuthServiceProxy(url(node), timeout=HANG)
    blocks = client.generatetoaddress(101, node.address(0))
    assert client.getblockcount() == 101
    # Not in a batch: its batches ask for JSON-RPC 2.0, whose replies, here as with Core, lack the
    # `error` that it looks for.
    assert [client.getblockhash(height) for height in range(1, 102)] == blocks
    coin = client.gettxout(client.getblock(blocks[0])["tx"][0], 0)
    assert coin["value"] == Decimal("50.00000000"), coin
    try:
        client.getblock("00" * 32)
    except JSONRPCException as error:
        assert error.code == -5, error
    else:
        raise AssertionError("an unknown block was found")
    print("ok  python-bitcoinrpc: calls, amounts, errors")
    return blocks


def bitcoinlib_rpc(node, blocks):
    client = Proxy(service_url=url(node), timeout=HANG)
    assert client.getblockcount() == 101
    block = client.getblock(lx(blocks[0]))
    assert block.GetHash() == lx(blocks[0])
    raw = node.pay(0, block.vtx[0].GetTxid()[::-1].hex(), 50, node.address(1), 3, 0.0001)
    sent = CTransaction.deserialize(x(raw))
    txid = client.sendrawtransaction(sent)
    assert client.getrawmempool() == [txid]
    assert client.getrawtransaction(txid) == sent
    print("ok  python-bitcoinlib, JSON-RPC: blocks and transactions as its own objects")


def bitcoinlib_peer(node, blocks):
    connection = socket.create_connection(("127.0.0.1", node.port), timeout=HANG)
    stream = connection.makefile("rb")

    def send(message):
        connection.sendall(message.to_bytes())

    def receive(command):
        while True:
            message = MsgSerializable.stream_deserialize(stream)
            # What the library has no class for comes as nothing.
            if message is not None and message.command == command:
                return message

    def wanted(kind, hash):
        message = msg_getdata()
        item = CInv()
        item.type, item.hash = kind, hash
        message.inv = [item]
        return message

    send(msg_version())
    version = receive(b"version")
    assert version.nStartingHeight == 101 and b"Ironpeer" in version.strSubVer, version
    receive(b"verack")
    send(msg_verack())
    ping = msg_ping(nonce=77)
    send(ping)
    assert receive(b"pong").nonce == 77
    request = msg_getheaders()
    request.locator.vHave = [lx(node.rpc.getblockhash(0))]
    send(request)
    headers = receive(b"headers").headers
    # It reads the count of transactions after each header as part of the next.
    assert len(headers) == 101 and headers[0].GetHash() == lx(blocks[0])
    send(wanted(2, lx(blocks[50])))
    assert receive(b"block").block.GetHash() == lx(blocks[50])
    send(wanted(2, lx(node.rpc.getblockhash(0))))
    assert receive(b"block").block.GetHash() == lx(node.rpc.getblockhash(0))
    connection.close()
    print("ok  python-bitcoinlib, as a peer: handshake, ping, headers, blocks")


def main():
    (program,) = sys.argv[1:]
    SelectParams("regtest")
    with daemon(program) as node:
        blocks = bitcoinrpc(node)
        bitcoinlib_rpc(node, blocks)
        bitcoinlib_peer(node, blocks)


main()
