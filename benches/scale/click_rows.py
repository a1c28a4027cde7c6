#!/usr/bin/env python3
"""What a late click ID takes on the disk of a PostgreSQL: the outbox's own table, filled by its own statement.

    benches/scale/click_rows.py [--rows N]

The references are as random as those of landings, the click IDs are UUIDs, and each row is a millisecond
after the one before, as at 1,000 landings a second. Prints the figure for `costs.json`: the table with its two
indexes, by row.

It starts a PostgreSQL of its own, on a free port, and a Redis that isn't used (in Debian: postgresql,
redis-server).
"""

import argparse
import base64
import os
import random
import subprocess
import tempfile
import uuid

from ten import ROOT, Servers

POSTGRES = ROOT / "crates/outbox/src/backend/postgres"
# Milliseconds that a referral counts: 30 days.
WINDOW = 30 * 86_400_000


def statements(rows):
    """What fills the table."""
    dice = random.Random(1)
    yield "BEGIN;"
    yield (POSTGRES / "schema_1.sql").read_text()
    yield f"PREPARE put_click (text, text, text, bigint, bigint) AS {(POSTGRES / 'put_click.sql').read_text()};"
    for number in range(rows):
        reference = base64.urlsafe_b64encode(dice.randbytes(8)).decode().rstrip("=")
        click_id = uuid.UUID(bytes=dice.randbytes(16), version=4)
        yield f"EXECUTE put_click ('{reference}', '{click_id}', NULL, {WINDOW}, {number});"
    yield "COMMIT;"


def main():
    arguments = argparse.ArgumentParser()
    arguments.add_argument("--rows", type=int, default=100_000, help="(100,000)")
    rows = arguments.parse_args().rows
    with tempfile.TemporaryDirectory() as directory:
        os.chmod(directory, 0o755)
        servers = Servers(directory)
        try:
            servers.run()
            command = [servers.bin / "psql", servers.url, "-qX", "-v", "ON_ERROR_STOP=1"]
            text = "\n".join(statements(rows))
            subprocess.run(command, check=True, input=text, text=True, stdout=subprocess.DEVNULL)
            count, total, table = servers.psql(
                "SELECT (SELECT count(*) FROM referral_clicks), pg_total_relation_size('referral_clicks'), "
                "pg_relation_size('referral_clicks')"
            ).split("|")
        finally:
            servers.stop()
    each = int(total) / int(count)
    print(f"click_row_bytes {each:6.0f} bytes  {count} rows, {total} bytes with the indexes, {table} without")


if __name__ == "__main__":
    main()
