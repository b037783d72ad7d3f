"""From nothing to a mesh: `mizzen up` the second time, `mizzen demo`, and what the whole demo weighs.

Memory is proportional set size: pages that processes share count once, shared out. Needs root, or user namespaces.
"""

from __future__ import annotations

import argparse
import json
from collections import defaultdict
from pathlib import Path
from statistics import median

from measuring import Row, tell
from private_cluster import Machine, machine

from mizzen.embedded.memory import descendants, pss_bytes

KINDS = {
    "envoy": "Envoys",
    "mizzen.embedded.apiserver": "API server and controllers",
    "mizzen.embedded.node": "node",
    "mizzen.embedded.box": "init and what it forks: istiod, agents, samples",
}


def kind(pid: int) -> str:
    """What a process of a box is, by its command line."""
    try:
        command = Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
        program = Path(f"/proc/{pid}/exe").readlink().name
        comm = Path(f"/proc/{pid}/comm").read_text().strip()
    except OSError:
        return "gone"
    if program == "envoy":
        return "Envoys"
    found = next((told for word, told in KINDS.items() if word in command), None)
    return found or f"{comm or program} (forked)"


def weights(box: int) -> dict[str, tuple[int, float]]:
    """kind -> how many, and megabytes altogether."""
    found: dict[str, list[float]] = defaultdict(list)
    for pid in descendants(box):
        found[kind(pid)].append(pss_bytes(pid) / 2**20)
    return {name: (len(each), sum(each)) for name, each in found.items()}


def measured(own: Machine, rounds: int) -> list[Row]:
    first = own.mizzen("up")
    again = []
    for _ in range(rounds):
        own.mizzen("down")
        again.append(own.mizzen("up"))
    demo = own.mizzen("demo")
    own.mizzen("cluster", "delete")
    whole = own.mizzen("demo")
    by_kind = weights(json.loads((own.state / "box.json").read_text())["pid"])
    rows = [
        Row("mizzen up, first time", first, "s"),
        Row(f"mizzen up, again (median of {rounds})", median(again), "s", 8),
        Row("mizzen demo on a running mesh", demo, "s"),
        Row("mizzen demo from nothing", whole, "s", 20),
        Row("memory of the demo (PSS)", sum(size for _, size in by_kind.values()), "MB", 650),
    ]
    parts = sorted(by_kind.items(), key=lambda one: -one[1][1])
    return rows + [Row(f"  {count} × {name}", size, "MB") for name, (count, size) in parts]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", action="store_true")
    asked = parser.parse_args()
    with machine() as own:
        rows = measured(own, asked.rounds)
    tell(rows, asked.json)


if __name__ == "__main__":
    main()
