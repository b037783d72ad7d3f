"""Exit codes, as istioctl documents them, and the one way in which a command fails."""

from __future__ import annotations

OK = 0
FAILED = 1
USAGE = 64
UNPARSABLE = 65
FINDINGS = 79
INTERRUPTED = 130


class Failure(Exception):
    """A command cannot do what it was asked. `hint` is the next step for the user."""

    def __init__(self, message: str, hint: str = "", code: int = FAILED) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        self.code = code
