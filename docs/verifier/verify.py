#!/usr/bin/env python3
"""Verifies bundles of Domicile's audit logs offline: a second verifier beside `domicile audit verify`.

It follows docs/audit.md, shares no code with the first one, and must come to the same findings on every
input. Needs Python 3.9, `cryptography` and the two files beside it: formats.py takes bytes apart,
checks.py judges writers, clocks and transfers. Memory: one frame, the edge of the tree, the writers' runs of
numbers and the statements of transfers, whatever the size of the log.
"""
import argparse
import json
import os
import re
import sys
import time
import uuid
from pathlib import Path

from checks import (
    ALTERED, CLOCKS, DISAGREEMENT, FORK, HOUR, MISSING, OVERDUE, QUORUM_SHORT, ROLLED_BACK, STALE, UNREADABLE,
    VERDICTS, Clocks, Numbers, Transfer, compare, finding, later, place,
)
from formats import (
    AUDIT_VOID, U32, U64, Key, Refused, cbor, decimal, demand, fields, frames, read_entry, read_header,
    read_statement, region, sha256, signed_by, text, utf8,
)

CODES = """\
exit codes: 0 proven, 2 usage, 3 unreadable, 10 altered (names the index), 11 fork (writes the evidence
beside the bundle), 12 rolled back or truncated, 13 missing without an expiry entry, 14 quorum short,
15 the two logs disagree about a transfer, 16 a transfer open past its deadline, 17 stale head,
18 clock anomaly. Everything found is listed; the lowest code is the exit code.

Keys come from the policy; without one a bundle can only show that it agrees with itself, and the report
says so. With --state the heads seen before are held against the bundles, and kept when all is proven.

examples:
  python3 verify.py eu.bundle --policy policy.json --state seen.json
  python3 verify.py eu.bundle ca.bundle --policy policy.json --transfer $TRANSFER
"""


class Misused(Exception):
    """The command was not given what it needs."""


# ---- One bundle ----------------------------------------------------------------------------------------------


