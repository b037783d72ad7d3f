"""The page of commands is current, and what the documents point to is there."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGES = [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")]


def test_the_page_of_commands_is_current() -> None:
    script = ROOT / "scripts" / "build_cli_reference.py"
    assert subprocess.run([sys.executable, script, "--check"], check=False, timeout=60).returncode == 0, f"run {script}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#\s]+)[^)]*\)", page.read_text()):
        if not target.startswith("http"):
            assert (page.parent / target).exists(), f"{page.name} points to {target}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_commands_in_the_documents_exist(page: Path) -> None:
    from mizzen.cli.main import VERBS

    verbs = set(re.findall(r"`mizzen ([a-z][a-z-]+)", page.read_text()))
    assert verbs <= VERBS.keys(), verbs - VERBS.keys()
