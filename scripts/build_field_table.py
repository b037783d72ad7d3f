"""Writes docs/reference/fields.md; `--check` only says whether it is up to date (exit code 1 when it is not)."""

from __future__ import annotations

import sys
from pathlib import Path

from mizzen.api.fields import table

PAGE = Path(__file__).resolve().parents[1] / "docs/reference/fields.md"


def main(arguments: list[str]) -> int:
    text = table()
    if "--check" in arguments:
        return 0 if PAGE.exists() and PAGE.read_text() == text else 1
    PAGE.parent.mkdir(parents=True, exist_ok=True)
    PAGE.write_text(text)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
