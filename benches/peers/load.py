#!/usr/bin/env python3
"""The storefront under load, beside the same storefront without the layer: errors, latencies, memory.

    benches/peers/load.py [--seconds S] [--slice S] [--profile PROFILE] [--write FILE]

Both shops run all the time, and wrk asks them in turn, for one of the four
kinds of requests at a time: every slice of the one is followed by the same slice of the other, and
whoever is first takes turns. So what else the machine does falls on both, and the ratios are medians
over the rounds of the ratio within a round. Latencies are of all requests of a kind, from wrk's own
counts in microseconds, not medians of medians.

Ends with an error if one request failed, if a shop answers anything but what it should, or if the
memory of the shop with the layer goes on growing. By default it takes ten minutes; docs/load.md is
made by

    benches/peers/load.py --write docs/load.md

Needs wrk (in Debian: apt-get install wrk), two cores, and Linux for the memory.
"""

import argparse
import collections
import datetime
import http.client
import os
import pathlib
import statistics
import subprocess
import sys
import tempfile

import loopback
from loopback import BROWSER, CONNECTIONS, CORES, FOREIGN, LANDING

ROOT = pathlib.Path(__file__).resolve().parents[2]
KEY = "load:AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8="
# Seconds: a busy machine is no error.
TIME_LIMIT = 30
PERCENTILES = (50, 90, 99, 99.9)
# After the first round, in which buffers and pools find their size.
MOST_GROWTH_KIB = 4096

# What wrk has counted, a line each: errors, the time that it took, and each latency with its number.
REPORT = """
done = function(summary, latency, requests)
    local e = summary.errors
    print("errors " .. e.connect + e.read + e.write + e.timeout .. " " .. e.status)
    print("took " .. summary.duration)
    print("requests " .. summary.requests)
    for i = 1, #latency do
        local value, count = latency(i)
        print("latency " .. value .. " " .. count)
    end
end
"""


class Shop(loopback.Shop):
    def __init__(self, program, name, *options, platform=("--platform", "none")):
        self.name = name
        command = ["taskset", "-c", CORES[0], program, "--listen", "127.0.0.1:0", *platform, *options]
        environment = os.environ | {"REFERRAL_KEY": KEY, "RUST_LOG": "off"}
        environment.pop("REFERRAL_OLD_KEYS", None)
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment)
        self.address = self.process.stdout.readline().strip().removeprefix("listening on http://")
        self.memory = [self.resident()]

    def resident(self):
        """KiB of memory."""
        status = pathlib.Path(f"/proc/{self.process.pid}/status").read_text()
        return int(status.split("VmRSS:")[1].split()[0])

    def get(self, path, headers):
        """Status, cookie and page."""
        connection = http.client.HTTPConnection(self.address)
        connection.request("GET", path, headers=headers)
        response = connection.getresponse()
        return response.status, response.getheader("set-cookie"), response.read().decode()

    def load(self, report, case, seconds):
        figures = Figures()
        output, figures.cpu = self.wrk(case, seconds, "-s", report, "--timeout", f"{TIME_LIMIT}s")
        for line in output.splitlines():
            match line.split():
                case ["errors", socket, status]:
                    figures.socket_errors, figures.bad_answers = int(socket), int(status)
                case ["took", micros]:
                    figures.seconds = int(float(micros)) / 1e6
                case ["requests", count]:
                    figures.requests = int(count)
                case ["latency", micros, count]:
                    figures.latencies[int(float(micros))] += int(count)
        self.memory.append(self.resident())
        return figures


class Figures:
    def __init__(self):
        self.requests = self.socket_errors = self.bad_answers = self.cpu = 0
        self.seconds = 0.0
        self.latencies = collections.Counter()

    def __iadd__(self, other):
        self.requests += other.requests
        self.socket_errors += other.socket_errors
        self.bad_answers += other.bad_answers
        self.cpu += other.cpu
        self.seconds += other.seconds
        self.latencies += other.latencies
        return self

    def errors(self):
        return self.socket_errors + self.bad_answers

    def columns(self):
        """What is compared: requests per second, milliseconds, microseconds of a processor."""
        percentiles = [self.percentile(percent) for percent in PERCENTILES]
        return [self.requests / self.seconds, *percentiles, self.cpu / 1000 / self.requests]

    def percentile(self, percent):
        """In milliseconds."""
        left = sum(self.latencies.values()) * percent / 100
        for micros, count in sorted(self.latencies.items()):
            left -= count
            if left <= 0:
                return micros / 1000
        return max(self.latencies, default=0) / 1000


