from collections.abc import Mapping


class CaptureRefused(ValueError): ...


def capture(arguments: list[str], environment: Mapping[str, str]) -> int:
    raise CaptureRefused("x")
