#!/usr/bin/env python3
"""Runs Bitcoin Core's functional tests, unmodified, against the binaries built here.

Nothing of Core's is kept in this project: the first argument is a Core source tree. A private
directory is made of symbolic links to its tests, with a config.ini that names our binaries.

    run.py CORE [--list first|second|all|passing] [--jobs N] [--bin DIR] [NAME...]

Prints one line a test and ends with "N passed, M failed". A test has passed when it exits with
0 and writes nothing to standard error; a skip is not a pass.
"""

import argparse
import concurrent.futures
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile
import time

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parent.parent

# The order in which a node comes to life; later lists need more of it.
FIRST = """
rpc_deprecated feature_help feature_posix_fs_permissions rpc_uptime wallet_disable
rpc_named_arguments feature_framework_testshell feature_blocksdir feature_filelock
feature_bind_extra feature_uacomment interface_rpc rpc_users
""".split()
SECOND = """
p2p_block_sync rpc_getchaintips rpc_invalidateblock rpc_preciousblock p2p_getdata
feature_maxtipage p2p_nobloomfilter_messages p2p_ping p2p_leak p2p_timeouts p2p_invalid_block
mining_mainnet p2p_add_connections p2p_handshake rpc_validateaddress rpc_signmessagewithprivkey
""".split()

# Longest a single test may take, in seconds; the slowest of the lists takes a tenth of it.
TEST_DEADLINE = 600
# Ports a test may use lie below the range from which outgoing connections take theirs.
PORT_MIN = int(os.environ.get("TEST_RUNNER_PORT_MIN", "2000"))


def link_tests(core: pathlib.Path, build: pathlib.Path) -> None:
    """A tree of links, one a file: the tests find their helpers beside themselves."""
    for source in (core / "test").rglob("*"):
        target = build / "test" / source.relative_to(core / "test")
        if "__pycache__" in source.parts:
            continue
        if source.is_dir():
            target.mkdir(parents=True, exist_ok=True)
        else:
            target.parent.mkdir(parents=True, exist_ok=True)
            target.symlink_to(source)


def write_config(core: pathlib.Path, build: pathlib.Path, binaries: pathlib.Path) -> None:
    (build / "bin").mkdir()
    for ours, theirs in (
        ("ironpeer", "bitcoind"),
        ("ironpeer-cli", "bitcoin-cli"),
        ("ironpeer-tx", "bitcoin-tx"),
        ("ironpeer-util", "bitcoin-util"),
    ):
        (build / "bin" / theirs).symlink_to(binaries / ours)
    config = f"""[environment]
CLIENT_NAME=Bitcoin Core
CLIENT_BUGREPORT=none
SRCDIR={core}
BUILDDIR={build}
EXEEXT=
RPCAUTH={core}/share/rpcauth/rpcauth.py

[components]
ENABLE_BITCOIND=true
ENABLE_CLI=true
ENABLE_ZMQ=true
"""
    path = build / "test" / "config.ini"
    if path.is_symlink():
        path.unlink()
    path.write_text(config)


def run_one(name: str, build: pathlib.Path, seed: int, extra: list[str]) -> tuple[bool, float, str]:
    script = build / "test" / "functional" / f"{name}.py"
    if not script.exists():
        return False, 0.0, "no such test"
    scratch = build / "tmp" / f"{name}_{seed}"
    command = [
        sys.executable, str(script),
        f"--configfile={build}/test/config.ini",
        f"--cachedir={build}/cache",
        f"--tmpdir={scratch}",
        f"--portseed={seed}",
        *extra,
    ]
    environment = dict(os.environ, TEST_RUNNER_PORT_MIN=str(PORT_MIN), PYTHONDONTWRITEBYTECODE="1",
                       LC_ALL="C.UTF-8")
    began = time.monotonic()
    try:
        done = subprocess.run(command, capture_output=True, text=True, errors="replace",
                              timeout=TEST_DEADLINE, env=environment)
        code, out, err = done.returncode, done.stdout, done.stderr
    except subprocess.TimeoutExpired as late:
        code, out, err = -1, str(late.stdout or ""), "timed out"
    took = time.monotonic() - began
    passed = code == 0 and err == ""
    if passed:
        shutil.rmtree(scratch, ignore_errors=True)
        return True, took, ""
    lines = [line for line in (out + "\n" + err).splitlines() if line.strip()]
    return False, took, f"exit {code}\n" + "\n".join("    " + line for line in lines[-40:])


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("core", type=pathlib.Path, help="Bitcoin Core's source tree")
    parser.add_argument("names", nargs="*", help="tests, without .py")
    parser.add_argument("--list", choices=["first", "second", "all", "passing"])
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--bin", type=pathlib.Path, default=ROOT / "target" / "debug")
    parser.add_argument("--keep", action="store_true", help="keep the private directory")
    options, extra = parser.parse_known_intermixed_args()
    passing = [line.split()[0] for line in (HERE / "passing.txt").read_text().splitlines()
               if line and not line.startswith("#")]
    names = list(options.names)
    chosen = options.list or ("first" if not names else None)
    if chosen:
        names += {"first": FIRST, "second": SECOND, "all": FIRST + SECOND, "passing": passing}[chosen]
    names = list(dict.fromkeys(name.removesuffix(".py") for name in names))

    core = options.core.resolve()
    if not (core / "test" / "functional" / "test_framework").is_dir():
        print(f"error: {core} is no Bitcoin Core source tree", file=sys.stderr)
        return 2
    build = pathlib.Path(tempfile.mkdtemp(prefix="core_functional_"))
    link_tests(core, build)
    write_config(core, build, options.bin.resolve())
    (build / "tmp").mkdir()

    # The first test that needs it would make the cached chain; two at once would collide.
    cache = run_one("create_cache", build, 0, extra)
    if not cache[0]:
        print(f"create_cache FAILED ({cache[1]:.1f} s) {cache[2]}")
    passed = failed = 0
    with concurrent.futures.ThreadPoolExecutor(options.jobs) as pool:
        # Ports follow from the seed: another run beside this one should have others.
        first = os.getpid() % 300
        running = {pool.submit(run_one, name, build, first + index, extra): name for index, name in enumerate(names, 1)}
        for done in concurrent.futures.as_completed(running):
            name = running[done]
            ok, took, why = done.result()
            if ok:
                passed += 1
                print(f"{name} passed ({took:.1f} s)", flush=True)
            else:
                failed += 1
                word = "FAILED, which it did not before" if name in passing else "FAILED"
                print(f"{name} {word} ({took:.1f} s) {why}", flush=True)
    if options.keep or failed:
        print(f"kept {build}")
    else:
        shutil.rmtree(build, ignore_errors=True)
    print(f"{passed} passed, {failed} failed")
    return 0 if failed == 0 else 1


if __name__ == "__main__":
    sys.exit(main())