def cases(shop):
    """Path and headers of each kind of request. `shop` has the layer and gives the cookie."""
    foreign = "; ".join(FOREIGN)
    ours = shop.get(f"/pricing?{LANDING}", BROWSER)[1].split(";")[0]
    with_ours = "; ".join([*FOREIGN[:5], ours, *FOREIGN[5:]])
    return {
        "a plain": ("/pricing", {"accept": "*/*"}),
        "b browser": ("/pricing?page=2&sort=price", BROWSER | {"cookie": foreign}),
        "c returning": ("/pricing?page=2&sort=price", BROWSER | {"cookie": with_ours}),
        "d landing": (f"/pricing?{LANDING}", BROWSER | {"cookie": foreign}),
    }


def check(shops, kinds):
    """What is about to be measured is what it says."""
    for shop in shops:
        has_layer = shop is shops[0]
        for kind, (path, headers) in kinds.items():
            status, cookie, page = shop.get(path, headers)
            knows = "You were referred by <strong>PARTNER_123<" in page
            expected = (has_layer and kind == "d landing", has_layer and kind[0] in "cd")
            if status != 200 or (cookie is not None, knows) != expected:
                sys.exit(f"{shop.name}, {kind}: {status}, cookie {cookie}, knows who it was: {knows}")


def main():
    arguments = argparse.ArgumentParser()
    arguments.add_argument("--seconds", type=int, default=600, help="in all (600)")
    arguments.add_argument("--slice", type=int, default=2, help="seconds of one slice (2)")
    arguments.add_argument("--profile", default="release", help="cargo's; `dev` checks, and measures nothing")
    arguments.add_argument("--write", metavar="FILE", help="where the report goes, beside the screen")
    arguments = arguments.parse_args()
    loopback.need_wrk()
    build = ["cargo", "build", "--profile", arguments.profile, "--locked", "--package", "storefront"]
    subprocess.run(build, check=True, cwd=ROOT)
    target = pathlib.Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target"))
    folder = "debug" if arguments.profile == "dev" else arguments.profile
    program = target / folder / "storefront"

    shops = [Shop(program, "with the layer"), Shop(program, "without it", "--without-layer")]
    try:
        with tempfile.NamedTemporaryFile("w", suffix=".lua") as script:
            script.write(REPORT)
            script.flush()
            kinds = cases(shops[0])
            check(shops, kinds)
            before = os.getloadavg()[0]
            figures, rounds = measure(shops, kinds, script.name, arguments)
            check(shops, kinds)
    finally:
        for shop in shops:
            shop.process.kill()
    text, held = report(shops, kinds, figures, rounds, arguments, (before, os.getloadavg()[0]))
    print(text, end="")
    if arguments.write:
        pathlib.Path(arguments.write).write_text(text)
    sys.exit(not held)


def measure(shops, kinds, script, arguments):
    figures = {(kind, shop.name): [] for kind in kinds for shop in shops}
    rounds = max(1, round(arguments.seconds / (arguments.slice * len(figures))))
    for turn in range(rounds):
        for kind, case in kinds.items():
            # Whoever is first takes turns.
            for shop in shops if turn % 2 == 0 else reversed(shops):
                figures[kind, shop.name].append(shop.load(script, case, arguments.slice))
    return figures, rounds


def sum_of(slices):
    total = Figures()
    for one in slices:
        total += one
    return total


def slope(memory):
    """KiB that are added by a slice, by least squares."""
    middle, mean = (len(memory) - 1) / 2, sum(memory) / len(memory)
    spread = sum((at - middle) ** 2 for at in range(len(memory)))
    return sum((at - middle) * (kib - mean) for at, kib in enumerate(memory)) / (spread or 1)


