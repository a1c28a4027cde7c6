#!/usr/bin/env python3
"""Recomputes every golden vector of the wire format from its plain fields.

Written from the description of the format at the head of src/seal.rs, with nothing but the
standard library, so that two implementations have to agree on every byte. Exits with 1 if any
vector differs. With --write, the sealed texts in vectors.json are written anew instead; that is
for adding a vector, and never for making a changed format pass.
"""

import base64
import hashlib
import hmac
import json
import pathlib
import struct
import sys

FILE = pathlib.Path(__file__).with_name("vectors.json")
SOURCES = {"landing": 1, "handler": 2, "script": 3}
LANDING_WITH_CLICK_DUE = 4


def b64(data):
    return base64.urlsafe_b64encode(data).decode("ascii").rstrip("=")


def item(data):
    """A label of the key derivation: 16 bits of length, big-endian, then the bytes."""
    return struct.pack(">H", len(data)) + data


def short(text):
    """A field of the message: 8 bits of length, then UTF-8; an absent one is empty."""
    data = (text or "").encode("utf-8")
    return struct.pack("B", len(data)) + data


def seal(key, purpose, audience, message, version=1):
    key_id = key["id"].encode("ascii")
    labels = [b"tower-referral", bytes([version]), purpose.encode(), audience.encode(), key_id]
    sub_key = hmac.new(
        bytes.fromhex(key["secret_hex"]), b"".join(map(item, labels)), hashlib.sha256
    ).digest()
    envelope = bytes([version, len(key_id)]) + key_id + message
    tag = hmac.new(sub_key, message, hashlib.sha256).digest()
    return b64(envelope + tag)


def message_of(referral, program):
    source = SOURCES.get(referral["source"], referral["source"])
    # A click is absent, or started for the touch of a random name, or due for it.
    click = referral.get("click") or ""
    is_due = click.startswith("due:")
    touch = bytes.fromhex(click.removeprefix("due:"))
    extra = referral["extra"]
    return b"".join(
        [
            struct.pack(">q", referral["captured_at_ms"]),
            struct.pack(">I", referral["window_s"]),
            bytes([LANDING_WITH_CLICK_DUE if is_due else source]),
            struct.pack("B", len(touch)) + touch,
            short(program),
            short(referral["key"]),
            short(referral["click_id"]),
            short(referral["parameter"]),
            short(referral["landing_path"]),
            bytes([len(extra)]),
            b"".join(short(name) + short(value) for name, value in extra),
        ]
    )


def lesser(referral):
    """The referral and what is left of it, as ever more has to go to make it fit."""
    referral = dict(referral)
    yield referral
    for count in range(len(referral["extra"]) - 1, -1, -1):
        referral = dict(referral, extra=referral["extra"][:count])
        yield referral
    for field in ("landing_path", "parameter"):
        if referral[field] is not None:
            referral = dict(referral, **{field: None})
            yield referral


def sealed_vector(vector):
    """The sealed text of a vector, and the referral that is in it."""
    key = vector["signing_key"]
    for kept in lesser(vector["referral"]):
        if vector["kind"] == "cookie":
            # The cookie's name says which program it is.
            sealed = seal(key, "cookie", vector["cookie_name"], message_of(kept, ""))
        else:
            sealed = token(vector, kept)
        if len(sealed) <= vector["max_len"]:
            return sealed, kept
    raise SystemExit(f"{vector['name']}: key and click ID alone don't fit")


def token(vector, referral, purpose=None):
    purpose = purpose or vector["purpose"]
    expiry = struct.pack(">q", vector["sealed_at_ms"] + vector["life_s"] * 1000)
    message = expiry + message_of(referral, referral["program"])
    return seal(vector["signing_key"], "carry:" + purpose, vector["audience"], message)


def invalid_vector(vector):
    """A text that is signed as it should be, and isn't a referral by the rules of its fields."""
    message = message_of(vector["referral"], vector.get("message_program", ""))
    message = message[: len(message) - vector.get("cut", 0)]
    message += bytes.fromhex(vector.get("append_hex", ""))
    version = vector.get("version", 1)
    return seal(vector["signing_key"], "cookie", vector["cookie_name"], message, version)


def main():
    document = json.loads(FILE.read_text("utf-8"))
    differences = []

    def compare(vector, field, computed):
        if "--write" in sys.argv:
            vector[field] = computed
        elif vector.get(field) != computed:
            differences.append(f"{vector['name']}: {field}\n  {vector.get(field)}\n  {computed}")

    for vector in document["valid"]:
        sealed, kept = sealed_vector(vector)
        compare(vector, "sealed", sealed)
        compare(vector, "kept", kept)
        # The whole referral, for whoever has to write the vector: nothing else gives it a click
        # ID from outside.
        whole = dict(vector, audience="", sealed_at_ms=vector["sealed_at_ms"])
        compare(vector, "whole", token(whole, vector["referral"], purpose="whole"))
    for vector in document["invalid"]:
        compare(vector, "sealed", invalid_vector(vector))

    if "--write" in sys.argv:
        text = json.dumps(document, indent=2, ensure_ascii=False)
        FILE.write_text(text + "\n", "utf-8")
    for difference in differences:
        print(difference, file=sys.stderr)
    count = len(document["valid"]) + len(document["invalid"])
    print(f"{count} vectors, {len(differences)} differences")
    return 1 if differences else 0


if __name__ == "__main__":
    sys.exit(main())
