"""Starts the daemon, and programs beside it, for the scripts here."""

import contextlib
import socket
import subprocess
import tempfile
import time
from pathlib import Path

from rpc import Rpc

# Only turns a hang into a failure: far above what anything here takes.
HANG = 120
PAUSE = 0.05

# Private keys 1 and 2, as regtest writes them.
KEYS = ["cMahea7zqjxrtgAbB7LSGbcQUr1uX1ojuat9jZodMN87JcbXMTcA", "cMahea7zqjxrtgAbB7LSGbcQUr1uX1ojuat9jZodMN87K7XCyj5v"]


def until(what, condition):
    """Looks again and again until the condition holds; returns what it gave."""
    deadline = time.monotonic() + HANG
    while True:
        found = condition()
        if found:
            return found
        assert time.monotonic() < deadline, f"{what} does not come to hold"
        time.sleep(PAUSE)


def free_ports(count):
    """Free ports below those that outgoing connections take."""
    found, held = [], []
    for port in range(21_000, 32_000):
        listener = socket.socket()
        try:
            listener.bind(("127.0.0.1", port))
        except OSError:
            listener.close()
            continue
        held.append(listener)
        found.append(port)
        if len(found) == count:
            break
    for listener in held:
        listener.close()
    return found


@contextlib.contextmanager
def running(command, log, **more):
    """A program that is ended with the block; what it said is shown when the block fails."""
    with open(log, "wb") as output:
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT, **more)
    try:
        yield process
    except BaseException:
        print(f"--- the end of what {Path(command[0]).name} said\n{Path(log).read_text(errors='replace')[-3000:]}")
        raise
    finally:
        process.terminate()
        process.wait(timeout=HANG)


class Daemon:
    """Ours, on regtest."""

    def __init__(self, process, datadir, rpc_port, port):
        self.process = process
        self.datadir = datadir
        self.rpc_port = rpc_port
        self.port = port
        self.cookie_file = Path(datadir, "regtest", ".cookie")
        until("its cookie file", lambda: self.cookie_file.exists() or process.poll() is not None)
        assert process.poll() is None, "the daemon ended"
        self.rpc = Rpc(rpc_port, self.cookie_file)
        until("its JSON-RPC", self.answers)

    def answers(self):
        try:
            return self.rpc.getblockcount() >= 0
        except (OSError, RuntimeError):
            return False

    def address(self, key):
        """A P2WPKH address of a key."""
        descriptor = self.rpc.getdescriptorinfo(f"wpkh({KEYS[key]})")
        return self.rpc.deriveaddresses(descriptor["descriptor"])[0]

    def pay(self, key, spent, value, payee, amount, fee):
        """A signed transaction that spends output 0 of `spent`, worth `value`, and gives the rest back."""
        rest = round(value - amount - fee, 8)
        outputs = [{payee: f"{amount:.8f}"}, {self.address(key): f"{rest:.8f}"}]
        raw = self.rpc.createrawtransaction([{"txid": spent, "vout": 0}], outputs)
        signed = self.rpc.signrawtransactionwithkey(raw, [KEYS[key]])
        assert signed["complete"], signed
        return signed["hex"]


@contextlib.contextmanager
def daemon(program, *args):
    """A daemon of ours in a folder of its own."""
    with tempfile.TemporaryDirectory() as datadir:
        rpc_port, port = free_ports(2)
        command = [program, "-regtest", f"-datadir={datadir}", f"-rpcport={rpc_port}", f"-bind=127.0.0.1:{port}",
                   "-dnsseed=0", "-fixedseeds=0", "-printtoconsole=0", "-listenonion=0", *args]
        with running(command, Path(datadir, "said.txt")) as process:
            yield Daemon(process, datadir, rpc_port, port)
