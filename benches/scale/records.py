#!/usr/bin/env python3
"""What a record costs: the storefront with its referrals in a Redis, beside the same with the cookie.

    benches/scale/records.py [--requests N] [--records N] [--profile PROFILE]

Two shops answer one request at a time over one connection each, in turn, so that what else the machine
does falls on both. The difference of their medians is the record: its read and its write, from end to end.
Then a third shop, whose platform gives each landing a UUID as its click ID, writes records, and Redis says
what they take in its memory. Prints the figures for `costs.json`.

It starts a Redis of its own (in Debian: redis-server), on a free port.
"""

import argparse
import http.client
import http.server
import json
import os
import pathlib
import shutil
import socket
import statistics
import subprocess
import sys
import threading
import time
import uuid

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.append(str(ROOT / "benches/peers"))
import load  # noqa: E402
from loopback import BROWSER, LANDING  # noqa: E402
from ten import free_port, wait_for  # noqa: E402

COOKIE = "__Host-referral"
# Landings a second of the one key: a shop starts 25 clicks.
PACE = 20


class Redis:
    """A Redis that keeps nothing on disk."""

    def __init__(self):
        self.port = free_port()
        options = ["--port", str(self.port), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"]
        self.process = subprocess.Popen(["redis-server", *options], stdout=subprocess.DEVNULL)
        wait_for(self.port, "Redis")

    def ask(self, *words):
        """One command, and the first line or the text of its answer."""
        with socket.create_connection(("127.0.0.1", self.port), timeout=5) as connection:
            connection.sendall((" ".join(words) + "\r\n").encode())
            answer = connection.makefile("rb")
            line = answer.readline().decode().strip()
            return answer.read(int(line[1:])).decode() if line.startswith("$") else line[1:]

    def memory(self):
        """Bytes in use, and keys."""
        info = dict(line.split(":", 1) for line in self.ask("INFO", "memory").splitlines() if ":" in line)
        return int(info["used_memory"]), int(self.ask("DBSIZE"))


class Platform(http.server.ThreadingHTTPServer):
    """Answers each click of Partnac's interface with a UUID."""

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Click)
        self.click_ids = []
        threading.Thread(target=self.serve_forever, daemon=True).start()
        self.options = "--platform", "partnac", "--platform-url", f"http://127.0.0.1:{self.server_port}"


class Click(http.server.BaseHTTPRequestHandler):
    def do_POST(self):
        self.rfile.read(int(self.headers["content-length"]))
        click_id = str(uuid.uuid4())
        answer = json.dumps({"data": {"click_id": click_id}}).encode()
        self.send_response(201)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)
        self.server.click_ids.append(click_id)

    def log_message(self, *_):
        pass


class Shop(load.Shop):
    """One that is asked over one connection."""

    def __init__(self, program, *options, **platform):
        super().__init__(program, options[1], *options, **platform)
        self.connection = http.client.HTTPConnection(self.address)
        self.connection.connect()
        self.connection.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def get(self, path, cookie=None):
        """Microseconds until the page is there, the page, and our cookie."""
        headers = BROWSER | ({"cookie": cookie} if cookie else {})
        began = time.perf_counter_ns()
        self.connection.request("GET", path, headers=headers)
        response = self.connection.getresponse()
        page = response.read().decode()
        took = (time.perf_counter_ns() - began) / 1000
        if response.status != 200:
            sys.exit(f"{path}: {response.status}")
        set_cookie = (response.getheader("set-cookie") or "").split(";")[0]
        return took, page, set_cookie

    def land(self):
        took, _, cookie = self.get(f"/pricing?{LANDING}")
        if not cookie.startswith(COOKIE):
            sys.exit(f"a landing without its cookie: {cookie!r}")
        return took, cookie

    def come_back(self, cookie):
        took, page, _ = self.get("/checkout", cookie)
        if "PARTNER_123" not in page:
            sys.exit("the handler didn't see the referral")
        return took


def main():
    arguments = argparse.ArgumentParser()
    arguments.add_argument("--requests", type=int, default=3000, help="of each kind, of each shop (3000)")
    arguments.add_argument("--records", type=int, default=3000, help="with click IDs, 20 a second (3000)")
    arguments.add_argument("--profile", default="release", help="cargo's; with `dev` only the bytes count")
    arguments = arguments.parse_args()
    if not shutil.which("redis-server"):
        sys.exit("needs Redis (apt-get install redis-server)")
    build = ["cargo", "build", "--profile", arguments.profile, "--locked", "--package", "storefront"]
    subprocess.run(build, check=True, cwd=ROOT)
    target = pathlib.Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target"))
    program = target / ("debug" if arguments.profile == "dev" else arguments.profile) / "storefront"
    redis = Redis()
    shops = []
    try:
        on_server = "--keep", "server", "--store", f"redis://127.0.0.1:{redis.port}"
        shops.append(Shop(program, "--keep", "cookie"))
        shops.append(Shop(program, *on_server))
        measure_times(shops, arguments.requests)
        platform = Platform()
        shops.append(Shop(program, *on_server, platform=platform.options))
        measure_bytes(shops[-1], platform, redis, arguments.records)
    finally:
        for process in [*(shop.process for shop in shops), redis.process]:
            process.kill()


def measure_times(shops, requests):
    landings, returns = ([], []), ([], [])
    # Connections to Redis, buffers and pools find their size.
    cookies = [[shop.land()[1] for _ in range(100)][-1] for shop in shops]
    for turn in range(requests):
        # Whoever is first takes turns.
        for at in (0, 1) if turn % 2 == 0 else (1, 0):
            landings[at].append(shops[at].land()[0])
            returns[at].append(shops[at].come_back(cookies[at]))
    for name, what, (cookie, record) in (
        ("record_read", "a request that loads a record", returns),
        ("record_write", "a landing that writes one", landings),
    ):
        cookie, record = statistics.median(cookie), statistics.median(record)
        print(f"{name:14}{record - cookie:6.0f} µs     {what}: {record:.0f} µs, with the cookie {cookie:.0f} µs")


def measure_bytes(shop, platform, redis, records):
    def land(times):
        for _ in range(times):
            shop.land()
            time.sleep(1 / PACE)
        # The last click ID is on its way to its record.
        time.sleep(1)

    # Its tables grow by doubling: they begin small.
    redis.ask("FLUSHALL", "SYNC")
    land(PACE)
    bytes_before, keys_before = redis.memory()
    clicks_before = len(platform.click_ids)
    land(records)
    bytes_after, keys_after = redis.memory()
    clicks = len(platform.click_ids) - clicks_before
    if keys_after - keys_before != records or clicks != records:
        sys.exit(f"{records} landings made {keys_after - keys_before} records and {clicks} clicks")
    each = (bytes_after - bytes_before) / records
    print(f"{'record_bytes':14}{each:6.0f} bytes  {records} records, {bytes_after - bytes_before} bytes")


if __name__ == "__main__":
    main()
