#!/usr/bin/env python3
"""A whole shop over loopback, under load: without a layer, with one that does nothing, with ours, with
the hand-written middleware, and without one again.

    benches/peers/loopback.py [--rounds N] [--seconds S] [VARIANT…]

Prints requests per second and the server's CPU time per request, for the four cases, against the
bare shop's. The shops (src/bin/shop.rs) run on one core, wrk on another. Each round gives every shop
a turn, and the figure is the median over the rounds of its ratio to the bare shop in the same round;
`bare again`, the same shop once more, shows how far such a figure can be trusted.

Needs wrk (in Debian: apt-get install wrk) and two cores.
"""

import argparse
import http.client
import os
import pathlib
import re
import shutil
import statistics
import subprocess
import sys

HERE = pathlib.Path(__file__).resolve().parent
BROWSER = {
    "user-agent": "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0",
    "accept": "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8",
    "accept-language": "en-GB,en;q=0.7,de;q=0.3",
    "accept-encoding": "gzip, deflate, br, zstd",
    "referer": "https://news.example/",
    "upgrade-insecure-requests": "1",
    "sec-fetch-dest": "document",
    "sec-fetch-mode": "navigate",
    "sec-fetch-site": "cross-site",
    "priority": "u=0, i",
}
# 600 bytes, as in benches/traffic.
FOREIGN = [
    (f"_script_{at}_session=GA1.2.1843027541.17000000{at:02}." + "0123456789abcdef" * 2)[: 58 + at // 8]
    for at in range(10)
]
LANDING = "utm_source=news&aff=PARTNER_123"
CONNECTIONS = 16
# The shop has the first, wrk the second.
CORES = [str(core) for core in sorted(os.sched_getaffinity(0))]


class Shop:
    def __init__(self, program, variant):
        self.variant = variant
        command = ["taskset", "-c", CORES[0], program, variant.removesuffix(" again")]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        self.address = self.process.stdout.readline().strip()

    def landing_cookie(self):
        """What a browser holds after a landing; for the bare shop, one of the layer's length."""
        connection = http.client.HTTPConnection(self.address)
        connection.request("GET", f"/pricing?{LANDING}", headers=BROWSER)
        line = connection.getresponse().getheader("set-cookie")
        return line.split(";")[0] if line else "__Host-referral=" + "x" * 119

    def cases(self):
        """Path and headers of each case."""
        foreign = "; ".join(FOREIGN)
        with_ours = "; ".join([*FOREIGN[:5], self.landing_cookie(), *FOREIGN[5:]])
        return {
            "a plain": ("/pricing", {"accept": "*/*"}),
            "b browser": ("/pricing?page=2&sort=price", BROWSER | {"cookie": foreign}),
            "c returning": ("/checkout?page=2&sort=price", BROWSER | {"cookie": with_ours}),
            "d landing": (f"/pricing?{LANDING}", BROWSER | {"cookie": foreign}),
        }

    def cpu(self):
        """Nanoseconds on a processor so far, all threads."""
        tasks = pathlib.Path(f"/proc/{self.process.pid}/task")
        return sum(int((task / "schedstat").read_text().split()[0]) for task in tasks.iterdir())

    def wrk(self, case, seconds, *options):
        """What wrk says, and the server's CPU nanoseconds meanwhile."""
        path, headers = case
        command = ["taskset", "-c", CORES[1], "wrk", "-t1", f"-c{CONNECTIONS}", f"-d{seconds}s", *options]
        for name, value in headers.items():
            command += ["-H", f"{name}: {value}"]
        before = self.cpu()
        report = subprocess.run(
            [*command, f"http://{self.address}{path}"], check=True, capture_output=True, text=True
        ).stdout
        return report, self.cpu() - before

    def load(self, case, seconds):
        """Requests per second, and the server's CPU nanoseconds for each."""
        report, used = self.wrk(case, seconds)
        if "Non-2xx" in report or "Socket errors" in report:
            sys.exit(report)
        requests, took = re.search(r"(\d+) requests in ([\d.]+)s", report).groups()
        per_second = re.search(r"Requests/sec:\s+([\d.]+)", report)[1]
        return float(per_second), used / int(requests)


def need_wrk():
    if not shutil.which("wrk") or len(CORES) < 2:
        sys.exit("needs wrk (apt-get install wrk) and two cores")


def main():
    arguments = argparse.ArgumentParser()
    arguments.add_argument("--rounds", type=int, default=9)
    arguments.add_argument("--seconds", type=int, default=2)
    arguments.add_argument("variants", nargs="*", default=["empty", "layer", "hand"])
    arguments = arguments.parse_args()
    need_wrk()
    manifest = ["--manifest-path", str(HERE / "Cargo.toml")]
    build = ["cargo", "build", "--release", "--bin", "shop", "--message-format=short", *manifest]
    subprocess.run(build, check=True)
    target = os.environ.get("CARGO_TARGET_DIR", HERE / "target")
    variants = ["bare", *arguments.variants, "bare again"]
    shops = [Shop(f"{target}/release/shop", variant) for variant in variants]
    try:
        measure(shops, arguments.rounds, arguments.seconds)
    finally:
        for shop in shops:
            shop.process.kill()


def measure(shops, rounds, seconds):
    cases = [shop.cases() for shop in shops]
    figures = {(case, shop.variant): [] for case in cases[0] for shop in shops}
    for turn in range(rounds):
        for case in cases[0]:
            # Everybody is first in turn.
            for at in range(len(shops)):
                at = (at + turn) % len(shops)
                loaded = shops[at].load(cases[at][case], seconds)
                figures[case, shops[at].variant].append(loaded)

    print(f"{rounds} rounds of {seconds} s; ratios to the bare shop\n")
    print("| case | shop | requests/s | ratio | CPU per request | ratio |\n|---|---|---:|---:|---:|---:|")
    for (case, variant), loads in figures.items():
        bare = figures[case, "bare"]
        per_second, cpu = (statistics.median(column) for column in zip(*loads))
        faster = statistics.median(load[0] / other[0] for load, other in zip(loads, bare))
        dearer = statistics.median(load[1] / other[1] for load, other in zip(loads, bare))
        print(f"| {case} | {variant} | {per_second:.0f} | {faster:.3f} | {cpu / 1000:.2f} µs | {dearer:.3f} |")


if __name__ == "__main__":
    main()
