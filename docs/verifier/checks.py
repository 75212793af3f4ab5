"""What is gathered while entries and statements pass: the writers' numbers, the clocks, the transfers."""
import bisect
import uuid

from formats import STEPS, SYSTEM_START

UNREADABLE, ALTERED, FORK, ROLLED_BACK, MISSING = 3, 10, 11, 12, 13
QUORUM_SHORT, DISAGREEMENT, OVERDUE, STALE, CLOCKS = 14, 15, 16, 17, 18
VERDICTS = {
    UNREADABLE: ("unreadable", "unreadable"),
    ALTERED: ("altered", "altered"),
    FORK: ("fork", "fork"),
    ROLLED_BACK: ("rolled_back", "rolled back or truncated"),
    MISSING: ("missing", "missing without an expiry entry"),
    QUORUM_SHORT: ("quorum_short", "quorum short"),
    DISAGREEMENT: ("disagreement", "disagreement about a transfer"),
    OVERDUE: ("overdue", "transfer open past its deadline"),
    STALE: ("stale", "stale head"),
    CLOCKS: ("clock_anomaly", "clock anomaly"),
}
HOUR = 3600


def later(at, seconds):
    """An instant moved into the future; the end of time is the last microsecond of 64 bits."""
    return min(at + min(seconds * 1_000_000, 2**63 - 1), 2**63 - 1)


class Numbers:
    """The numbers one writer has used in one epoch, as runs without a gap."""

    def __init__(self):
        self.firsts, self.runs = [], {}

    def note(self, number, at):
        """False when the number was there before. `at` is when its entry was written."""
        place = bisect.bisect_right(self.firsts, number)
        before = self.firsts[place - 1] if place else None
        if before is not None and number <= self.runs[before][0]:
            return False
        if before is not None and self.runs[before][0] == number - 1:
            first, begun = before, self.runs[before][1]
        else:
            first, begun = number, at
            self.firsts.insert(place, number)
            place += 1
        last, ended = number, at
        if number + 1 in self.runs:
            last, _, ended = self.runs.pop(number + 1)
            del self.firsts[place]
        self.runs[first] = (last, begun, ended)
        return True

    def gaps(self):
        """First and last missing number, and when the number after the gap was written."""
        expected = 1
        for first in self.firsts:
            last, begun, _ = self.runs[first]
            if first > expected:
                yield expected, first - 1, begun
            expected = last + 1


class Clocks:
    """Whether the writers' times fit the sequencer's; a region that was off is not odd."""

    def __init__(self):
        self.newest, self.silence, self.odd, self.waiting = None, None, [0, None], [0, None]

    @staticmethod
    def count(counted, index):
        counted[0] += 1
        if counted[1] is None:
            counted[1] = index

    def note(self, index, event, written, at):
        if self.newest is not None and later(self.newest, HOUR) < at:
            self.settle()
            self.silence = {"from": self.newest, "to": at, "started": False}
        if event == SYSTEM_START and self.silence and self.silence["from"] <= written:
            self.silence["started"], self.waiting = True, [0, None]
        back = self.newest is not None and at < self.newest
        if back or written > later(at, 60):
            self.count(self.odd, index)
        elif later(written, HOUR) < at and not self.waited(written, at):
            self.count(self.odd, index)
        elif later(written, HOUR) < at and not self.silence["started"]:
            self.count(self.waiting, index)
        self.newest = at if self.newest is None else max(self.newest, at)

    def waited(self, written, at):
        """Written before the region fell silent, and taken in when it spoke again?"""
        gap = self.silence
        return gap is not None and (
            gap["from"] <= later(written, HOUR) and written <= later(gap["from"], HOUR)
            and at <= later(gap["to"], HOUR)
        )

    def settle(self):
        """No start came: what waited for one is odd."""
        firsts = [first for first in (self.odd[1], self.waiting[1]) if first is not None]
        self.odd = [self.odd[0] + self.waiting[0], min(firsts, default=None)]
        self.waiting = [0, None]
        return self.odd


