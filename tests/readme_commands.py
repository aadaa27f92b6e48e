#!/usr/bin/env python3
"""Runs the commands of README.md's shell blocks and of its prose, each the way a reader would.

A command that README.md gains must be given a way to judge it here; one that it loses must go
here too. `./run test` itself is left out: it has run before this.
"""

import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
HANG = 1200


def finish(command, *more):
    """The command ends by itself with exit code 0."""
    run = subprocess.run(["bash", "-c", command, *more], cwd=ROOT, timeout=HANG, stdin=subprocess.DEVNULL,
                         stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    if run.returncode != 0:
        print(run.stdout[-6000:])
    return run.returncode == 0


def until_log(marker, chain_dir):
    """The daemon writes `marker` to its log and ends with exit code 0 on Ctrl-C."""

    def judge(command):
        with tempfile.TemporaryDirectory() as datadir:
            command += f" -datadir={datadir} -port=18590 -rpcport=18595"
            process = subprocess.Popen(["bash", "-c", f"exec {command}"], cwd=ROOT, stdin=subprocess.DEVNULL,
                                       stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
            log = Path(datadir, chain_dir, "debug.log")
            deadline = time.monotonic() + HANG
            while time.monotonic() < deadline and process.poll() is None:
                if log.exists() and marker in log.read_text(errors="replace"):
                    process.send_signal(signal.SIGINT)
                    break
                time.sleep(0.1)
            try:
                code = process.wait(timeout=60)
            except subprocess.TimeoutExpired:
                process.kill()
                code = "none: it did not end"
            if code != 0:
                print(process.stderr.read(), "exit code", code)
            return code == 0

    return judge


JUDGES = {
    "./run demo": finish,
    "./run node -- -regtest": until_log("Done loading", "regtest"),
    "./run node -- -chain=test -loadblock=testdata/testnet3-blocks-1-4000.dat -minimumchainwork=0x00 -connect=0":
        until_log("new best=00000000185b36fa6e406626a722793bea80531515e0b2a99ff05b73738901f1", "testnet3"),
    "cargo build --release --workspace --bins": finish,
    "./run test": None,
    "./run test -p ironpeer-chain": None,
    "./run bench": lambda _: finish("./run bench --blocks 30 --txs 60 --callers 1"),
    # Builds another project for ten minutes the first time.
    "./run clients": None,
    # Needs a source tree of Bitcoin Core, which no clone has.
    "./run core-tests PATH": None,
}


def commands(text):
    found = []
    for block in re.findall(r"```sh\n(.*?)```", text, re.S):
        found += [line.strip() for line in block.splitlines() if line.strip()]
    prose = re.sub(r"```.*?```", "", text, flags=re.S)
    for code in re.findall(r"`([^`]+)`", prose):
        code = re.sub(r"\s+", " ", code)
        if code.startswith(("./run ", "cargo ")):
            found.append(code)
    return list(dict.fromkeys(found))


def main():
    os.environ.setdefault("CARGO_TERM_COLOR", "never")
    found = commands((ROOT / "README.md").read_text())
    failed = [command for command in found if command not in JUDGES]
    for command in failed:
        print(f"NOT  {command}: tests/readme_commands.py does not know how to judge it")
    for command in JUDGES:
        if command not in found:
            print(f"NOT  {command}: README.md no longer has it")
            failed.append(command)
    for command in found:
        judge = JUDGES.get(command)
        if judge is None:
            continue
        start = time.monotonic()
        good = judge(command)
        print(f"{'ok ' if good else 'NOT'}  {command}  ({time.monotonic() - start:.0f} s)", flush=True)
        if not good:
            failed.append(command)
    return 1 if failed else 0


sys.exit(main())
