#!/usr/bin/env python3
"""Mutation score of the engine, on a random sample, resumable.

Draws mutants of the engine that `cargo mutants` knows (cargo install cargo-mutants), puts one after the other into a copy of the
project, and asks three judges, each only when the one before noticed nothing:

  tests        cargo test -p martlet-engine (unit tests and dialogues)
  regressions  the simulator's bug base
  seeds        sim run --profile every for --minutes

A mutant that does not compile does not count; one that runs into the time limit is noticed. The zoo and the doors for fuzzers
are not drawn from: no volume needs them. What a seed draws does not hang on the mutants that it does not draw, so an edit elsewhere
leaves the sample as it is. Every verdict is a line of the ledger (JSON): runs add up, and a mutant that the ledger has for this very
source line is not asked again, but for --survivors. A person adds to a survivor's line `why`, and `"equivalent": true` where the mutant
changes nothing that anybody could see; the score is told with and without these, and as it was when each mutant was asked first.

  tools/mutants.py --sample 100 --seed 1          tools/mutants.py --score
"""
import argparse
import hashlib
import json
import math
import os
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
CPU_SECONDS_TEST = 120
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


def run(command, cwd, env, limit, cpu=CPU_SECONDS):
    """Whether it passed, and what was printed. A mutant may loop for ever or ask for all memory: CPU seconds and bytes of one process
    are bounded."""
    def bound():
        resource.setrlimit(resource.RLIMIT_CPU, (cpu, cpu))
        resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))

    with subprocess.Popen(command, cwd=cwd, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                          start_new_session=True, preexec_fn=bound) as child:
        try:
            said, _ = child.communicate(timeout=limit)
            return child.returncode == 0, said
        except subprocess.TimeoutExpired:
            os.killpg(child.pid, signal.SIGKILL)
            return False, "late"


TESTS = ["cargo", "test", "-q", "-p", "martlet-engine", "--lib", "--tests"]


def judge(copy, env, minutes, sound):
    built, said = run([*TESTS, "--no-run"], copy, env, 1800)
    if not built:
        return "does not compile", said[-300:]
    good, said = run(TESTS, copy, env, 900, CPU_SECONDS_TEST)
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
            if run([sound(), "replay", seed, "--profile", profile], copy, env, 300)[0]:
                return "seeds", f"{seed} {profile}"
        if not found:
            return "seeds", said[-200:]
    return "survived", ""


def failing(said):
    names = re.findall(r"^    ((?:\w+::)*\w+)$", said, re.MULTILINE)
    return names[0] if names else "late or aborted"


def wilson(good, of, z=1.96):
    if not of:
        return 0.0, 1.0
    p, d = good / of, 1 + z * z / of
    middle, half = (p + z * z / (2 * of)) / d, z * math.sqrt(p * (1 - p) / of + z * z / (4 * of * of)) / d
    return middle - half, middle + half


def told(what, noticed, of):
    low, high = wilson(noticed, of)
    print(f"  {what}: {noticed} of {of}, {100 * noticed / max(1, of):.1f} % (95 % interval {100 * low:.1f} to {100 * high:.1f})")


def score():
    asked = {}
    for entry in known():
        asked.setdefault(entry["mutant"], []).append(entry)
    viable = [e for e in asked.values() if e[-1]["verdict"] != "does not compile"]
    noticed = [e for e in viable if e[-1]["verdict"] in NOTICED]
    survived = [e for e in viable if e[-1]["verdict"] not in NOTICED]
    same = [e for e in survived if any(x.get("equivalent") for x in e)]
    print(f"{len(asked)} mutants drawn, {len(viable)} viable, {len(noticed)} noticed: "
          + ", ".join(f"{sum(e[-1]['verdict'] == j for e in noticed)} by {j}" for j in NOTICED))
    told("now", len(noticed), len(viable))
    told(f"now, without {len(same)} that change nothing", len(noticed), len(viable) - len(same))
    for seed in sorted({e[0]["seed"] for e in viable}):
        drawn = [e for e in viable if e[0]["seed"] == seed]
        told(f"seed {seed}, when first asked", sum(e[0]["verdict"] in NOTICED for e in drawn), len(drawn))
    for entries in survived:
        print(f'  {"changes nothing" if entries in same else entries[-1]["verdict"]}: {entries[-1]["mutant"]}')
        for why in [x["why"] for x in entries if x.get("why")][-1:]:
            print(f"      {why}")


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
    listed.sort(key=lambda m: hashlib.sha256(f"{asked.seed} {key(m)}".encode()).digest())
    wanted = listed[:asked.sample]
    latest = {entry["mutant"]: entry["verdict"] for entry in known()}
    if asked.survivors:
        same = {entry["mutant"] for entry in known() if entry.get("equivalent")}
        wanted = [m for m in listed if latest.get(key(m)) == "survived" and key(m) not in same]
        latest = {}
    with tempfile.TemporaryDirectory() as folder:
        copy = os.path.join(folder, "project")
        ignore = shutil.ignore_patterns("target", ".git", "test-scratch")
        # With times of now: cargo must not take what the mutant before left for the sound project.
        shutil.copytree(ROOT, copy, ignore=ignore, copy_function=shutil.copy)
        env = {**os.environ, "CARGO_TARGET_DIR": asked.target or os.path.join(folder, "target"), "CARGO_INCREMENTAL": "1"}

        def sound():
            """The simulator of the sound project, built once a seed has failed."""
            path = os.path.join(folder, "sim")
            if not os.path.exists(path):
                whole = os.path.join(folder, "whole")
                shutil.copytree(ROOT, whole, ignore=ignore, copy_function=shutil.copy)
                subprocess.run(["cargo", "build", "-q", "--profile", "sim", "-p", "sim"], check=True, cwd=whole, env=env)
                shutil.copy(os.path.join(env["CARGO_TARGET_DIR"], "sim", "sim"), path)
            return path

        good, said = run(TESTS, copy, env, 1800)
        if not good:
            raise SystemExit(f"the sound project fails: {failing(said)}")
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