def report(shops, kinds, figures, rounds, arguments, load_average):
    lines = [
        "# Load",
        "",
        "The storefront under load, beside the same storefront without the layer (`--without-layer`), both",
        f"built with the profile `{arguments.profile}`. Made on {datetime.date.today()}, in {len(figures) * rounds * arguments.slice} s of load, by",
        "",
        "```sh",
        f"benches/peers/load.py --seconds {arguments.seconds} --slice {arguments.slice} --write docs/load.md",
        "```",
        "",
        f"{rounds} rounds; in each, wrk asks for every kind of request in turn with {CONNECTIONS} connections, {arguments.slice} s",
        "of the one shop, then of the other. Each shop has one core, wrk another. Latency is what wrk saw,",
        "over all requests of a kind. The ratio is of the shop with the layer to the one without it: the median",
        "over the rounds of the ratio within a round.",
        "",
        f"The machine has {os.cpu_count()} cores, and a load average of {load_average[0]:.1f} before and {load_average[1]:.1f} after, of which this program makes up",
        "to 2. What others do there is in every latency, above all in the tail; it falls on both shops",
        "alike, so ratios hold better than figures, and best of all those of the time on a processor.",
        "",
        "## Errors and latency",
        "",
        "| request | shop | requests | errors | requests/s | p50 | p90 | p99 | p99.9 | CPU per request |",
        "|---|---|---:|---:|---:|---:|---:|---:|---:|---:|",
    ]
    totals = {key: sum_of(slices) for key, slices in figures.items()}
    for kind in kinds:
        for shop in shops:
            total = totals[kind, shop.name]
            per_second, *latencies, cpu = total.columns()
            latencies = " | ".join(f"{millis:.2f} ms" for millis in latencies)
            lines.append(
                f"| {kind} | {shop.name} | {total.requests} | {total.errors()} | {per_second:.0f} "
                f"| {latencies} | {cpu:.1f} µs |"
            )
        pairs = zip(*(figures[kind, shop.name] for shop in shops))
        ratios = [[ours / bare for ours, bare in zip(one.columns(), other.columns())] for one, other in pairs]
        medians = " | ".join(f"{statistics.median(column):.2f}" for column in zip(*ratios))
        lines.append(f"| | ratio | | | {medians} |")
    errors = sum(total.errors() for total in totals.values())
    requests = sum(total.requests for total in totals.values())
    lines += [
        "",
        "*a* is a request without cookies and query, *b* a browser's page visit with 600 bytes of other",
        "cookies, *c* the same with our cookie among them, *d* a landing that is captured. The pages say who",
        "referred the visitor, so those of *c* and *d* aren't the same in both shops: the card with the",
        "referral is made by the shop's own template, and its cost is in these figures, too.",
        "",
        f"{requests} requests in all: {errors} errors (sockets, no answer within {TIME_LIMIT} s, answers that aren't 2xx",
        "or 3xx).",
        "",
        "## Memory",
        "",
        "Resident memory in KiB after each slice.",
        "",
        "| round | " + " | ".join(shop.name for shop in shops) + " |",
        "|---:|" + "---|" * len(shops),
        "| start | " + " | ".join(str(shop.memory[0]) for shop in shops) + " |",
    ]
    for turn in range(rounds):
        of_a_round = slice(1 + turn * len(kinds), 1 + (turn + 1) * len(kinds))
        cells = (", ".join(map(str, shop.memory[of_a_round])) for shop in shops)
        lines.append(f"| {turn + 1} | " + " | ".join(cells) + " |")
    after = {shop.name: shop.memory[len(kinds) :] for shop in shops}
    growth = {name: memory[-1] - memory[0] for name, memory in after.items()}
    held = errors == 0 and growth[shops[0].name] <= MOST_GROWTH_KIB
    lines.append("")
    for name, memory in after.items():
        lines.append(
            f"From the end of the first round on, the shop {name} took {growth[name]:+} KiB: by least squares "
            f"{slope(memory):+.2f} KiB for each slice."
        )
    lines.append(f"More than {MOST_GROWTH_KIB} KiB with the layer would be an error.")
    return "\n".join(lines) + "\n", held


if __name__ == "__main__":
    main()