class Log:
    """One bundle held against a policy (None: it vouches for itself) and the heads seen before."""

    def __init__(self, policy, state, now, wanted):
        self.policy, self.state, self.now, self.wanted = policy, state, now, wanted
        self.header = self.keys = self.saved = self.quorum = None
        self.region, self.pinned, self.ended = "", policy is not None, False
        self.heads, self.agreed, self.contradicted = [], 0, []
        self.size, self.edge = 0, []
        self.tile_first, self.tile = 0, []
        self.entries = self.statements = self.lost = 0
        self.writers, self.clocks, self.transfers = {}, Clocks(), {}
        self.findings, self.remarks, self.evidence = [], [], []

    def find(self, code, index, message):
        self.findings.append(finding(code, index, message))

    def read(self, stream):
        takes = {1: self.take_header, 2: self.take_policy, 3: self.take_checkpoint, 4: self.take_hashes,
                 5: self.take_entry, 6: self.take_statement, 7: self.take_end}
        try:
            for kind, content in frames(stream):
                if self.ended or kind not in takes or (self.header is None) != (kind == 1):
                    raise Refused("frames do not stand in their order, or one is unknown")
                takes[kind](content)
            if not self.ended:
                raise Refused("the bundle breaks off")
        except Refused as why:
            self.find(UNREADABLE, None, str(why))
        self.conclude()
        return self

    def take_header(self, content):
        self.header = read_header(content)
        self.region = self.header["own"]["region"]
        self.keys = self.header["own"]
        if self.policy is not None:
            if self.region in self.policy["logs"]:
                self.keys = self.policy["logs"][self.region]
            else:
                self.pinned = False
                self.find(ALTERED, None, f"the policy pins no keys of region {self.region}")
        if self.region in self.state:
            note = self.state[self.region]
            try:
                self.saved = (*self.keys["checkpoint"].open_checkpoint(note), note)
            except Refused:
                self.find(ALTERED, None, "the kept head is not signed by this log's key")
        self.reach_saved()

    def take_policy(self, content):
        note = utf8(content)
        try:
            self.quorum = self.keys["checkpoint"].open_policy(note)
        except Refused:
            self.find(ALTERED, None, "the policy is not signed by this log's key")

    def take_checkpoint(self, content):
        note = utf8(content)
        try:
            size, root = self.keys["checkpoint"].open_checkpoint(note)
        except Refused:
            self.find(ALTERED, None, "a checkpoint is not signed by this log's key")
        else:
            if self.heads and size <= self.heads[-1][0]:
                raise Refused("checkpoints do not rise")
            self.heads.append((size, root, note))
        if len(self.heads) > 1024 or self.size > 0:
            raise Refused("too many checkpoints, or not before the entries")
        self.reach_head()

    def take_hashes(self, content):
        if not 40 <= len(content) <= 8 + 256 * 32 or len(content) % 32 != 8:
            raise Refused("a tile does not fit")
        first = int.from_bytes(content[:8], "big")
        self.fill(first)
        self.tile_first = first
        self.tile = [content[at : at + 32] for at in range(8, len(content), 32)]

    def tiled(self, index):
        offset = index - self.tile_first
        return self.tile[offset] if 0 <= offset < len(self.tile) else None

    def fill(self, index):
        """Entries before `index` are not there; their hashes keep the tree whole."""
        start = self.size
        while self.size < index:
            leaf = self.tiled(self.size)
            if leaf is None:
                self.find(MISSING, self.size, "an entry and its hash are not in the bundle")
                raise Refused("entries are left out")
            self.append(leaf)
        if start < index:
            self.find(MISSING, start, f"entries {start} to {index - 1} are not in the bundle")

    def append(self, leaf):
        level, node = 0, leaf
        while self.edge and self.edge[-1][0] == level:
            node = sha256(b"\1", self.edge.pop()[1], node)
            level += 1
        self.edge.append((level, node))
        self.size += 1
        self.reach_head()
        self.reach_saved()

    def root(self):
        if not self.edge:
            return sha256()
        node = self.edge[-1][1]
        for _, left in reversed(self.edge[:-1]):
            node = sha256(b"\1", left, node)
        return node

    def reach_head(self):
        """Holds the tree against what was signed at its size; sizes rise, so heads are met in their order."""
        at = self.agreed + len(self.contradicted)
        if at < len(self.heads) and self.heads[at][0] == self.size:
            if self.heads[at][1] == self.root():
                self.agreed += 1
            else:
                self.contradicted.append(at)

    def reach_saved(self):
        if self.saved and self.saved[0] == self.size and self.saved[1] != self.root():
            self.evidence.append(self.saved[2])
            self.find(FORK, None, f"the kept head of size {self.size} is not the beginning of this log")
            self.saved = None

    def take_entry(self, content):
        if len(content) < 8:
            raise Refused("a frame is short")
        index, content = int.from_bytes(content[:8], "big"), content[8:]
        if index < self.size:
            return self.find(ALTERED, index, "an index stands twice")
        self.fill(index)
        leaf, tiled = sha256(b"\0", content), self.tiled(index)
        if tiled is not None and tiled != leaf:
            self.find(ALTERED, index, "the entry is not the one its hash was made from")
        try:
            self.look_at(index, read_entry(content))
        except Refused as why:
            self.find(ALTERED, index, str(why))
        self.entries += 1
        self.append(leaf if tiled is None else tiled)

    def look_at(self, index, entry):
        if entry["origin"] != self.keys["checkpoint"].name:
            self.find(ALTERED, index, "the entry is another log's")
        numbers = self.writers.setdefault((entry["writer"], entry["epoch"]), Numbers())
        if not numbers.note(entry["number"], entry["written"]):
            self.find(ALTERED, index, "the writer's number stands twice")
        if entry["event"] == AUDIT_VOID and entry["resource"] == "lost_number":
            self.lost += 1
        if entry["sequenced"] is None:
            return self.find(ALTERED, index, "the sequencer's time is missing")
        self.clocks.note(index, entry["event"], entry["written"], entry["sequenced"])
        said = entry["statement"]
        if said is not None:
            if entry["transfer"] != said["transfer"]:
                self.find(DISAGREEMENT, index, "the statement is another transfer's")
            self.transfer(said["transfer"]).logged.append((index, entry["sequenced"], said))

    def transfer(self, number):
        return self.transfers.setdefault(number, Transfer())

    def statement_key(self, origin):
        if self.policy is not None:
            known = [keys for name, keys in self.policy["logs"].items() if name == origin]
        else:
            known = [keys for keys in [self.header["own"], *self.header["peers"]] if keys["region"] == origin]
        return known[0]["statement"] if known else None

    def take_statement(self, content):
        said, message, signature = read_statement(content)
        self.statements += 1
        key, step, origin = self.statement_key(said["origin"]), said["step"], said["origin"]
        if key is None:
            self.find(DISAGREEMENT, None, f"no key of region {origin} is known to check {step}")
        elif not signed_by(key.public, message, signature):
            self.find(DISAGREEMENT, None, f"{step} is not signed by region {origin}")
        else:
            self.transfer(said["transfer"]).signed[place(said)] = said

    def take_end(self, content):
        counts = fields("bundle", cbor(content), {1: ("entries", U64), 2: ("statements", U64)})
        if self.tiled(self.size) is not None:
            self.fill(self.heads[-1][0] if self.heads else 0)
        self.ended = True
        if (counts["entries"], counts["statements"]) != (self.entries, self.statements):
            self.find(MISSING, None, "the bundle holds fewer pieces than it says")

    # -- After the last byte --

    def conclude(self):
        self.conclude_head()
        if self.saved and self.head_size() < self.saved[0]:
            self.evidence.append(self.saved[2])
            message = f"the head has {self.head_size()} entries, the kept head had {self.saved[0]}"
            self.find(ROLLED_BACK, self.head_size(), message)
        self.conclude_numbers()
        self.conclude_times()
        self.conclude_transfers()
        demanded = self.policy["quorum"] if self.policy else 0
        if demanded > 0:
            self.find(QUORUM_SHORT, None, f"0 of {demanded} witnesses have cosigned")
        if not self.pinned:
            self.remarks.append("without a policy a bundle only shows that it agrees with itself")
        self.findings.sort(key=lambda found: (found["code"], found.get("index", -1)))

    def head_size(self):
        return self.heads[-1][0] if self.heads else 0

    def conclude_head(self):
        if not self.heads:
            return self.find(ALTERED, None, "there is no checkpoint signed by this log's key")
        head = self.head_size()
        if self.size < head:
            self.find(ROLLED_BACK, self.size, f"{self.size} entries of the {head} that were signed")
        elif self.size > head:
            self.find(ALTERED, head, "entries stand past the signed head")
        if not self.contradicted:
            return
        first = self.contradicted[0]
        size, _, note = self.heads[first]
        if len(self.heads) - 1 in self.contradicted:
            before = self.heads[first - 1][0] if first else 0
            self.find(ALTERED, before, f"something from {before} to {size - 1} is not what was signed")
        else:
            self.evidence += [note, self.heads[-1][2]]
            self.find(FORK, None, f"the checkpoint of size {size} contradicts the head")

    def conclude_numbers(self):
        newest = self.clocks.newest or 0
        for (writer, epoch), numbers in sorted(self.writers.items()):
            for first, last, written in numbers.gaps():
                what = f"numbers {first} to {last} of writer {uuid.UUID(bytes=writer)} epoch {epoch}"
                if later(written, 900) > newest:
                    self.remarks.append(f"{what} may still be in flight")
                else:
                    self.find(MISSING, None, f"{what} are not in the log")
        if self.lost:
            self.remarks.append(f"{self.lost} numbers of writers that died in mid-change were declared lost")

    def conclude_times(self):
        odd, first = self.clocks.settle()
        if odd:
            self.find(CLOCKS, first, f"{odd} entries whose times do not fit the sequencer's")
        hours, newest = (self.policy or {}).get("max_age_hours"), self.clocks.newest
        if hours is not None and (newest is None or later(newest, hours * HOUR) < self.now):
            self.find(STALE, None, f"the newest entry is more than {hours} hours old")

    def conclude_transfers(self):
        settle = (self.policy or {}).get("settle_hours")
        about = self.header and self.header["transfer"]
        for number, transfer in sorted(self.transfers.items()):
            what = f"transfer {uuid.UUID(bytes=number)}"
            for index, why in transfer.faults(about in (None, number)):
                self.find(DISAGREEMENT, index, f"{what}: {why}")
            deadline = transfer.deadline(72 if settle is None else settle)
            if deadline is not None and self.now > deadline:
                self.find(OVERDUE, None, f"{what} is past its deadline and has not ended")
        if self.wanted is not None and self.wanted not in self.transfers:
            self.remarks.append(f"the log knows no transfer {uuid.UUID(bytes=self.wanted)}")

    # -- The report --

    def told(self):
        """The transfers reported: all, or the one asked for."""
        return [number for number in sorted(self.transfers) if self.wanted in (None, number)]

    def report(self):
        report = {
            "region": self.region, "origin": self.keys["checkpoint"].name if self.keys else "",
            "signed_size": self.head_size(), "proven_size": 0,
            "root": self.heads[-1][1].hex() if self.heads else "", "keys_pinned": self.pinned,
            "signed_quorum": self.quorum, "demanded_quorum": self.policy["quorum"] if self.policy else 0,
            "cosigned_by": [], "checkpoints": self.agreed, "entries": self.entries,
            "statements": self.statements, "findings": self.findings, "remarks": self.remarks,
            "transfers": [self.transfers[number].story(number) for number in self.told()],
            "evidence": self.evidence,
        }
        return {key: value for key, value in report.items()
                if not (key == "signed_quorum" and value is None or key == "evidence" and not value)}


