"""The lines of a trace file: strict JSON that says exactly what was noted."""

import json

import numpy as np

from mpimlsys.timeline import lines

EVENT = [(n, "i8") for n in ("start_ns", "duration_ns", "bytes", "number", "name", "track")]


def test_a_file_is_json_with_every_event():
    known = ["forward", 'all-reduce of "odd"\n\\ names']
    rows = np.array([(10, 20, 0, 0, 0, 1), (5, 1234567, 4096, 7, 1, 1), (1, 2, 0, 0, 1, 0)], EVENT)
    starts = rows["start_ns"]
    text = lines.head({"ranks": []}) + lines.SEPARATOR.join([
        *lines.names(3, "rank 3 (n1, worker)", ["queue", "main", "exchange"]),
        *lines.events(3, 40, rows, starts, starts + rows["duration_ns"], known),
    ]) + lines.TAIL  # fmt: skip
    content = json.loads(text)
    assert content["otherData"] == {"ranks": []}
    events = content["traceEvents"]
    named = {(e["tid"], e["name"]): e["args"] for e in events if e["ph"] == "M"}
    assert named == {
        (0, "process_name"): {"name": "rank 3 (n1, worker)"},
        (0, "process_sort_index"): {"sort_index": 3},
        (1, "thread_name"): {"name": "main"},
        (1, "thread_sort_index"): {"sort_index": 1},
        (2, "thread_name"): {"name": "exchange"},
        (2, "thread_sort_index"): {"sort_index": 2},
    }
    wait = {"name": known[1], "pid": 3, "tid": 0, "cat": "queue", "id2": {"local": "0x2a"}}
    assert [e for e in events if e["ph"] != "M"] == [
        {"ph": "X", "name": "forward", "pid": 3, "tid": 1, "ts": 0.01, "dur": 0.02},
        {"ph": "X", "name": known[1], "pid": 3, "tid": 1, "ts": 0.005, "dur": 1234.567,
         "args": {"number": 7, "bytes": 4096}},
        {"ph": "b", "ts": 0.001, **wait},
        {"ph": "e", "ts": 0.003, **wait},
    ]  # fmt: skip


def test_times_are_exact():
    starts = np.array([0, 999, 1000, 123456789012345])
    rows = np.zeros(4, EVENT)
    rows["track"] = 1
    found = list(lines.events(0, 0, rows, starts, starts + 1, ["a"]))
    assert ['"ts": 0.000,' in found[0], '"ts": 0.999,' in found[1]] == [True, True]
    assert '"ts": 1.000, "dur": 0.001' in found[2]
    assert '"ts": 123456789012.345, ' in found[3]
