#!/usr/bin/env python3
"""Mutation score of the engine, on a random sample, resumable.

Draws mutants of the engine that `cargo mutants` knows (cargo install cargo-mutants), puts one after the other into a copy of the
project, and asks three judges, each only when the one before noticed nothing:

  tests        cargo test -p martlet-engine (unit tests and dialogues)
  regressions  the simulator's bug base
  seeds        sim run --profile every for --minutes

A mutant that does not compile does not count; one that runs into the time limit is noticed. The zoo and the doors for fuzzers
are not drawn from: no volume needs them. Every verdict is a line of the ledger
(JSON): runs add up, and a mutant that the ledger has for this very source line is not asked again.

  tools/mutants.py --sample 100 --seed 1          tools/mutants.py --score
"""
import argparse
import json
import math
import os
import random
import re
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
LEDGER = os.path.join(ROOT, "engine", "mutants.jsonl")
APART = ("engine/src/zoo.rs", "engine/src/fuzzing.rs")
CPU_SECONDS = 600
MEMORY = 6 << 30
NOTICED = ("tests", "regressions", "seeds")


def output(command, **more):
    return subprocess.run(command, check=True, capture_output=True, text=True, **more).stdout


def known():
    if not os.path.exists(LEDGER):
        return []
    with open(LEDGER) as f:
        return [json.loads(line) for line in f if line.strip()]


def key(mutant):
    """What the mutant does to which text; line numbers wander."""
    changed = [line for line in mutant["diff"].splitlines() if line[:1] in "+-" and line[:3] not in ("+++", "---")]
    return f'{mutant["file"]}: {mutant["name"].split(": ", 1)[-1]}: ' + " ".join(c.strip() for c in changed)


def bound():
    """A mutant may loop for ever or ask for all memory: CPU seconds and bytes of one process."""
    resource.setrlimit(resource.RLIMIT_CPU, (CPU_SECONDS, CPU_SECONDS))
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))


def run(command, cwd, env, limit):
    """Whether it passed, and what was printed."""
    with subprocess.Popen(command, cwd=cwd, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                          start_new_session=True, preexec_fn=bound) as child:
        try:
            said, _ = child.communicate(timeout=limit)
            return child.returncode == 0, said
        except subprocess.TimeoutExpired:
            os.killpg(child.pid, signal.SIGKILL)
            return False, "late"


def judge(copy, env, minutes, sound):
    tests = ["cargo", "test", "-q", "-p", "martlet-engine", "--lib", "--tests"]
    built, said = run([*tests, "--no-run"], copy, env, 1800)
    if not built:
        return "does not compile", said[-300:]
    good, said = run(tests, copy, env, 900)
    if not good:
        return "tests", failing(said)
    build = ["cargo", "build", "-q", "--profile", "sim", "-p", "sim"]
    built, said = run(build, copy, env, 1800)
    if not built:
        return "does not compile", said[-300:]
    sim = os.path.join(env["CARGO_TARGET_DIR"], "sim", "sim")
    cases = sorted(os.listdir(os.path.join(copy, "sim", "regressions")))
    for case in (c for c in cases if c.endswith(".case")):
        good, said = run([sim, "replay", os.path.join("sim", "regressions", case)], copy, env, 300)
        if not good:
            return "regressions", case
    good, said = run([sim, "run", "--profile", "every", "--minutes", str(minutes), "--seed-base", "1", "--jobs", "1"],
                      copy, env, minutes * 60 * 5 + 300)
    if not good:
        found = re.findall(r"replay (\d+) --profile (\w+)", said)
        # A seed that fails in the sound project says nothing of the mutant.
        for seed, profile in found:
            if run([sound, "replay", seed, "--profile", profile], copy, env, 300)[0]:
                return "seeds", f"{seed} {profile}"
        if not found:
            return "seeds", said[-200:]
    return "survived", ""


def failing(said):
    names = [line.split()[0] for line in said.splitlines() if line.startswith("    ") and "::" in line]
    return names[0] if names else "late or aborted"


