#!/usr/bin/env python3
"""Guards the speed of the four cases by counting instructions, which a busy machine doesn't change.

    .ci/instructions.py            compares with benches/instructions.toml
    .ci/instructions.py --bless    writes what is counted now into it

Needs valgrind. What is compared is what the layer adds: the requests of benches/traffic with it,
minus without it. Fails if a case takes over TOLERANCE more than is written down. Counts depend on
the compiler and on the kind of processor, so those are written down too; where they differ and the
counts don't fit, it says so with exit code 3, because it then can't know whose doing it is.
"""

import os
import pathlib
import platform
import re
import subprocess
import sys
import tempfile
import tomllib

TOLERANCE = 0.03
CASES = {"a": "a plain", "b": "b browser", "c": "c returning", "d": "d landing"}
ROOT = pathlib.Path(__file__).resolve().parent.parent
BLESSED = ROOT / "benches/instructions.toml"
SOURCE = ROOT / "benches/instructions.rs"


def build():
    """Builds the benchmark and gives the path of its program."""
    command = ["cargo", "bench", "--locked", "--package", "benches", "--bench", "instructions", "--no-run"]
    output = subprocess.run(command, cwd=ROOT, check=True, stderr=subprocess.PIPE, text=True).stderr
    program = pathlib.Path(re.search(r"\((\S+/instructions-\w+)\)", output)[1])
    return program if program.is_absolute() else ROOT / program


def count(program, calls, *arguments):
    """Instructions of one call. Where things lie in memory mustn't matter, so the environment is
    the same for all; valgrind itself puts everything at the same address each time."""
    with tempfile.TemporaryDirectory() as scratch:
        command = ["valgrind", "--tool=callgrind", "--toggle-collect=*::measured*"]
        command += [f"--callgrind-out-file={scratch}/out", str(program), *arguments]
        run = subprocess.run(
            command, env={"PATH": os.environ["PATH"]}, capture_output=True, text=True
        )
    if run.returncode != 0:
        sys.exit(run.stderr)
    return int(re.search(r"Collected : (\d+)", run.stderr)[1]) / calls


def machine():
    """What the counts depend on, apart from the code."""
    version = subprocess.run(["rustc", "--version"], check=True, capture_output=True, text=True)
    flags = pathlib.Path("/proc/cpuinfo").read_text().split()
    vectors = "avx2" if "avx2" in flags else "no avx2"
    return {
        "rustc": version.stdout.split()[1],
        "processor": f"{platform.machine()}, {vectors}",
        "libc": " ".join(platform.libc_ver()),
    }


def main():
    bless = sys.argv[1:] == ["--bless"]
    program = build()
    calls = int(re.search(r"COUNTED: usize = (\d+)", SOURCE.read_text())[1])
    now = {
        name: round(count(program, calls, case, "referrals") - count(program, calls, case, "bare"))
        for case, name in CASES.items()
    }
    now["hmac"] = round(count(program, calls, "hmac"))
    here = machine()

    blessed = {"added": {}} if bless else tomllib.loads(BLESSED.read_text())
    print(f"{'added instructions':20}{'blessed':>10}{'now':>10}{'change':>10}")
    slower, faster = [], []
    for name, counted in now.items():
        before = blessed["added"].get(name, counted)
        change = counted / before - 1
        print(f"{name:20}{before:10}{counted:10}{change:+10.1%}")
        if change > TOLERANCE:
            slower.append(name)
        if change < -TOLERANCE:
            faster.append(name)

    if bless:
        lines = [f'{key} = "{value}"' for key, value in here.items()]
        lines += ["", "[added]", *(f'"{name}" = {counted}' for name, counted in now.items())]
        header = "# Written by `.ci/instructions.py --bless`, which says what these are."
        BLESSED.write_text("\n".join([header, *lines, ""]))
        return
    elsewhere = [f"{key}: {blessed[key]} -> {here[key]}" for key in here if blessed[key] != here[key]]
    again = "write it down with `.ci/instructions.py --bless`, and say why in the commit"
    if slower and elsewhere:
        print(f"slower: {', '.join(slower)}; but it isn't counted as before ({'; '.join(elsewhere)})")
        sys.exit(3)
    if slower:
        sys.exit(f"slower by over {TOLERANCE:.0%}: {', '.join(slower)}. If that is the price, {again}.")
    if faster:
        print(f"faster: {', '.join(faster)}. Keep it: {again}.")


main()
