"""How hard the property tests try, and where compiled tests are kept.

`MIZZEN_THOROUGH=1` looks for new counterexamples for minutes; otherwise a small, repeatable part is tried in seconds.
"""

from __future__ import annotations

import gc
import os
import sys
from pathlib import Path

# Rewriting all assertions takes longer than the tests do, and compiling all modules a third of what a process of a
# cluster takes to start. Also where no bytecode may lie beside the sources, it is kept from run to run: by `./dev` too.
if sys.dont_write_bytecode:
    sys.dont_write_bytecode = False
    sys.pycache_prefix = str(Path(sys.prefix) / "bytecode")
    os.environ["PYTHONPYCACHEPREFIX"] = sys.pycache_prefix
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)

# kubectl runs for a tenth of a second each time: collecting its garbage, on all cores, costs a third of that.
os.environ |= {"GOGC": "off", "GOMAXPROCS": "1"}

from hypothesis import HealthCheck, settings

# Modules and collected tests stay for as long as we run: looking through them for garbage again and again took a tenth.
gc.set_threshold(50_000, 20, 50)

settings.register_profile("quick", max_examples=15, deadline=None, derandomize=True, database=None)
settings.register_profile(
    "thorough", max_examples=1000, deadline=None, suppress_health_check=[HealthCheck.too_slow], print_blob=True
)
settings.load_profile("thorough" if os.environ.get("MIZZEN_THOROUGH") else "quick")


def pytest_collection_finish() -> None:
    gc.freeze()
