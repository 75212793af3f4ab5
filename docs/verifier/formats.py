"""The formats of Domicile's bundles: bytes in, values out, and `Refused` for whatever is not as it should be.

Deterministic CBOR, C2SP notes and checkpoints, entries, statements and frames, as docs/audit.md has them.
"""
import base64
import binascii
import hashlib
import re
from types import MappingProxyType

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

MAGIC = b"domicile-bundle 1\n"
MAX_ITEM = MAX_FRAME = 1 << 20
NOTHING = MappingProxyType({})


class Refused(Exception):
    """Bytes that are not what they should be."""


def sha256(*parts):
    return hashlib.sha256(b"".join(parts)).digest()


# ---- Deterministic CBOR: one value has one encoding -----------------------------------------------------


def cbor(data):
    """The one item that the whole of `data` encodes: int, bytes, str, list, or dict with int keys."""
    if len(data) > MAX_ITEM:
        raise Refused("too large")
    item, end = cbor_item(data, 0, 8)
    if end != len(data):
        raise Refused("not deterministic CBOR: something follows")
    return item


def cbor_head(data, at):
    if at >= len(data):
        raise Refused("not deterministic CBOR: cut short")
    kind, info = data[at] >> 5, data[at] & 31
    if info < 24:
        return kind, info, at + 1
    if info > 27:
        raise Refused("not deterministic CBOR: no definite length")
    width = 1 << (info - 24)
    number = data[at + 1 : at + 1 + width]
    value = int.from_bytes(number, "big")
    if len(number) < width or value < (24, 1 << 8, 1 << 16, 1 << 32)[info - 24]:
        raise Refused("not deterministic CBOR: a number is cut short or longer than it need be")
    return kind, value, at + 1 + width


def cbor_item(data, at, depth):
    kind, number, at = cbor_head(data, at)
    if kind == 0:
        return number, at
    if kind == 1:
        return -1 - number, at
    if kind in (2, 3):
        content = data[at : at + number]
        if len(content) < number:
            raise Refused("not deterministic CBOR: cut short")
        try:
            return (content if kind == 2 else content.decode("utf-8")), at + number
        except UnicodeDecodeError:
            raise Refused("not deterministic CBOR: text is not UTF-8") from None
    if kind > 5 or depth == 0:
        raise Refused("not deterministic CBOR: a kind that is not in use, or too deep")
    items, last = ([] if kind == 4 else {}), -1
    for _ in range(number):
        if kind == 5:
            key_kind, key, at = cbor_head(data, at)
            if key_kind != 0 or key <= last:
                raise Refused("not deterministic CBOR: keys are unsigned and rise")
            last = key
        item, at = cbor_item(data, at, depth - 1)
        if kind == 4:
            items.append(item)
        else:
            items[key] = item
    return items, at


# Kinds of fields: each takes a value and returns it, or what it stands for, or refuses it.


def demand(fits, value):
    if not fits:
        raise Refused("does not fit")
    return value


def unsigned(bits):
    return lambda value: demand(isinstance(value, int) and 0 <= value < 1 << bits, value)


def sized(length):
    return lambda value: demand(isinstance(value, bytes) and len(value) == length, value)


def blob(most):
    return lambda value: demand(isinstance(value, bytes) and len(value) <= most, value)


def text(most):
    return lambda value: demand(isinstance(value, str) and len(value.encode()) <= most, value)


def form(pattern):
    shape = re.compile(pattern)
    return lambda value: demand(isinstance(value, str) and shape.fullmatch(value) is not None, value)


def choice(known):
    return lambda value: demand(isinstance(value, (int, str)) and value in known, value)


def listed(value):
    return demand(isinstance(value, list), value)


def when(value):
    return demand(isinstance(value, int) and -(2**63) <= value < 2**63, value)


def fields(what, value, need, may=NOTHING):
    """Takes a map apart: `need` and `may` name each key, its name and its kind; no other key may stand."""
    if not isinstance(value, dict):
        raise Refused(f"{what}: not a map")
    found, left = {}, len(value)
    for key, (name, kind) in (*need.items(), *may.items()):
        if key in value:
            left -= 1
            try:
                found[name] = kind(value[key])
            except Refused as why:
                raise Refused(f"{what}: field {key} {why}") from None
        elif key in need:
            raise Refused(f"{what}: field {key} is missing")
        else:
            found[name] = None
    if left:
        raise Refused(f"{what}: a field is unknown")
    return found


# ---- Keys, notes, checkpoints ----------------------------------------------------------------------------

# White space and control characters of Unicode, and the plus sign.
NO_NAME = re.compile("[\0-\x20\x7f-\xa0+\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000]")
FIELD = 2**255 - 19


def named(value):
    """A name that may stand in a signature line."""
    fits = isinstance(value, str) and 1 <= len(value.encode()) <= 128 and not NO_NAME.search(value)
    return demand(fits, value)


