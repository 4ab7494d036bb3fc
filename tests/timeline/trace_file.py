"""What the tests ask of a trace file."""

import gzip
import json


def load(path):
    """The file's content, read strictly."""
    opened = gzip.open if path.suffix == ".gz" else open
    with opened(path, "rt") as file:
        return json.load(file)


def complete(content, rank):
    """The complete events of a rank, in the order of their beginning."""
    found = [e for e in content["traceEvents"] if e["ph"] == "X" and e["pid"] == rank]
    return sorted(found, key=lambda event: (event["ts"], -event["dur"]))


def check_nested(content):
    """Events of one thread lie inside one another or apart."""
    open_until = {}
    ranks = {event["pid"] for event in content["traceEvents"]}
    for rank in ranks:
        for event in complete(content, rank):
            ends = open_until.setdefault((rank, event["tid"]), [])
            start, end = _ns(event["ts"]), _ns(event["ts"]) + _ns(event["dur"])
            while ends and ends[-1] <= start:
                ends.pop()
            assert not ends or end <= ends[-1], event
            ends.append(end)


def waits(content, rank):
    """Pairs of the beginning and end of what waited for a thread of a rank."""
    pairs = {}
    for event in content["traceEvents"]:
        if event["ph"] in "be" and event["pid"] == rank:
            assert event["cat"] == "queue"
            pairs.setdefault(event["id2"]["local"], {})[event["ph"]] = event
    return [(pair["b"], pair["e"]) for pair in pairs.values()]


def _ns(us):
    return round(us * 1000)
