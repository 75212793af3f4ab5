"""Holds docs/verifier to cases in a file: `drive.py FOLDER-OF-VERIFIER vectors|wild FILE`.

`vectors`: a manifest; every case is run as the command would be. `wild`: one case a line, with its bundles
in it and the whole answer of the first verifier. Prints where the two differ; exits 1 if they do.
"""
import base64
import contextlib
import io
import json
import shutil
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, sys.argv[1])
import verify  # noqa: E402


def plain(answer):
    """An answer without its sentences, which are each verifier's own."""
    for part in answer["reports"] + answer["comparisons"]:
        part.pop("remarks", None)
        for found in part["findings"]:
            found.pop("message")
    return answer


def places(part):
    return [[found["code"], found.get("index")] for found in part["findings"]]


def command(case, given, folder):
    """Runs a case of the manifest as a command in `folder`; gives what differs."""
    for name in case["bundles"] + [case.get("policy"), case.get("state")]:
        if name is not None and (given / name).exists():
            shutil.copy(given / name, folder / name)
    arguments = [str(folder / name) for name in case["bundles"]] + ["--json"]
    for option in ("policy", "state"):
        if case.get(option) is not None:
            arguments += [f"--{option}", str(folder / case[option])]
    if case.get("transfer") is not None:
        arguments += ["--transfer", case["transfer"]]
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed), contextlib.redirect_stderr(io.StringIO()):
        try:
            code = verify.main(arguments, case["now"])
        except SystemExit as left:
            code = left.code
    if code != case["exit"]:
        yield f"exit {code}, not {case['exit']}"
    answer = json.loads(printed.getvalue() or '{"reports": [], "comparisons": []}')
    for what, name in (("reports", "findings"), ("comparisons", "comparisons")):
        found = [places(part) for part in answer[what]]
        if found != case[name]:
            yield f"{name} {found}, not {case[name]}"
    if case.get("state") is not None:
        kept, expected = folder / case["state"], given / case.get("keeps", case["state"])
        if kept.exists() != expected.exists() or kept.exists() and kept.read_bytes() != expected.read_bytes():
            yield "the state is not what was to be kept"
    forks = [path.read_text(encoding="utf-8").count("\n\n\u2014 ") for path in folder.glob("*.fork")]
    if sum(forks) != case["evidence"]:
        yield f"{forks} checkpoints written as evidence, not {case['evidence']}"
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        again = [argument for argument in arguments if argument != "--json"]
        if code > 2 and verify.main(again, case["now"]) != code:
            yield "the report for people has another exit code"


def wild(case, folder):
    """Verifies a case of its own bundles; gives what differs."""
    paths = []
    for number, content in enumerate(case["bundles"]):
        paths.append(folder / f"{number}.bundle")
        paths[-1].write_bytes(base64.b64decode(content))
    policy = case["policy"] and verify.read_policy(case["policy"])
    state = verify.read_state(case["state"])
    wanted = case["transfer"] and verify.transfer_id(case["transfer"])
    try:
        logs, comparisons, code = verify.verify(paths, policy, state, wanted, case["now"])
        answer = plain({"exit": code, "reports": [log.report() for log in logs], "comparisons": comparisons})
    except verify.Misused:
        answer = None
    expected = case["answer"] and plain(case["answer"])
    if answer != expected:
        yield f"{json.dumps(answer)}\n  not\n{json.dumps(expected)}"


def main(kind, path):
    started, count, differ = time.monotonic(), 0, 0
    with tempfile.TemporaryDirectory() as place:
        if kind == "vectors":
            given = path.parent
            cases = json.loads(path.read_text(encoding="utf-8"))["cases"]
        else:
            cases = (json.loads(line) for line in path.open(encoding="utf-8"))
        for count, case in enumerate(cases, 1):
            folder = Path(place) / str(count)
            folder.mkdir()
            found = list(command(case, given, folder) if kind == "vectors" else wild(case, folder))
            differ += bool(found)
            for what in found[:20] if differ <= 20 else []:
                print(f"{case['name']}: {what}")
            shutil.rmtree(folder)
    print(f"{count} cases, {differ} differ, {time.monotonic() - started:.1f} s")
    return 1 if differ or not count else 0


sys.exit(main(sys.argv[2], Path(sys.argv[3])))