def wilson(good, of, z=1.96):
    if not of:
        return 0.0, 1.0
    p, d = good / of, 1 + z * z / of
    middle, half = (p + z * z / (2 * of)) / d, z * math.sqrt(p * (1 - p) / of + z * z / (4 * of * of)) / d
    return middle - half, middle + half


def score():
    latest = {entry["mutant"]: entry for entry in known()}
    viable = [e for e in latest.values() if e["verdict"] != "does not compile"]
    noticed = [e for e in viable if e["verdict"] in NOTICED]
    low, high = wilson(len(noticed), len(viable))
    print(f"{len(latest)} mutants drawn, {len(viable)} viable, {len(noticed)} noticed"
          + "".join(f", by {j} {sum(e['verdict'] == j for e in viable)}" for j in NOTICED)
          + f": {100 * len(noticed) / max(1, len(viable)):.1f} % (95 % interval {100 * low:.1f} to {100 * high:.1f})")
    for entry in viable:
        if entry["verdict"] not in NOTICED:
            print(f'  {entry["verdict"]}: {entry["mutant"]}' + (f'\n      {entry["why"]}' if entry.get("why") else ""))


def main():
    parse = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parse.add_argument("--sample", type=int, default=100, help="mutants to have in the ledger for this seed")
    parse.add_argument("--seed", type=int, default=1)
    parse.add_argument("--minutes", type=float, default=2, help="of seeds for a mutant that the tests let pass")
    parse.add_argument("--target", help="build folder to keep between runs")
    parse.add_argument("--survivors", action="store_true", help="ask again those that survived")
    parse.add_argument("--score", action="store_true", help="only print what the ledger says")
    asked = parse.parse_args()
    if asked.score:
        return score()
    commit = output(["git", "rev-parse", "--short=12", "HEAD"], cwd=ROOT).strip()
    listed = json.loads(output(["cargo", "mutants", "--list", "--json", "--diff", "-p", "martlet-engine"], cwd=ROOT))
    listed = [m for m in listed if m["file"] not in APART]
    listed.sort(key=key)
    random.Random(asked.seed).shuffle(listed)
    wanted = listed[:asked.sample]
    latest = {entry["mutant"]: entry["verdict"] for entry in known()}
    if asked.survivors:
        wanted = [m for m in listed if latest.get(key(m)) == "survived"]
        latest = {}
    with tempfile.TemporaryDirectory() as folder:
        copy = os.path.join(folder, "project")
        ignore = shutil.ignore_patterns("target", ".git", "test-scratch")
        shutil.copytree(ROOT, copy, ignore=ignore)
        env = {**os.environ, "CARGO_TARGET_DIR": asked.target or os.path.join(folder, "target"), "CARGO_INCREMENTAL": "1"}
        sound = os.path.join(folder, "sound")
        subprocess.run(["cargo", "build", "-q", "--profile", "sim", "-p", "sim"], check=True, cwd=copy, env=env)
        shutil.copy(os.path.join(env["CARGO_TARGET_DIR"], "sim", "sim"), sound)
        for n, mutant in enumerate(wanted):
            name = key(mutant)
            if name in latest:
                continue
            began = time.monotonic()
            path = os.path.join(copy, mutant["file"])
            shutil.copyfile(path, path + ".sound")
            subprocess.run(["patch", "-s", "-p1", path], input=mutant["diff"], text=True, check=True, cwd=copy)
            verdict, by = judge(copy, env, asked.minutes, sound)
            os.replace(path + ".sound", path)
            os.utime(path)
            entry = {"mutant": name, "verdict": verdict, "by": by, "seed": asked.seed, "commit": commit,
                     "seconds": round(time.monotonic() - began)}
            with open(LEDGER, "a") as f:
                f.write(json.dumps(entry) + "\n")
            print(f"{n + 1}/{len(wanted)} {verdict} ({by}) {name[:150]}", file=sys.stderr, flush=True)
    score()


if __name__ == "__main__":
    sys.exit(main())
