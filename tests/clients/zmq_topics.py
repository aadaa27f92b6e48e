#!/usr/bin/env python3
"""pyzmq on every topic: what is published, in which order, and numbered without a gap.

zmq_topics.py RPC_PORT COOKIE_FILE ADDRESS RAW_TRANSACTION REPLACEMENT

The node publishes all five topics at ADDRESS. The two transactions are valid now, and the second
replaces the first.
"""

import struct
import sys

try:
    import zmq
except ImportError:
    sys.exit("pyzmq is missing; ./run setup installs it")

from rpc import Rpc

TOPICS = ["hashblock", "hashtx", "rawblock", "rawtx", "sequence"]
# Only turns a hang into a failure.
HANG_MS = 60_000


class Subscriber:
    """One socket for all topics, so that their order among each other shows."""

    def __init__(self, address):
        self.socket = zmq.Context.instance().socket(zmq.SUB)
        self.socket.setsockopt(zmq.RCVTIMEO, HANG_MS)
        self.socket.setsockopt(zmq.RCVHWM, 0)
        for topic in TOPICS:
            self.socket.setsockopt(zmq.SUBSCRIBE, topic.encode())
        self.socket.connect(address)
        self.next = {}

    def waiting(self):
        return self.socket.poll(0) != 0

    def take(self):
        """The next message; its number must follow the topic's last one."""
        topic, body, number = self.socket.recv_multipart()
        topic = topic.decode()
        (number,) = struct.unpack("<I", number)
        expected = self.next.get(topic, number)
        if number != expected:
            raise AssertionError(f"{topic} is numbered {number}, not {expected}")
        self.next[topic] = number + 1
        return topic, body.hex()

    def expect(self, what, expected):
        got = [self.take() for _ in expected]
        if got != expected:
            lines = "\n".join(f"  {name} {body[:80]}" for name, body in got)
            wanted = "\n".join(f"  {name} {body[:80]}" for name, body in expected)
            raise AssertionError(f"{what} published\n{lines}\ninstead of\n{wanted}")
        print(f"ok  {what}: {len(got)} messages")


def main():
    port, cookie_file, address, first, replacement = sys.argv[1:]
    rpc = Rpc(int(port), cookie_file)
    subscriber = Subscriber(address)
    payee = "raw(51)"

    def transaction(raw):
        txid = rpc.decoderawtransaction(raw)["txid"]
        return [("hashtx", txid), ("rawtx", raw)]

    def in_block(block):
        return [line for tx in rpc.getblock(block, 2)["tx"] for line in transaction(tx["hex"])]

    def connected(block):
        raw = rpc.getblock(block, 0)
        return in_block(block) + [("sequence", block + "43"), ("hashblock", block), ("rawblock", raw)]

    def disconnected(block):
        return in_block(block) + [("sequence", block + "44")]

    def entered(raw, number):
        txid = rpc.decoderawtransaction(raw)["txid"]
        return transaction(raw) + [("sequence", txid + "41" + struct.pack("<Q", number).hex())]

    def left(txid, number):
        return ("sequence", txid + "52" + struct.pack("<Q", number).hex())

    # A subscription takes effect some time after it was made: blocks come until one is seen.
    while not subscriber.waiting():
        last = rpc.generateblock(payee, [])["hash"]
    while subscriber.take() != ("rawblock", rpc.getblock(last, 0)):
        pass

    subscriber.expect("an empty block", connected(rpc.generateblock(payee, [])["hash"]))

    number = rpc.getrawmempool(False, True)["mempool_sequence"]
    gone = rpc.sendrawtransaction(first)
    subscriber.expect("a transaction", entered(first, number))
    txid = rpc.sendrawtransaction(replacement)
    subscriber.expect("its replacement", [left(gone, number + 1)] + entered(replacement, number + 2))

    block = rpc.generateblock(payee, [txid])["hash"]
    subscriber.expect("a block with it", connected(block))
    number = rpc.getrawmempool(False, True)["mempool_sequence"]
    undone = disconnected(block)
    rpc.invalidateblock(block)
    subscriber.expect("the block undone", undone + entered(replacement, number))
    one = rpc.generateblock(payee, [])["hash"]
    two = rpc.generateblock(payee, [txid])["hash"]
    subscriber.expect("a longer chain", connected(one) + connected(two))

    missing = set(TOPICS) - set(subscriber.next)
    assert not missing, f"nothing came on {missing}"
    assert not subscriber.waiting(), f"one message too many: {subscriber.take()}"


main()
