#!/usr/bin/env python3
"""Recomputes every golden vector of wire format 2 from its plain fields, and reads it back.

An independent implementation: written from the descriptions at the head of src/seal/mod.rs and
src/seal/message.rs, with nothing but the standard library, so that two implementations have to agree
on every byte. Exits with 1 if any vector differs. With --write, the sealed texts in vectors.json are
written anew instead; that is for adding a vector, and never for making a changed format pass.
"""

import base64
import hashlib
import hmac
import json
import pathlib
import struct
import sys

FILE = pathlib.Path(__file__).with_name("vectors.json")
VERSION = 2
TAG = 32
SOURCES = {"landing": 1, "handler": 2, "script": 3}
CLICKS = {"settled": 0, "due": 8, "started": 16}
OWN_LINK = 4
TEXTS = ("program", "key", "click_id", "partner_id", "parameter", "landing_path")


def b64(data):
    return base64.urlsafe_b64encode(data).decode("ascii").rstrip("=")


def unb64(text):
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))


def item(data):
    """A label of the key derivation: 16 bits of length, big-endian, then the bytes."""
    return struct.pack(">H", len(data)) + data


def short(text):
    """A field of the message: 8 bits of length, then UTF-8."""
    data = text.encode("utf-8")
    return struct.pack("B", len(data)) + data


def sub_key(key, labels, version=VERSION):
    items = [b"tower-referral", bytes([version])]
    items += [label.encode("utf-8") for label in labels] + [key["id"].encode("ascii")]
    secret = bytes.fromhex(key["secret_hex"])
    return hmac.new(secret, b"".join(map(item, items)), hashlib.sha256).digest()


def seal(key, labels, message, version=VERSION):
    envelope = bytes([version, len(key["id"])]) + key["id"].encode("ascii") + message
    tag = hmac.new(sub_key(key, labels, version), message, hashlib.sha256).digest()
    return b64(envelope + tag)


def unseal(key, labels, sealed):
    """The message of a sealed text, whose tag is right."""
    data = unb64(sealed)
    assert b64(data) == sealed, "one text for one envelope"
    envelope, tag = data[:-TAG], data[-TAG:]
    key_id = key["id"].encode("ascii")
    assert envelope[:2] == bytes([VERSION, len(key_id)])
    assert envelope[2 : 2 + len(key_id)] == key_id
    message = envelope[2 + len(key_id) :]
    expected = hmac.new(sub_key(key, labels), message, hashlib.sha256).digest()
    assert hmac.compare_digest(expected, tag)
    return message


def referral_bytes(referral, program=None):
    """A referral as bytes. `raw_kind` and `raw_present` put something else in their places."""
    source = SOURCES[referral["source"]]
    kind = source | CLICKS[referral["click"]]
    if referral["own_link"]:
        kind |= OWN_LINK
    fixed = [bytes.fromhex(referral[name] or "") for name in ("touch", "refused")]
    fields = dict(referral, program=program)
    texts = [fields[name] for name in TEXTS]
    present = 0
    for bit, field in enumerate([referral["touch"], referral["refused"], *texts]):
        present |= (field is not None) << bit
    extra = referral["extra"]
    return b"".join(
        [
            struct.pack(">qI", referral["captured_at_ms"], referral["window_s"]),
            bytes([referral.get("raw_kind", kind), referral.get("raw_present", present)]),
            *fixed,
            *(short(text) for text in texts if text is not None),
            bytes([len(extra)]),
            *(short(name) + short(value) for name, value in extra),
        ]
    )


class Reader:
    def __init__(self, data):
        self.data = data

    def take(self, count):
        taken, self.data = self.data[:count], self.data[count:]
        assert len(taken) == count
        return taken

    def byte(self):
        return self.take(1)[0]

    def text(self):
        return self.take(self.byte()).decode("utf-8")


def read_referral(reader, program=None):
    """Reads a referral to the end. `program` is its program where the message doesn't name it."""
    captured_at, window = struct.unpack(">qI", reader.take(12))
    kind, present = reader.byte(), reader.byte()
    is_present = lambda bit: present >> bit & 1
    touch = reader.take(8).hex() if is_present(0) else None
    refused = reader.take(4).hex() if is_present(1) else None
    texts = {
        name: reader.text() if is_present(bit) else None for bit, name in enumerate(TEXTS, start=2)
    }
    extra = [[reader.text(), reader.text()] for _ in range(reader.byte())]
    assert not reader.data
    assert (texts["program"] is None) == (program is not None)
    name_of = lambda names, value: next(name for name, one in names.items() if one == value)
    return {
        "program": program or texts.pop("program"),
        "key": texts["key"],
        "click_id": texts["click_id"],
        "partner_id": texts["partner_id"],
        "source": name_of(SOURCES, kind & 3),
        "own_link": bool(kind & OWN_LINK),
        "touch": touch,
        "click": name_of(CLICKS, kind & ~7),
        "refused": refused,
        "captured_at_ms": captured_at,
        "window_s": window,
        "parameter": texts["parameter"],
        "landing_path": texts["landing_path"],
        "extra": extra,
    }


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


