"""docs/tutorial.md says what happens when its lines are typed. Type them."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from .conftest import Shell

pytestmark = [pytest.mark.e2e, pytest.mark.usefixtures("kubectl")]

TUTORIAL = Path(__file__).parents[2] / "docs" / "tutorial.md"


def lines() -> list[str]:
    blocks = re.findall(r"```bash\n(.*?)```", TUTORIAL.read_text(), re.S)
    return [line for block in blocks for line in block.splitlines()]


def test_every_line_of_the_tutorial_works(shell: Shell) -> None:
    assert len(lines()) > 20
    for line in lines():
        output = shell.ok(line)
        if line.startswith("curl"):
            assert output == "<title>Simple Bookstore App</title>"