def lane_faults(known, said):
    """One logged statement against those the log held before it; `known` maps places to digests."""
    attempt, origin, number = said["attempt"], said["origin"], said["number"]
    before = known.get((attempt, origin, number - 1))
    if number == 0:
        yield "has number 0"
    elif number == 1 and said["prev"] != bytes(32):
        yield "is the first of its lane and names one before it"
    elif number > 1 and before is None:
        yield "stands before, or without, the one that precedes it in its lane"
    elif number > 1 and before != said["prev"]:
        yield "does not follow the one before it in its lane"
    if (attempt, origin, number) in known:
        same = known[(attempt, origin, number)] == said["digest"]
        yield "stands twice" if same else "contradicts another of the same number"
    if said["seen"] is not None:
        others = sorted(p for p in known if p[0] == attempt and p[1] != origin and p[2] == said["seen"])
        if not others:
            yield "answers a statement of the other lane that the log does not hold before it"
        elif known[others[0]] != said["seen_digest"]:
            yield "answers another statement than the log holds"


class Transfer:
    """What one log says of one transfer: logged steps (index, time, reference) and signed statements."""

    def __init__(self):
        self.logged, self.signed = [], {}

    def rests(self):
        return any(STEPS[said["step"]] in ("shredded", "aborted") for _, _, said in self.logged)

    def faults(self, complete):
        """Pairs of index and sentence; `complete` when the bundle must hold all signed statements."""
        known = {}
        for index, _, said in self.logged:
            step, at = STEPS[said["step"]], place(said)
            for why in lane_faults(known, said):
                yield index, f"{step} {why}"
            if at in self.signed and self.signed[at]["digest"] != said["digest"]:
                yield index, f"{step} is not the statement that was signed"
            elif at not in self.signed and complete:
                yield index, f"{step} has no signed statement beside it"
            known[at] = said["digest"]
        for at in sorted(self.signed.keys() - known.keys()):
            yield None, f"{self.signed[at]['step']} was signed and is not in the log"

    def deadline(self, settle_hours):
        """Until when it must have ended; None when it has, or when nobody waits for it."""
        last = {}
        for at in sorted(self.signed):
            last[self.signed[at]["step"]] = self.signed[at]
        if self.rests():
            return None
        if "released" in last:
            return later(last["released"]["at"], settle_hours * HOUR)
        if "aborting" in last:
            return None
        asked = last.get("consented") or last.get("requested")
        return asked and asked["expires"]

    def story(self, transfer):
        return {"transfer": str(uuid.UUID(bytes=transfer)), "rests": self.rests(), "steps": [
            {"index": index, "attempt": said["attempt"], "origin": said["origin"], "sequence": said["number"],
             "step": STEPS[said["step"]], "sequenced_at": at, "digest": said["digest"].hex()}
            for index, at, said in self.logged
        ]}


def place(said):
    return said["attempt"], said["origin"], said["number"]


def finding(code, index, message):
    found = {"code": code, "verdict": VERDICTS[code][0], "index": index, "message": message}
    if index is None:
        del found["index"]
    return found


def compare(left, right, number):
    """What two logs say of one transfer, step by step."""
    sides = [log.transfers.get(number, Transfer()) for log in (left, right)]
    first = [{}, {}]
    for side, found in zip(sides, first):
        for index, _, said in side.logged:
            found.setdefault(place(said), (index, said))
    rests, what = any(side.rests() for side in sides), f"transfer {uuid.UUID(bytes=number)}"
    steps = []
    for at in {**first[0], **first[1]}:
        one, two = first[0].get(at), first[1].get(at)
        steps.append({
            "attempt": at[0], "origin": at[1], "sequence": at[2], "step": STEPS[(one or two)[1]["step"]],
            "left": one and one[0], "right": two and two[0], "same": bool(one and two and one[1] == two[1]),
        })
    found = [] if steps else [finding(DISAGREEMENT, None, f"{what}: neither log knows it")]
    for step in steps:
        name = f"{what}: {step['step']} number {step['sequence']} of {step['origin']}"
        # A step in one log alone may be on its way, until the other log holds a later one of its lane.
        overtaken = any(
            other["left"] is not None and other["right"] is not None and other["sequence"] > step["sequence"]
            and (other["attempt"], other["origin"]) == (step["attempt"], step["origin"]) for other in steps
        )
        if step["left"] is not None and step["right"] is not None:
            if not step["same"]:
                found.append(finding(DISAGREEMENT, step["left"], f"{name} differs"))
        elif rests or overtaken:
            index = step["right"] if step["left"] is None else step["left"]
            missing = left.region if step["left"] is None else right.region
            found.append(finding(DISAGREEMENT, index, f"{name} is not in {missing}"))
    return {"transfer": what[9:], "left": left.region, "right": right.region, "rests": rests, "steps": steps,
            "findings": found}