def cookie_labels(vector):
    program = vector["referral"]["program"]
    return ["cookie", vector["cookie_name"], program, vector.get("domain", "")]


def carry_labels(vector):
    return ["carry", vector["purpose"], vector["audience"]]


def record_bytes(vector, carried):
    """A reference to a record on the server."""
    record = vector["record"]
    flags = record["click_is_due"] | (carried is not None) << 1 | record["fills_only"] << 2
    head = bytes([2, flags]) + short(record["key_id"]) + bytes.fromhex(record["visitor_hex"])
    return head + (carried or b"")


def sealed_vector(vector):
    """The sealed text of a vector, and the referral that is in it."""
    key = vector["signing_key"]
    for kept in lesser(vector["referral"]):
        if vector["kind"] == "cookie":
            sealed = seal(key, cookie_labels(vector), b"\x01" + referral_bytes(kept))
        elif vector["kind"] == "record":
            carried = referral_bytes(kept) if vector["record"]["carries"] else None
            sealed = seal(key, cookie_labels(vector), record_bytes(vector, carried))
        else:
            sealed = token(vector, kept)
        if len(sealed) <= vector["max_len"]:
            return sealed, kept
    raise SystemExit(f"{vector['name']}: key and click ID alone don't fit")


def token(vector, referral, whole=False):
    expiry = struct.pack(">q", vector["sealed_at_ms"] + vector["ttl_s"] * 1000)
    message = expiry + b"\x01" + referral_bytes(referral, referral["program"])
    labels = ["carry", "whole", ""] if whole else carry_labels(vector)
    return seal(vector["signing_key"], labels, message)


def record_on_server(vector):
    """The ID of the record, as a number, and its text."""
    visitor = bytes.fromhex(vector["record"]["visitor_hex"])
    key = sub_key(vector["signing_key"], ["record"])
    derived = hmac.new(key, visitor, hashlib.sha256).digest()[:16]
    referral = vector["referral"]
    text = b64(b"\x01" + referral_bytes(referral, referral["program"]))
    return str(int.from_bytes(derived, "little", signed=True)), text


def read_back(vector):
    """What the independent reader finds in a sealed text."""
    key, program = vector["signing_key"], vector["referral"]["program"]
    if vector["kind"] == "carry":
        reader = Reader(unseal(key, carry_labels(vector), vector["sealed"]))
        (expiry,) = struct.unpack(">q", reader.take(8))
        assert expiry == vector["sealed_at_ms"] + vector["ttl_s"] * 1000
        assert reader.byte() == 1
        return read_referral(reader)
    reader = Reader(unseal(key, cookie_labels(vector), vector["sealed"]))
    if vector["kind"] == "cookie":
        assert reader.byte() == 1
        return read_referral(reader, program)
    record = vector["record"]
    assert reader.byte() == 2
    flags = reader.byte()
    assert bool(flags & 1) == record["click_is_due"] and bool(flags & 4) == record["fills_only"]
    assert reader.text() == record["key_id"]
    assert reader.take(16).hex() == record["visitor_hex"]
    if flags & 2:
        return read_referral(reader, program)
    assert not reader.data
    text = Reader(unb64(vector["record_text"]))
    assert text.byte() == 1
    return read_referral(text)


def invalid_vector(vector):
    """A text that is signed as it should be, and isn't a referral by the rules of its fields."""
    message = bytes([vector.get("message_kind", 1)])
    message += referral_bytes(vector["referral"], vector.get("message_program"))
    message = message[: len(message) - vector.get("cut", 0)]
    message += bytes.fromhex(vector.get("append_hex", ""))
    version = vector.get("version", VERSION)
    return seal(vector["signing_key"], cookie_labels(vector), message, version)


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
        if vector["kind"] == "record":
            record_id, text = record_on_server(vector)
            compare(vector, "record_id", record_id)
            compare(vector, "record_text", text)
        # The whole referral, for whoever has to write the vector: nothing else gives it a click
        # ID from outside.
        compare(vector, "whole", token(vector, vector["referral"], whole=True))
        found = read_back(vector)
        if found != vector["kept"]:
            differences.append(f"{vector['name']}: read back\n  {vector['kept']}\n  {found}")
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
