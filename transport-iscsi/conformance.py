#!/usr/bin/env python3
"""Runs libiscsi's conformance suite (iscsi-test-cu, Debian package libiscsi-bin) against the example target.

    conformance.py [--program PATH] [SUITE ...]

Builds and starts the example `ram_target` once per kind of unit, on free ports of 127.0.0.1, runs every suite in a process
of its own (one process for all would leave a wire hook of one test installed for the others), and compares the verdicts
with what is expected. The tool counts skips as passes; here a skip that is not expected is a failure.
Exit code: 0 as expected, 1 not, 2 the tool is not there.
"""

import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent

# Verdicts of tests that cannot pass here, with the reason.
WRONG = {
    "GetLBAStatus.UnmapSingle": "asks for block i+1 and demands an answer about i+8 when a physical block has 8 blocks",
    "WriteSame10.UnmapUntilEnd": "writes a block of ffh with UNMAP and demands zeros; SBC-3 has such a block written",
}
# On units of 4096-byte blocks the tool writes 512 bytes of a block.
SHORT = {f"ProutReserve.Access{kind}" for kind in ("EA", "WE", "EARO", "WERO", "EAAR", "WEAR")}
NOT_BUILT = {"Sanitize"}
REMOVABLE = {"PreventAllow", "StartStopUnit.Simple"}
READ_ONLY = {"ReadOnly.ReadOnlySBC"}

VARIANTS = {
    "plain": ([], "", set(WRONG), NOT_BUILT | REMOVABLE | READ_ONLY, None),
    "r2t-digests": (["--r2t-only", "--digests"], "?header_digest=crc32c", set(WRONG), NOT_BUILT | REMOVABLE | READ_ONLY, None),
    "removable": (["--removable"], "", set(WRONG), NOT_BUILT | READ_ONLY, None),
    "block-4096": (
        ["--block", "4096"],
        "",
        {"WriteSame10.UnmapUntilEnd"} | SHORT,
        NOT_BUILT | REMOVABLE | READ_ONLY | {"CompareAndWrite.InvalidDataOutSize", "WriteSame10.InvalidDataOutSize", "WriteSame10.UnmapUnaligned",
                                             "WriteSame16.InvalidDataOutSize", "WriteSame16.UnmapUnaligned"},
        None,
    ),
    "read-only": (["--read-only"], "", set(), set(), ["ReadOnly", "Read10", "Read16", "TestUnitReady"]),
}


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def wait_for(port, target):
    while True:
        if target.poll() is not None:
            raise SystemExit("the target ended")
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
            return
        except ConnectionRefusedError:
            time.sleep(0.02)


def suites(only):
    listed = subprocess.run(["iscsi-test-cu", "--list"], capture_output=True, text=True).stdout.split()
    names = [line.split(".")[1] for line in listed if line.startswith("ALL.") and line.count(".") == 1]
    return [name for name in names if not only or name in only]


def run_suite(suite, url):
    """Yields (test, verdict): pass, fail, skip, hang or absent."""
    command = ["timeout", "120", "stdbuf", "-oL", "iscsi-test-cu", "-d", "-S", "-t", f"ALL.{suite}", url, url]
    out = subprocess.run(command, capture_output=True, text=True, errors="replace").stdout
    name, text, count = None, "", 0
    for line in out.split("\n"):
        begin = re.match(r"^  Test: (\S+) \.\.\.(.*)$", line)
        if begin:
            name, text, line = begin.group(1), "", begin.group(2)
        end = re.match(r"^(passed|FAILED)(?:$|\s{4}.*)", line)
        if end and name:
            count += 1
            skipped = "[SKIPPED]" in text or "[SKIPPING]" in text
            verdict = "fail" if end.group(1) == "FAILED" else "skip" if skipped else "pass"
            yield f"{suite}.{name}", verdict
            name = None
        else:
            text += line + "\n"
    if name:
        yield f"{suite}.{name}", "hang"
    if count == 0:
        yield suite, "absent"


def main():
    if not shutil.which("iscsi-test-cu"):
        print("iscsi-test-cu is not installed (Debian package libiscsi-bin)", file=sys.stderr)
        return 2
    args = sys.argv[1:]
    program = None
    if args[:1] == ["--program"]:
        program, args = args[1], args[2:]
    if program is None:
        build = ["cargo", "build", "--release", "-p", "martlet-transport-iscsi", "--example", "ram_target"]
        subprocess.run(build, cwd=HERE.parent, check=True)
        program = HERE.parent / "target/release/examples/ram_target"
    surprises = 0
    for variant, (options, query, wrong, skips, only) in VARIANTS.items():
        port = free_port()
        # A file and not a pipe: nobody would read the log, and a full pipe stops the target.
        log = tempfile.TemporaryFile("w+")
        target = subprocess.Popen([program, f"127.0.0.1:{port}", *options], stderr=log)
        try:
            wait_for(port, target)
            url = f"iscsi://127.0.0.1:{port}/iqn.2011-05.io.martlet:ram/0{query}"
            counts = {}
            for suite in suites(args or only):
                for test, verdict in run_suite(suite, url):
                    counts[verdict] = counts.get(verdict, 0) + 1
                    may_fail = verdict == "fail" and test in wrong
                    may_skip = verdict == "skip" and (test in skips or test.split(".")[0] in skips)
                    if verdict != "pass" and not may_fail and not may_skip:
                        surprises += 1
                        print(f"{variant}: {test}: {verdict}")
            print(f"{variant}: " + ", ".join(f"{count} {verdict}" for verdict, count in sorted(counts.items())))
        finally:
            target.send_signal(signal.SIGTERM)
            target.wait()
            log.close()
    return 1 if surprises else 0


if __name__ == "__main__":
    sys.exit(main())