def base64_bytes(encoded):
    """Standard base64 in its one form: padded, no other character, no stray bits."""
    try:
        content = base64.b64decode(encoded.encode("ascii"), validate=True)
    except (UnicodeEncodeError, binascii.Error):
        raise Refused("not base64") from None
    return demand(base64.b64encode(content).decode() == encoded, content)


def signed_by(public, message, signature):
    """Ed25519 (RFC 8032); a key that is not the one encoding of its point signs nothing (section 5.1.3)."""
    y, sign = int.from_bytes(public, "little") & (2**255 - 1), public[31] >> 7
    if len(signature) != 64 or y >= FIELD or (sign and y in (1, FIELD - 1)):
        return False
    try:
        Ed25519PublicKey.from_public_bytes(public).verify(signature, message)
    except (InvalidSignature, ValueError):
        return False
    return True


class Key:
    """A verifier key of C2SP signed-note: `name+hash+base64(0x01 and 32 bytes)`."""

    def __init__(self, printed):
        parts = demand(isinstance(printed, str), printed).split("+", 2)
        if len(parts) != 3:
            raise Refused("a key is not name+hash+key")
        self.name, content = named(parts[0]), base64_bytes(parts[2])
        if len(content) != 33 or content[0] != 1:
            raise Refused("a key is not of Ed25519")
        self.public = content[1:]
        self.id = sha256(self.name.encode(), b"\n", content)[:4]
        if parts[1] != self.id.hex():
            raise Refused("a key's hash is not its own")

    def open_note(self, note):
        """The text of a signed note, if this key has signed it."""
        body, gap, lines = note.rpartition("\n\n")
        body += "\n"
        if len(note.encode()) > 64 * 1024 or not gap or not lines.endswith("\n"):
            raise Refused("not a signed note")
        if re.search("[\0-\x09\x0b-\x1f]", body):
            raise Refused("a note with a control character")
        signed, lines = False, lines[:-1].split("\n")
        for line in lines:
            dash, _, rest = line.partition(" ")
            name, space, encoded = rest.partition(" ")
            if dash != "\u2014" or not space:
                raise Refused("a signature line does not fit")
            named(name)
            content = base64_bytes(encoded)
            if len(content) < 5 or len(lines) > 64:
                raise Refused("a signature line does not fit")
            if name == self.name and content[:4] == self.id:
                if not signed_by(self.public, body.encode(), content[4:]):
                    raise Refused("the signature does not verify")
                signed = True
        if not signed:
            raise Refused("not signed by this key")
        return body

    def open_checkpoint(self, note):
        """Size and root of a signed checkpoint of this key's log."""
        lines = self.open_note(note)[:-1].split("\n")
        if len(lines) < 3 or lines[0] != self.name or not all(lines[3:]):
            raise Refused("not a checkpoint of this log")
        root = base64_bytes(lines[2])
        return demand(len(root) == 32, (decimal(lines[1], 64), root))

    def open_policy(self, note):
        """The quorum that a log's signed policy names."""
        lines = self.open_note(note)[:-1].split("\n")
        if len(lines) != 3 or lines[:2] != ["domicile/policy/v1", self.name] or lines[2][:7] != "quorum ":
            raise Refused("not the policy of this log")
        return decimal(lines[2][7:], 32)


def decimal(digits, bits):
    if not re.fullmatch("0|[1-9][0-9]{0,19}", digits) or int(digits) >> bits:
        raise Refused("a number does not fit")
    return int(digits)


# ---- What entries and statements hold --------------------------------------------------------------------

region = form("[a-z]{2,8}")
digest = sized(32)
EVENTS = {  # number of the event: number of its action (1 create, 2 read, 3 update, 4 delete, 5 execute)
    **dict.fromkeys((101, 200, 201, 203, 204, 212, 305, 306, 308, 310, 400, 500, 600), 1),
    **dict.fromkeys((102, 103, 104, 210, 213, 300, 301, 303, 304, 307, 312, 402), 2),
    **dict.fromkeys((520, 521, 522, 523, 524, 530, 531, 532), 2),
    **dict.fromkeys((202, 205, 209, 302, 309, 311, 313, 401, 403, 404, 525, 526, 527), 3),
    **dict.fromkeys((314, 510, 601, 700), 4),
    **dict.fromkeys((1, 2, 3, 4, 100, 206, 207, 208, 211, 528, 529), 5),
    **dict.fromkeys((501, 502, 503, 504, 505, 506, 507, 508, 509, 511, 512, 513, 514), 5),
}
SYSTEM_START, AUDIT_VOID = 1, 100
ROLES = "anonymous client practitioner practice_admin operator compliance region coordinator system".split()
STEPS = """none requested preflighted consented copying frozen unfrozen staged released adopted rekeyed
    shredded aborting aborted""".split()
