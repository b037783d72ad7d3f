"""`python -m mizzen.embedded.node --state DIR`: the node daemon, started by the box's init."""

from __future__ import annotations

import argparse
import asyncio
import logging
from pathlib import Path

from mizzen.embedded.node.app import run
from mizzen.embedded.paths import ClusterPaths


def main() -> None:
    parser = argparse.ArgumentParser(prog="mizzen.embedded.node")
    parser.add_argument("--state", type=Path, required=True)
    options = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s %(message)s")
    asyncio.run(run(ClusterPaths(options.state)))


if __name__ == "__main__":
    main()
