"""How long `mizzen` takes to say something, against a Python that does nothing."""

from __future__ import annotations

import argparse
import subprocess
import time
from statistics import median

from measuring import PYTHON, ROOT, Row, quiet_environment, tell

WORDS: dict[str, tuple[str, ...]] = {
    "mizzen --help": ("--help",),
    "mizzen version --remote=false": ("version", "--remote=false"),
    "mizzen install --help": ("install", "--help"),
    "mizzen samples list": ("samples", "list"),
    "mizzen manifest generate": ("manifest", "generate"),
}


def once(command: list[str]) -> float:
    start = time.perf_counter()
    subprocess.run(command, env=quiet_environment(), stdout=subprocess.DEVNULL, check=True)
    return (time.perf_counter() - start) * 1e3


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--json", action="store_true")
    asked = parser.parse_args()
    nothing = [PYTHON, "-c", "pass"]
    script = str(ROOT / ".venv" / "bin" / "mizzen")
    commands = {"python -c pass": nothing, **{name: [script, *words] for name, words in WORDS.items()}}
    for command in commands.values():
        once(command)
    times: dict[str, list[float]] = {name: [] for name in commands}
    for _ in range(asked.rounds):  # in turn, so that a busy moment meets all alike
        for name, command in commands.items():
            times[name].append(once(command))
    base = median(times["python -c pass"])
    rows = []
    for name, found in times.items():
        rows.append(Row(name, median(found), "ms", 60 if name == "mizzen --help" else None))
        rows.append(Row(f"{name}, best", min(found), "ms"))
        rows.append(Row(f"{name}, times a bare Python", median(found) / base, "×"))
    tell(rows, asked.json)


if __name__ == "__main__":
    main()