# ---- Several bundles -------------------------------------------------------------------------------------------


def verify(paths, policy=None, state=None, wanted=None, now=None):
    """Verifies bundles and compares them; gives the logs, the comparisons and the exit code. `policy` and
    `state` are as `read_policy` and `read_state` give them, `wanted` a transfer's sixteen bytes, `now`
    microseconds since the Unix epoch."""
    now, logs = time.time_ns() // 1000 if now is None else now, []
    for path in paths:
        with open(path, "rb") as stream:
            logs.append(Log(policy, state or {}, now, wanted).read(stream))
    if not any(log.findings for log in logs):
        if len({log.keys["checkpoint"].name for log in logs}) < len(logs):
            raise Misused("two of these bundles are of one log; give one of each region")
        if wanted is not None and not any(wanted in log.transfers for log in logs):
            raise Misused(f"none of the bundles tells of transfer {uuid.UUID(bytes=wanted)}")
    if len(logs) == 2 and wanted is not None:
        comparisons = [compare(*logs, wanted)]
    else:
        comparisons = [
            compare(left, right, number) for at, left in enumerate(logs) for right in logs[at + 1 :]
            for number in left.told() if number in right.told()
        ]
    found = [found["code"] for log in logs for found in log.findings]
    found += [found["code"] for comparison in comparisons for found in comparison["findings"]]
    return logs, comparisons, min(found, default=0)


