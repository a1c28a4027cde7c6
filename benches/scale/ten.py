#!/usr/bin/env python3
"""Ten storefronts through a bad day: every landing, click ID, order and report accounted for.

    benches/scale/ten.py [--seconds S] [--processes N] [--visitors PER_SECOND] [--kill-every S]
                         [--keep server|cookie] [--profile PROFILE] [--seed N] [--write FILE]

Ten processes of the shop behind a round-robin proxy, with one PostgreSQL, one Redis and one sandbox of
Partnac, all started here on free ports. Visitors land, come back, sign up and pay, through whichever
process is next, while one process after the other is killed and started again. In the meantime the
signing key is rotated, in two rolling restarts, and a deployment is a third. Then the load stops, the
outbox empties, and the books are compared: what the visitors were told, what is in the shop's tables,
what is in the outbox, what the sandbox has.

Ends with an error if a referral is wrong, a click or a report is there twice or missing without a reason,
or a sign-up or an order that was answered isn't booked. A request that was interrupted because its process
was killed is tried again, as visitors and payment providers do: a landing with another key, so that both are
accounted for.

Needs PostgreSQL and Redis (in Debian: postgresql, redis-server).
"""

import argparse
import asyncio
import collections
import contextlib
import datetime
import glob
import json
import os
import pathlib
import random
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parents[2]
KEYS = [
    "first:AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=",
    "second:IB8eHRwbGhkYFxYVFBMSERAPDg0MCwoJCAcGBQQDAgE=",
]
AGENT = "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0"
PAGE = {
    "user-agent": AGENT,
    "sec-fetch-site": "cross-site",
    "sec-fetch-mode": "navigate",
    "sec-fetch-dest": "document",
}
# Seconds: a busy machine is no error.
PATIENCE = 120
# Seconds within which a click whose process was killed may still have been under way, at most: the
# layer's timeout, and what a busy machine adds.
CLICK_TIME = 5
# Calls that one process may have under way.
CALLS = 64


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def wait_for(port, what):
    end = time.monotonic() + PATIENCE
    while time.monotonic() < end:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
            return
        time.sleep(0.05)
    sys.exit(f"{what} doesn't answer within {PATIENCE} s")


