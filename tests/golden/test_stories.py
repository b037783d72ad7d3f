"""Runs the stories of this folder."""

from __future__ import annotations

from pathlib import Path

import pytest

from stories import GOLDEN, differences, shown, stories, story, written


@pytest.mark.parametrize("path", stories(), ids=lambda path: str(path.relative_to(GOLDEN)))
def test_story(path: Path) -> None:
    told = written(path)
    wrong = [line for show, expect in story(path).checks for line in differences(expect, shown(show, told), show)]
    assert wrong == []
