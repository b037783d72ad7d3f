"""sleep: a Pod that waits to be used with `kubectl exec`, and ends at once when told to."""

from __future__ import annotations

from mizzen.samples.serving import termination


def main() -> None:
    wait_for_the_end = termination()
    wait_for_the_end()


if __name__ == "__main__":
    main()