class Servers:
    """PostgreSQL and Redis, in a directory of their own."""

    def __init__(self, directory):
        self.directory = pathlib.Path(directory)
        self.processes = []
        # Debian's first: what is in the path may be a wrapper.
        initdb = [*sorted(glob.glob("/usr/lib/postgresql/*/bin/initdb"), reverse=True), shutil.which("initdb")]
        if not initdb[0] or not shutil.which("redis-server"):
            sys.exit("needs PostgreSQL and Redis (apt-get install postgresql redis-server)")
        self.bin = pathlib.Path(initdb[0]).parent
        # PostgreSQL doesn't run as root.
        self.as_postgres = []
        if os.geteuid() == 0:
            self.as_postgres = ["setpriv", "--reuid=postgres", "--regid=postgres", "--clear-groups"]
            shutil.chown(self.directory, "postgres")

    def run(self):
        self.redis_port = free_port()
        self.start(
            ["redis-server", "--port", str(self.redis_port), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"]
        )
        data = str(self.directory / "data")
        initdb = [*self.as_postgres, self.bin / "initdb", "-D", data, "-U", "postgres", "-A", "trust", "-E", "UTF8"]
        subprocess.run(initdb, check=True, capture_output=True)
        self.port = free_port()
        options = ["listen_addresses=127.0.0.1", "max_connections=400"]
        settings = [part for option in options for part in ("-c", option)]
        self.start(
            [*self.as_postgres, self.bin / "postgres", "-D", data, "-p", str(self.port), "-k", str(self.directory), *settings]
        )
        wait_for(self.redis_port, "Redis")
        wait_for(self.port, "PostgreSQL")
        end = time.monotonic() + PATIENCE
        while self.psql("SELECT 1", check=False) != "1":
            if time.monotonic() > end:
                sys.exit("PostgreSQL doesn't answer")
            time.sleep(0.1)
        self.url = f"postgres://postgres@127.0.0.1:{self.port}/postgres"

    def start(self, command):
        # Not in our process group, so that Ctrl-C is ours to handle.
        log = (self.directory / f"log-{len(self.processes)}").open("wb")
        self.processes.append(
            subprocess.Popen(command, stdout=log, stderr=log, stdin=subprocess.DEVNULL, start_new_session=True)
        )

    def psql(self, query, check=True):
        command = [self.bin / "psql", "-h", "127.0.0.1", "-p", str(self.port), "-U", "postgres", "-AtqX", "-c", query]
        done = subprocess.run(command, check=check, capture_output=True, text=True)
        return done.stdout.strip()

    def rows(self, query):
        text = self.psql(f"SELECT coalesce(json_agg(it), '[]') FROM ({query}) AS it")
        return json.loads(text)

    def stop(self):
        for process in reversed(self.processes):
            # At once, where PostgreSQL would wait for its clients at a SIGTERM.
            process.send_signal(signal.SIGINT)
        for process in self.processes:
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(20)
            process.kill()


class Shop:
    """One process of the storefront."""

    def __init__(self, program, number, options):
        self.program, self.number, self.options = program, number, options
        self.port = free_port()
        self.process = None
        self.keys = (KEYS[0], "")
        # Each time that it ended, and whether it was killed.
        self.ends = []

    async def start(self):
        signing, old = self.keys
        environment = os.environ | {"REFERRAL_KEY": signing, "REFERRAL_OLD_KEYS": old, "RUST_LOG": "off"}
        # The load is on the same cores: a process needs few threads.
        environment["TOKIO_WORKER_THREADS"] = "2"
        command = [self.program, "--listen", f"127.0.0.1:{self.port}", *self.options]
        self.process = await asyncio.create_subprocess_exec(
            *command,
            env=environment,
            stdout=subprocess.PIPE,
            stdin=subprocess.DEVNULL,
            start_new_session=True,
        )
        lines = []
        async with asyncio.timeout(PATIENCE):
            while line := (await self.process.stdout.readline()).decode():
                lines.append(line)
                if line.startswith("listening on "):
                    break
            else:
                sys.exit(f"shop {self.number} doesn't start: {''.join(lines)}")
            # What else it says comes at once.
            while not self.is_announced(lines):
                lines.append((await self.process.stdout.readline()).decode())
        return lines

    def is_announced(self, lines):
        is_sandbox = "--platform-url" not in self.options
        last = "A sandbox in this process" if is_sandbox else "/outbox"
        return any(last in line for line in lines) and (not is_sandbox or lines[-1].strip().startswith("http://"))

    async def end(self, how):
        if self.process is None or self.process.returncode is not None:
            return
        self.process.send_signal(how)
        await self.process.wait()
        self.ends.append((time.monotonic(), how == signal.SIGKILL))

    async def restart(self, how):
        await self.end(how)
        await self.start()


class Proxy:
    """Takes one request on a connection, and gives it to the next process that takes connections."""

    def __init__(self, shops):
        self.shops = shops
        self.next = 0
        # Which process was given the landing with a key.
        self.took = {}
        self.requests = self.refused = self.interrupted = 0

    async def serve(self):
        self.server = await asyncio.start_server(self.handle, "127.0.0.1", 0, backlog=1024)
        self.port = self.server.sockets[0].getsockname()[1]

    async def handle(self, reader, writer):
        try:
            request = await read_message(reader)
            if request:
                writer.write(await self.forward(request))
                await writer.drain()
        except (OSError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()

    async def forward(self, request):
        self.requests += 1
        for _ in self.shops:
            shop = self.shops[self.next % len(self.shops)]
            self.next += 1
            try:
                reader, writer = await asyncio.open_connection("127.0.0.1", shop.port)
            except OSError:
                self.refused += 1
                continue
            line = request.split(b"\r\n", 1)[0]
            if b"?aff=" in line:
                key = line.split(b"?aff=")[1].split(b" ")[0].decode()
                self.took[key] = (shop.number, time.monotonic())
            try:
                writer.write(request)
                await writer.drain()
                answer = await reader.read(-1)
            except OSError:
                answer = b""
            finally:
                writer.close()
            if is_whole(answer):
                return answer
            break
        # What was sent may have been done: it isn't for a proxy to repeat it.
        self.interrupted += 1
        return b"HTTP/1.1 502 Bad Gateway\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"


async def read_message(reader):
    head = await reader.readuntil(b"\r\n\r\n")
    for line in head.split(b"\r\n"):
        name, _, value = line.partition(b":")
        if name.lower() == b"content-length":
            return head + await reader.readexactly(int(value))
    return head


def is_whole(answer):
    head, end, body = answer.partition(b"\r\n\r\n")
    for line in head.split(b"\r\n"):
        name, _, value = line.partition(b":")
        if name.lower() == b"content-length":
            return len(body) == int(value)
    return bool(end)


class Answer:
    def __init__(self, raw):
        head, _, self.body = raw.partition(b"\r\n\r\n")
        status, *lines = head.decode("latin-1").split("\r\n")
        self.status = int(status.split()[1]) if status else 0
        self.headers = [(name.lower(), value.strip()) for name, _, value in (line.partition(":") for line in lines)]

    def json(self):
        return json.loads(self.body)


async def ask(port, method, path, headers=None, body=None):
    """One request on a connection of its own. Status 0 where nothing came."""
    payload = b"" if body is None else json.dumps(body).encode()
    lines = [f"{method} {path} HTTP/1.1", "host: shop.example", "connection: close"]
    lines += [f"{name}: {value}" for name, value in (headers or {}).items()]
    if body is not None:
        lines += ["content-type: application/json", f"content-length: {len(payload)}"]
    try:
        async with asyncio.timeout(PATIENCE):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write("\r\n".join(lines).encode() + b"\r\n\r\n" + payload)
            answer = await reader.read(-1)
            writer.close()
    except (OSError, TimeoutError):
        answer = b""
    return Answer(answer)


class Visitor:
    def __init__(self, day, number):
        self.day, self.number = day, number
        self.cookies = {}
        self.attempts = 0
        # The key of the last landing that was answered.
        self.key = None

    async def ask(self, method, path, headers, body=None):
        if self.cookies:
            headers = headers | {"cookie": "; ".join(f"{name}={value}" for name, value in self.cookies.items())}
        answer = await ask(self.day.proxy.port, method, path, headers, body)
        for name, value in answer.headers:
            if name == "set-cookie":
                cookie, _, attributes = value.partition(";")
                cookie_name, _, cookie_value = cookie.partition("=")
                if "max-age=0" in attributes.lower().replace(" ", ""):
                    self.cookies.pop(cookie_name, None)
                else:
                    self.cookies[cookie_name] = cookie_value
        return answer

    async def land(self):
        """Lands, and with another key where the request was interrupted."""
        while True:
            self.attempts += 1
            key = f"V{self.number}.{self.attempts}"
            answer = await self.ask("GET", f"/pricing?aff={key}", PAGE)
            if answer.status == 200:
                self.key = key
                self.day.landed[key] = self.number
                return
            self.day.interrupted[key] = answer.status
            await asyncio.sleep(0.3)

    async def insist(self, method, path, headers, body=None):
        """Asks until the answer is a 200."""
        for tries in range(600):
            answer = await self.ask(method, path, headers, body)
            if answer.status == 200:
                self.day.retried += tries
                return answer
            if answer.status not in (0, 502, 503):
                break
            await asyncio.sleep(0.3)
        self.day.wrong(f"{method} {path} of visitor {self.number}: {answer.status} {answer.body[:200]}")
        return None

    async def look(self):
        """What a page knows of the visitor, as JSON."""
        headers = {"accept": "application/json", "user-agent": AGENT}
        for tries in range(50):
            answer = await self.insist("GET", "/api/referral", headers)
            if answer is None:
                return None
            referral = answer.json()["referral"]
            key = referral and referral["key"]
            if key == self.key:
                self.day.looks += 1
                return referral
            # The store may have taken longer than a page waits for it; whatever else is seen is wrong.
            if referral is not None:
                break
            self.day.unread += 1
            await asyncio.sleep(0.2)
        self.day.wrong(f"visitor {self.number} landed with {self.key}, and the shop sees {key}")
        return None

    async def live(self, dice):
        await self.land()
        await asyncio.sleep(dice.uniform(0, 1))
        await self.look()
        if dice.random() < 0.3:
            await self.land()
            await self.look()
        if dice.random() < self.day.options.sign_ups:
            await asyncio.sleep(dice.uniform(0, 2))
            await self.buy(dice)

    async def buy(self, dice):
        customer, headers = f"C{self.number}", {"accept": "application/json", "user-agent": AGENT}
        # The shop books what it sees in this request, so it must see it.
        if await self.look() is None:
            return
        body = {"customer": customer, "email": f"{customer}@example.com", "name": "A Customer"}
        if await self.insist("POST", "/signup", headers, body) is None:
            return
        self.day.customers[customer] = self.key
        if dice.random() < 0.5:
            return
        order = f"O{self.number}"
        payment = {"customer": customer, "order": order, "amount": "9.99", "currency": "EUR"}
        started = await self.insist("POST", "/checkout", headers, payment)
        if started is None:
            return
        token = started.json().get("client_reference_id")
        if token is None:
            self.day.without_token += 1
        else:
            payment["client_reference_id"] = token
        # The provider tells of a payment until it is answered, and of one in ten once more.
        for _ in range(2 if dice.random() < 0.1 else 1):
            provider = Visitor(self.day, self.number)
            if await provider.insist("POST", "/webhooks/payment", headers, payment) is None:
                return
        self.day.orders[order] = self.key


class Day:
    """What happens, and what was seen of it."""

    def __init__(self, options, servers, sandbox, shops):
        self.options, self.servers, self.sandbox, self.shops = options, servers, sandbox, shops
        self.proxy = Proxy(shops)
        self.visitors = []
        self.landed, self.interrupted = {}, {}
        self.customers, self.orders = {}, {}
        self.retried = self.looks = self.unread = self.without_token = self.kills = self.restarts = 0
        self.errors = []
        self.busy = asyncio.Lock()

    def wrong(self, what):
        self.errors.append(what)

    async def load(self):
        dice = random.Random(self.options.seed)
        running = set()
        end = time.monotonic() + self.options.seconds
        while time.monotonic() < end:
            visitor = Visitor(self, len(self.visitors))
            self.visitors.append(visitor)
            task = asyncio.create_task(visitor.live(random.Random(dice.random())))
            running.add(task)
            task.add_done_callback(running.discard)
            if len(running) > 400:
                # More than the machine bears: visitors wait for others to go.
                await asyncio.wait(running, return_when=asyncio.FIRST_COMPLETED)
            await asyncio.sleep(dice.expovariate(self.options.visitors))
        await asyncio.gather(*running)

    async def kill(self):
        """Kills one process after the other."""
        number = 0
        while True:
            await asyncio.sleep(self.options.kill_every)
            async with self.busy:
                await self.shops[number % len(self.shops)].restart(signal.SIGKILL)
            self.kills += 1
            number += 1

    async def roll(self, keys):
        """Restarts one process after the other, as a deployment does. Kills go on in between."""
        for shop in self.shops:
            async with self.busy:
                shop.keys = keys
                await shop.restart(signal.SIGTERM)
            self.restarts += 1

    async def deploy(self):
        first, second = KEYS
        part = self.options.seconds / 5
        await asyncio.sleep(part)
        await self.roll((first, second))
        await asyncio.sleep(part)
        await self.roll((second, first))
        await asyncio.sleep(part)
        await self.roll((second, first))

    async def settle(self):
        """Waits until the outbox is empty, however its workers fared."""
        end = time.monotonic() + PATIENCE
        headers = {"accept": "application/json"}
        while True:
            answer = await ask(self.shops[0].port, "GET", "/outbox", headers)
            if answer.status == 200 and answer.json()["waiting"] == 0:
                return answer.json()
            if time.monotonic() > end:
                self.wrong(f"the outbox isn't empty after {PATIENCE} s: {answer.body[:500]}")
                return answer.json() if answer.status == 200 else {}
            await asyncio.sleep(0.5)

    async def listed(self, what):
        """Everything that the sandbox has of something."""
        headers = {"authorization": "Bearer sandbox"}
        found = []
        while True:
            path = f"/v1/tracking/{what}?limit=100&offset={len(found)}"
            page = (await ask(self.sandbox, "GET", path, headers)).json()["data"]
            found += page
            if len(page) < 100:
                return found

    def may_be_interrupted(self, key):
        """Was the process killed that took this landing, so soon that its click was still under way?"""
        number, at = self.proxy.took.get(key, (None, 0))
        ends = [] if number is None else self.shops[number].ends
        return any(was_killed and 0 <= end - at <= CLICK_TIME for end, was_killed in ends)


async def account(day, outbox):
    """Compares the books. Returns the lines of the report."""
    clicks = collections.defaultdict(list)
    for click in await day.listed("clicks"):
        clicks[click["partnership_code"]].append(click["click_id"])
    conversions = collections.defaultdict(list)
    for conversion in await day.listed("conversions"):
        conversions[conversion["unique_id"]].append(conversion["partnership_code"])

    # Landings and clicks: a key is one landing's.
    known = day.landed.keys() | day.interrupted.keys()
    for key in clicks.keys() - known:
        day.wrong(f"the platform has a click of {key}, which nobody landed with")
    for key, ids in clicks.items():
        if len(ids) > 1:
            day.wrong(f"the platform has {len(ids)} clicks of one landing, {key}")
    without = [key for key in day.landed if key not in clicks]
    for key in without:
        if not day.may_be_interrupted(key):
            day.wrong(f"landing {key} has no click, and its process was not killed")
    of_interrupted = sum(key in clicks for key in day.interrupted)

    # Click IDs: what the shop knows now of every visitor's last landing.
    late = {row["click_id"] for row in day.servers.rows("SELECT click_id FROM referral_clicks")}
    found = in_database = lost = 0
    gate = asyncio.Semaphore(32)

    async def look(visitor):
        async with gate:
            return visitor, await visitor.look() if visitor.key else None

    for visitor, referral in await asyncio.gather(*map(look, day.visitors)):
        if referral is None:
            continue
        ids = clicks.get(visitor.key, [])
        if referral["click_id"] in ids:
            found += 1
        elif referral["click_id"] is not None:
            day.wrong(f"visitor {visitor.number} has click ID {referral['click_id']}, and {visitor.key} has {ids}")
        elif late.intersection(ids):
            # In a cookie, until the next request to the process that had the answer. A report finds it.
            in_database += 1
        elif ids:
            lost += 1
            if not day.may_be_interrupted(visitor.key):
                day.wrong(f"the click ID of {visitor.key} is lost, and its process was not killed")

    # Sign-ups and orders: the shop's rows.
    customers = {row["customer"]: row for row in day.servers.rows("SELECT * FROM customers")}
    orders = {row["order_id"]: row for row in day.servers.rows("SELECT * FROM orders")}
    for what, rows, answered in [("customer", customers, day.customers), ("order", orders, day.orders)]:
        for name, key in answered.items():
            credit = json.loads((rows.get(name) or {}).get("credit") or "{}")
            if credit.get("key") != key:
                day.wrong(f"{what} {name} came with {key}, and the shop's row says {credit.get('key')}")
            click_id = credit.get("click_id")
            if click_id is not None and click_id not in clicks.get(key, []):
                day.wrong(f"{what} {name} has click ID {click_id}, which isn't one of {key}")
        for name in rows.keys() - answered.keys():
            day.wrong(f"{what} {name} is in the shop's rows, and nobody was told so")

    # Reports: the outbox and the platform.
    reports = {row["id"]: row for row in day.servers.rows("SELECT id, state, outcome, attempts FROM referral_outbox")}
    expected = {f"signup:{name}": key for name, key in day.customers.items()} | day.orders
    for name, key in expected.items():
        if conversions.get(name, []) != [key]:
            day.wrong(f"report {name} of {key}: the platform has {conversions.get(name)}")
    for name in conversions.keys() - expected.keys():
        day.wrong(f"the platform has a conversion {name}, which nobody made")
    for name, row in reports.items():
        if row["state"] != "done":
            day.wrong(f"report {name} is {row['state']}")
    if len(reports) != len(expected):
        day.wrong(f"{len(reports)} reports in the outbox, and {len(expected)} sign-ups and orders")
    again = sum(row["outcome"] == "duplicate" for row in reports.values())

    return [
        ("visitors", len(day.visitors)),
        ("requests through the proxy", day.proxy.requests),
        ("of these interrupted by a process that ended", day.proxy.interrupted),
        ("processes killed, restarted in three rolling restarts", f"{day.kills}, {day.restarts}"),
        ("landings answered, interrupted and repeated", f"{len(day.landed)}, {len(day.interrupted)}"),
        ("views that saw the right referral", day.looks),
        ("views that saw none, because the store took over 250 ms; asked again", day.unread),
        ("clicks at the platform, of landings that were answered", len(clicks) - of_interrupted),
        ("clicks of landings that were interrupted", of_interrupted),
        ("landings without a click, their process was killed meanwhile", len(without)),
        ("click IDs that reached their visitor's referral", found),
        ("click IDs that wait in the shop's database for a report", in_database),
        ("click IDs lost, their process was killed before it had them", lost),
        ("sign-ups: answered, in the shop's rows", f"{len(day.customers)}, {len(customers)}"),
        ("orders: answered, in the shop's rows", f"{len(day.orders)}, {len(orders)}"),
        ("checkouts that found the store away and credit the customer's own", day.without_token),
        ("reports: in the outbox, at the platform", f"{len(reports)}, {len(conversions)}"),
        ("reports that were sent again and recognised", again),
        ("reports that need a person", len(outbox.get("problems", []))),
    ]


async def run(options, program, directory):
    servers = Servers(directory)
    host = Shop(program, "sandbox", ["--platform", "partnac"])
    shops = []
    try:
        servers.run()
        lines = await host.start()
        sandbox = int(lines[-1].strip().rstrip("/").rsplit(":", 1)[1])
        arguments = ["--platform", "partnac", "--platform-url", f"http://127.0.0.1:{sandbox}/v1/tracking"]
        arguments += ["--database", servers.url, "--keep", options.keep]
        if options.keep == "server":
            arguments += ["--store", f"redis://127.0.0.1:{servers.redis_port}"]
        shops += [Shop(program, number, arguments) for number in range(options.processes)]
        for shop in shops:
            await shop.start()
        day = Day(options, servers, sandbox, shops)
        await day.proxy.serve()
        trouble = [asyncio.create_task(day.kill()), asyncio.create_task(day.deploy())]
        await day.load()
        await trouble[1]
        trouble[0].cancel()
        async with day.busy:
            pass
        for shop in shops:
            if shop.process.returncode is not None:
                await shop.start()
        lines = await account(day, await day.settle())
        return day, lines
    finally:
        for shop in [*shops, host]:
            with contextlib.suppress(ProcessLookupError):
                await shop.end(signal.SIGKILL)
        servers.stop()


def report(options, day, lines):
    date = datetime.date.today()
    command = f"benches/scale/ten.py --seconds {options.seconds} --visitors {options.visitors:g} --keep {options.keep}"
    text = [
        f"Made on {date} by `{command}`, with {options.processes} processes of the profile `{options.profile}` on",
        f"{os.cpu_count()} cores, of which the load and the databases had their share:",
        "",
        "| | |",
        "|---|---:|",
        *(f"| {name} | {value} |" for name, value in lines),
        "",
        "Everything is accounted for." if not day.errors else f"{len(day.errors)} ERRORS:",
        *(f"- {error}" for error in day.errors[:20]),
    ]
    return "\n".join(text) + "\n"


def main():
    arguments = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    arguments.add_argument("--seconds", type=int, default=300, help="of load (300)")
    arguments.add_argument("--processes", type=int, default=10)
    arguments.add_argument("--visitors", type=float, default=40, help="who come in a second (40)")
    arguments.add_argument("--sign-ups", type=float, default=0.2, help="the share of visitors who sign up (0.2)")
    arguments.add_argument("--kill-every", type=float, default=10, help="seconds (10)")
    arguments.add_argument("--keep", choices=["server", "cookie"], default="server", help="where referrals are (server)")
    arguments.add_argument("--profile", default="release", help="cargo's (release)")
    arguments.add_argument("--seed", type=int, default=1, help="of what visitors do (1)")
    arguments.add_argument("--write", metavar="FILE", help="where the report goes, beside the screen")
    options = arguments.parse_args()
    build = ["cargo", "build", "--profile", options.profile, "--locked", "--package", "storefront"]
    subprocess.run(build, check=True, cwd=ROOT)
    target = pathlib.Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target"))
    folder = "debug" if options.profile == "dev" else options.profile
    with tempfile.TemporaryDirectory() as directory:
        os.chmod(directory, 0o755)
        day, lines = asyncio.run(run(options, target / folder / "storefront", directory))
    text = report(options, day, lines)
    print(text, end="")
    if options.write:
        pathlib.Path(options.write).write_text(text)
    sys.exit(bool(day.errors))


if __name__ == "__main__":
    main()