# ---- Files and the command -------------------------------------------------------------------------------------


def read_json(path, what, read):
    """A small JSON file; a name that stands twice, and a number that is none of 64 bits, are refused."""

    def once(pairs):
        return demand(len(dict(pairs)) == len(pairs), dict(pairs))

    def whole(digits):
        return decimal(digits, 64)

    def none(_):
        raise Refused("not a whole number")

    try:
        with open(path, "rb") as file:
            value = json.loads(file.read().decode("utf-8"), object_pairs_hook=once, parse_int=whole,
                               parse_float=none, parse_constant=none)
        json.dumps(value, ensure_ascii=False).encode("utf-8")
        return read(value)
    except (ValueError, RecursionError, Refused):
        raise Misused(f"{path}: not {what}") from None


def members(value, need, may=()):
    """A JSON object with these members and no other."""
    fits = isinstance(value, dict) and set(need) <= set(value) <= {*need, *may}
    return demand(fits, value)


def read_policy(value):
    members(value, ("logs", "quorum"), ("max_age_hours", "settle_hours"))
    logs = {}
    for name, keys in demand(isinstance(value["logs"], dict), value["logs"]).items():
        members(keys, ("checkpoint", "statement"))
        logs[region(name)] = {what: Key(keys[what]) for what in ("checkpoint", "statement")}
    hours = {what: value.get(what) for what in ("max_age_hours", "settle_hours")}
    for number in (value["quorum"], *hours.values()):
        demand(number is None or type(number) is int, number)
    return {"logs": logs, "quorum": U32(value["quorum"]), **hours}


def read_state(value):
    heads = demand(isinstance(value, dict), value)
    note = text(1 << 62)
    return {name: note(members(head, ("checkpoint",))["checkpoint"]) for name, head in heads.items()}