ENTRY = {
    1: ("version", choice((1,))), 2: ("origin", named), 3: ("event", choice(EVENTS)), 4: ("id", sized(16)),
    5: ("nonce", sized(16)), 6: ("written", when), 8: ("writer", sized(16)), 9: ("epoch", unsigned(64)),
    10: ("number", unsigned(64)), 12: ("role", choice(ROLES)), 13: ("purpose", choice(range(1, 7))),
    18: ("action", choice(range(1, 6))), 19: ("outcome", choice(range(3))), 21: ("policy", unsigned(32)),
}
ENTRY_MAY = {
    7: ("sequenced", when), 11: ("actor", sized(16)), 14: ("subject", sized(16)),
    15: ("resource", form("[a-z_]{1,32}")), 16: ("item", sized(16)), 17: ("transfer", sized(16)),
    20: ("code", form("DOM-[A-Z]{1,16}-[0-9]{3}")), 22: ("request", sized(16)), 23: ("detail", digest),
    24: ("statement", lambda value: reference(value)),
}
PLACE = {
    1: ("transfer", sized(16)), 2: ("attempt", unsigned(64)), 3: ("origin", region),
    4: ("number", unsigned(64)), 5: ("step", choice(range(1, 14))), 6: ("digest", digest), 7: ("prev", digest),
}
PLACE_MAY = {8: ("seen", unsigned(64)), 9: ("seen_digest", digest)}
STATEMENT = {
    0: ("domain", choice(("domicile/statement",))), 1: ("version", choice((1,))), 2: ("transfer", sized(16)),
    3: ("attempt", unsigned(64)), 4: ("origin", region), 5: ("number", unsigned(64)),
    6: ("step", choice(range(1, 14))), 7: ("at", when), 8: ("body", digest), 9: ("prev", digest),
}
STATEMENT_MAY = {10: ("seen", unsigned(64)), 11: ("seen_digest", digest)}


def table(*kinds):
    return {key: (f"field{key}", kind) for key, kind in enumerate(kinds, 1)}


U16, U32, U64 = unsigned(16), unsigned(32), unsigned(64)
BODIES = {
    "requested": {1: ("source", region), 2: ("destination", region), 3: ("expires", when)},
    "preflighted": {2: ("kinds", U32), 3: ("protocol", U16)},
    "consented": {**table(sized(16), digest, digest, text(64), region), 6: ("expires", when)},
    "copying": table(U16, blob(2048)),
    "frozen": table(U32, U64),
    "unfrozen": table(U32),
    "staged": table(U32, U64, U64, U64, U64, digest),
    "released": table(U32, U64, digest, U64, digest, digest),
    "adopted": table(U64, U64, digest),
    "rekeyed": table(U64, U64, U64, digest),
    "shredded": table(U64, U64, U64, U64, when, when, text(128)),
    "aborting": table(choice(range(1, 5))),
    "aborted": table(choice(range(1, 5))),
}


def both_or_neither(found):
    return demand((found["seen"] is None) == (found["seen_digest"] is None), found)


def reference(value):
    return both_or_neither(fields("statement of an entry", value, PLACE, PLACE_MAY))


def read_entry(content):
    if len(content) > 4096:
        raise Refused("entry: too large")
    entry = fields("entry", cbor(content), ENTRY, ENTRY_MAY)
    if entry["action"] != EVENTS[entry["event"]]:
        raise Refused("entry: the action is not the event's")
    if (entry["outcome"] == 0) != (entry["code"] is None):
        raise Refused("entry: the outcome and its code do not fit")
    return entry


def read_statement(content):
    """A statement's frame: the statement with what it says, its signature not checked."""
    any_bytes = blob(MAX_FRAME)
    frame = fields("bundle", cbor(content), {
        1: ("signed", any_bytes), 2: ("body", any_bytes), 3: ("signature", sized(64)),
    })
    said = both_or_neither(fields("statement", cbor(frame["signed"]), STATEMENT, STATEMENT_MAY))
    if sha256(frame["body"]) != said["body"]:
        raise Refused("statement: the body is not the signed one")
    step = said["step"] = STEPS[said["step"]]
    optional = {1: ("offer", digest)} if step == "preflighted" else {}
    body = fields("statement body", cbor(frame["body"]), BODIES[step], optional)
    said.update(expires=body.get("expires"), digest=sha256(frame["signed"]))
    return said, frame["signed"], frame["signature"]


def read_keys(value):
    return fields("bundle", value, {1: ("region", region), 2: ("checkpoint", key_of), 3: ("statement", key_of)})


def key_of(value):
    return Key(text(512)(value))


def read_header(content):
    return fields("bundle", cbor(content), {
        1: ("own", read_keys), 2: ("peers", lambda value: [read_keys(peer) for peer in listed(value)]),
        4: ("size", U64), 5: ("made", when),
    }, {3: ("transfer", sized(16))})


def frames(stream):
    """The pieces of a bundle, one after another: kind and content."""
    if stream.read(len(MAGIC)) != MAGIC:
        raise Refused("not a bundle of this version")
    while head := stream.read(5):
        length = int.from_bytes(head[1:], "big")
        if len(head) < 5 or length > MAX_FRAME:
            raise Refused("the bundle breaks off, or a frame is too large")
        content = stream.read(length)
        if len(content) < length:
            raise Refused("the bundle breaks off")
        yield head[0], content


def utf8(content):
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError:
        raise Refused("a note is not UTF-8") from None
