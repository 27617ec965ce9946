#!/usr/bin/env python3
"""martlet and tgt side by side: qemu-img bench over iscsi://, interleaved in one run.

For each of 4 KiB reads and writes at depth 1 and 32: I/O per second, the daemon's CPU time per I/O, its system calls per I/O (a
separate short run under strace), and the machine's idle share beside each sample, since a busy machine makes a target that sleeps
look slow and one that polls look fast. Prints a Markdown table of medians for docs/performance.md.

Needs root, qemu-utils and qemu-block-extra of one suite, tgt and strace (Debian packages), and a built martlet.
Everything runs on 127.0.0.1 and free ports; what this script starts it stops.
"""

import argparse, os, re, shutil, signal, socket, statistics, subprocess, tempfile, time

CASES = [("read", 1), ("read", 32), ("write", 1), ("write", 32)]


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def cpu_seconds(pid):
    """User and system time of a process and its threads, in seconds."""
    fields = open(f"/proc/{pid}/stat").read().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def idle_and_total():
    fields = [int(f) for f in open("/proc/stat").readline().split()[1:]]
    return fields[3] + fields[4], sum(fields)


def wait_port(port, process, seconds=30):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if process.poll() is not None:
            raise SystemExit("the target ended at once")
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
            return
        except OSError:
            time.sleep(0.05)
    raise SystemExit("the target does not listen")


class Martlet:
    name = "martlet"

    def __init__(self, program, folder, image):
        self.port = free_port()
        state = os.path.join(folder, "state")
        base = [program, "--state", state, "--no-progress", "-q"]
        subprocess.run([*base, "volume", "import", image, "bench"], check=True, stdout=subprocess.DEVNULL)
        self.process = subprocess.Popen(
            [*base, "serve", "--listen", f"127.0.0.1:{self.port}"], stderr=subprocess.PIPE, text=True)
        for line in self.process.stderr:
            if line.startswith("ready"):
                break
        self.url = f"iscsi://127.0.0.1:{self.port}/iqn.2011-05.io.martlet:bench/0"

    def stop(self):
        self.process.send_signal(signal.SIGTERM)
        self.process.wait()


class Tgt:
    name = "tgt"

    def __init__(self, _program, folder, image):
        self.port, self.control = free_port(), str(100 + os.getpid() % 20000)
        disk = os.path.join(folder, "tgt.raw")
        shutil.copyfile(image, disk)
        self.process = subprocess.Popen(
            ["tgtd", "-f", "-C", self.control, "-t", "4", "--iscsi", f"portal=127.0.0.1:{self.port}"],
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        wait_port(self.port, self.process)
        iqn = "iqn.2011-05.io.martlet:peer"
        for words in (["--mode", "target", "--op", "new", "-t", "1", "-T", iqn],
                      ["--mode", "logicalunit", "--op", "new", "-t", "1", "-l", "1", "-b", disk, "--bstype", "rdwr"],
                      ["--mode", "target", "--op", "bind", "-t", "1", "-I", "ALL"]):
            subprocess.run(["tgtadm", "-C", self.control, "--lld", "iscsi", *words], check=True)
        self.url = f"iscsi://127.0.0.1:{self.port}/{iqn}/1"

    def stop(self):
        self.process.kill()
        self.process.wait()


def bench(target, kind, depth, count, size):
    step = 4096 * 257  # scattered, and the same for both
    command = ["qemu-img", "bench", "-f", "raw", "-c", str(count), "-d", str(depth), "-s", "4096",
               "-S", str(step % size), *(["-w"] if kind == "write" else []), target.url]
    cpu, (idle, total) = cpu_seconds(target.process.pid), idle_and_total()
    out = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    seconds = float(re.search(r"Run completed in ([0-9.]+) seconds", out).group(1))
    idle_after, total_after = idle_and_total()
    return {"iops": count / seconds, "cpu_us": (cpu_seconds(target.process.pid) - cpu) / count * 1e6,
            "idle": (idle_after - idle) / max(1, total_after - total)}


def syscalls(target, kind, depth, count, size):
    """System calls per I/O, counted by strace on all threads."""
    with tempfile.NamedTemporaryFile() as report:
        tracer = subprocess.Popen(["strace", "-f", "-c", "-q", "-o", report.name, "-p", str(target.process.pid)],
                                  stderr=subprocess.DEVNULL)
        while "TracerPid:\t0" in open(f"/proc/{target.process.pid}/status").read():
            time.sleep(0.02)
        bench(target, kind, depth, count, size)
        tracer.send_signal(signal.SIGINT)
        tracer.wait()
        calls = [line.split() for line in open(report.name) if line.strip().endswith("total")]
        return int(calls[0][3]) / count if calls and len(calls[0]) > 4 else float("nan")


def main():
    parse = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parse.add_argument("--martlet", default="target/release/martlet")
    parse.add_argument("--rounds", type=int, default=5)
    parse.add_argument("--count", type=int, default=20000, help="I/Os of a sample at depth 32; a quarter at depth 1")
    parse.add_argument("--mib", type=int, default=256)
    asked = parse.parse_args()
    size = asked.mib << 20
    with tempfile.TemporaryDirectory() as folder:
        image = os.path.join(folder, "image.raw")
        with open(image, "wb") as f:
            for _ in range(asked.mib):
                f.write(os.urandom(1 << 20))
        targets = [Martlet(asked.martlet, folder, image), Tgt(None, folder, image)]
        try:
            print(f"4 KiB over 127.0.0.1, {asked.mib} MiB, {asked.rounds} rounds, medians; {os.cpu_count()} processors\n")
            print("| case | target | I/O per s | CPU µs per I/O | system calls per I/O | idle share |")
            print("|---|---|---|---|---|---|")
            for kind, depth in CASES:
                count = asked.count if depth > 1 else asked.count // 4
                samples = {target.name: [] for target in targets}
                for target in targets:
                    bench(target, kind, depth, count // 4, size)
                for _ in range(asked.rounds):
                    for target in targets:
                        samples[target.name].append(bench(target, kind, depth, count, size))
                for target in targets:
                    median = {k: statistics.median(s[k] for s in samples[target.name]) for k in ("iops", "cpu_us", "idle")}
                    calls = syscalls(target, kind, depth, count // 4, size)
                    print(f"| {kind}, depth {depth} | {target.name} | {median['iops']:,.0f} | {median['cpu_us']:.1f} "
                          f"| {calls:.1f} | {median['idle']:.0%} |", flush=True)
        finally:
            for target in targets:
                target.stop()


if __name__ == "__main__":
    main()