def transfer_id(typed):
    """A UUID in its usual forms."""
    hyphens = "[0-9a-f]{8}-(?:[0-9a-f]{4}-){3}[0-9a-f]{12}"
    if not re.fullmatch(rf"[0-9a-f]{{32}}|{hyphens}|\{{{hyphens}\}}|urn:uuid:{hyphens}", typed.lower()):
        raise argparse.ArgumentTypeError("not a UUID")
    return uuid.UUID(typed).bytes


def printed(logs, comparisons):
    """The report for people."""
    for log in logs:
        report = log.report()
        yield f"log {report['origin']} of region {report['region']}"
        yield f"  signed size  {report['signed_size']}   root {report['root']}"
        signed = "the region has signed no policy"
        if log.quorum is not None:
            signed = "the region has signed that it has no witnesses" if log.quorum == 0 else "signed by the region"
            signed = f"quorum {log.quorum}: {signed}"
        yield f"  proven size  0   {signed}"
        yield f"  keys         {'pinned by the policy' if log.pinned else 'from the bundle itself, not pinned'}"
        yield f"  read         {log.entries} entries, {log.agreed} checkpoints, {log.statements} statements"
        yield from (f"  note         {remark}" for remark in log.remarks)
        yield from verdict(log.findings)
    for comparison in comparisons:
        yield f"transfer {comparison['transfer']}: {comparison['left']} and {comparison['right']}"
        for step in comparison["steps"]:
            left, right = ("-" if step[side] is None else step[side] for side in ("left", "right"))
            yield (f"  {step['origin']:<8} {step['sequence']:>3}  {step['step']:<12} {left:>10} {right:>10}  "
                   f"{'same' if step['same'] else 'NOT THE SAME'}")
        yield from verdict(comparison["findings"])


def verdict(findings):
    for found in findings:
        at = f" at index {found['index']}" if "index" in found else ""
        yield f"  [{found['code']}] {VERDICTS[found['code']][1]}{at}: {found['message']}"
    yield f"  result       {'NOT PROVEN' if findings else 'everything agrees'}"


def run(options, now=None):
    """Does what the command line asks for; gives the exit code."""
    policy = read_json(options.policy, "a policy", read_policy) if options.policy else None
    known = options.state is not None and os.path.exists(options.state)
    state = read_json(options.state, "a state of heads seen", read_state) if known else {}
    logs, comparisons, code = verify(options.bundles, policy, state, options.transfer, now)
    for path, log in zip(options.bundles, logs):
        if log.evidence:
            Path(path).with_suffix(".fork").write_bytes("\n".join(log.evidence).encode())
    if code == 0 and options.state is not None:
        state.update((log.region, log.heads[-1][2]) for log in logs)
        kept = {name: {"checkpoint": note} for name, note in state.items()}
        Path(options.state).write_bytes(json.dumps(kept, ensure_ascii=False, indent=2, sort_keys=True).encode())
    if options.json:
        reports = [log.report() for log in logs]
        print(json.dumps({"comparisons": comparisons, "exit": code, "reports": reports}, separators=(",", ":")))
    else:
        for line in printed(logs, comparisons):
            print("".join(sign if sign.isprintable() else "?" for sign in line))
    return code


def main(arguments=None, now=None):
    parser = argparse.ArgumentParser(
        prog="verify.py", allow_abbrev=False, epilog=CODES, formatter_class=argparse.RawDescriptionHelpFormatter,
        description="Verifies bundles of Domicile's audit logs offline, and compares what they say of transfers.",
    )
    parser.add_argument("bundles", nargs="+", metavar="BUNDLE",
                        help="with two of them, what both say of transfers is compared step by step")
    parser.add_argument("--policy", metavar="FILE", help="the auditor's policy: pinned keys, quorum demanded")
    parser.add_argument("--state", metavar="FILE", help="heads seen before; kept when everything is proven")
    parser.add_argument("--transfer", metavar="UUID", type=transfer_id, help="only this transfer")
    parser.add_argument("--json", action="store_true", help="one JSON value for programs")
    options = parser.parse_args(arguments)
    try:
        return run(options, now)
    except (Misused, OSError, ValueError) as why:
        print(f"error: {why}", file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.stdout.reconfigure(errors="backslashreplace")
    sys.exit(main())
