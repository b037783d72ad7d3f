"""What an installation is to be: an Istio profile, files in IstioOperator's form, and `--set` on top.

https://istio.io/latest/docs/setup/additional-setup/customize-installation/
Whatever cannot be honoured is an error: a setting that is silently dropped is worse than none.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from copy import deepcopy
from difflib import get_close_matches
from typing import Any, TypeAlias, get_args, get_origin

import msgspec
from msgspec import field

from mizzen.api.base import Model
from mizzen.api.decode import Undecodable, convert
from mizzen.api.documents import NotYaml, load
from mizzen.api.mesh import MeshConfig
from mizzen.api.unknown import bare_type, unknown_fields
from mizzen.inject.settings import GlobalValues, InjectorValues
from mizzen.install.profiles import PROFILES, served_profiles

JSON: TypeAlias = dict[str, Any]


class InvalidOption(ValueError):
    """An option that does not exist or cannot be honoured; the message says what is meant perhaps."""


class PilotValues(Model):
    """`values.pilot`"""

    autoscale_enabled: bool = True
    replica_count: int = 1
    resources: dict[str, Any] = field(default_factory=dict)
    env: dict[str, str] = field(default_factory=dict)


class GatewayValues(Model):
    """`values.gateways.istio-ingressgateway` and `istio-egressgateway`"""

    autoscale_enabled: bool = True
    replica_count: int = 1
    resources: dict[str, Any] = field(default_factory=dict)
    type: str = ""
    ports: tuple[dict[str, Any], ...] = ()
    service_annotations: dict[str, str] = field(default_factory=dict)
    load_balancer_ip: str = field(default="", name="loadBalancerIP")
    external_traffic_policy: str = ""


class GatewaysValues(Model):
    ingress: GatewayValues = field(default=GatewayValues(), name="istio-ingressgateway")
    egress: GatewayValues = field(default=GatewayValues(), name="istio-egressgateway")


class InstallValues(Model):
    """`values`, as far as Mizzen honours them."""

    global_: GlobalValues = field(default=GlobalValues(), name="global")
    pilot: PilotValues = PilotValues()
    gateways: GatewaysValues = GatewaysValues()
    sidecar_injector_webhook: InjectorValues = InjectorValues()


class Component(Model):
    enabled: bool = False


class NamedComponent(Model):
    name: str = ""
    enabled: bool = False


class Components(Model):
    base: Component = Component()
    pilot: Component = Component()
    ingress_gateways: tuple[NamedComponent, ...] = ()
    egress_gateways: tuple[NamedComponent, ...] = ()


class _Tree(Model):
    profile: str = "default"
    hub: str = ""
    tag: str = ""
    components: Components = Components()
    values: InstallValues = InstallValues()


class Options(_Tree):
    mesh_config: dict[str, Any] = field(default_factory=dict)
    """As profile and user wrote it: that is what the ConfigMap holds."""


class _Checked(_Tree):
    """For finding what cannot be honoured."""

    mesh_config: MeshConfig = MeshConfig()


def read_options(sets: Iterable[str] = (), files: Iterable[str] = ()) -> Options:
    """`sets` are PATH=VALUE, `files` the texts of IstioOperator documents; later ones win. Raises InvalidOption."""
    written: JSON = {}
    for text in files:
        written = merged(written, _operator_spec(text))
    settings = tuple(sets)
    named = [setting.partition("=")[2] for setting in settings if setting.startswith("profile=")]
    tree = merged(_profile(named[-1] if named else written.get("profile", "default")), written)
    for setting in settings:
        tree = with_setting(tree, setting)
    _refuse_unknown(tree)
    tree = _read(tree, _Checked)
    try:
        convert(tree, _Checked)
        return convert(tree, Options)
    except Undecodable as error:
        raise InvalidOption(f"{error.path}: {error.reason}") from error


def _profile(name: str) -> JSON:
    if name in PROFILES:
        return deepcopy(dict(PROFILES[name]))
    raise InvalidOption(f"profile {name!r} is not served{_meant(name, PROFILES)}; there are {served_profiles()}")


def _meant(word: str, words: Iterable[str]) -> str:
    close = get_close_matches(word, list(words), n=1)
    return f", did you mean {close[0]!r}?" if close else ""


def _operator_spec(text: str) -> JSON:
    try:
        documents = load(text)
    except NotYaml as error:
        raise InvalidOption(str(error)) from error
    if len(documents) != 1 or documents[0].value.get("kind") != "IstioOperator":
        raise InvalidOption("an installation file holds one document of kind IstioOperator")
    return documents[0].value.get("spec") or {}


def merged(base: Mapping[str, Any], over: Mapping[str, Any]) -> JSON:
    """Mappings merge, lists of named components merge by name, everything else is replaced."""
    return {key: _merged(base.get(key), over[key]) if key in over else base[key] for key in {**base, **over}}


def _merged(base: Any, over: Any) -> Any:
    if isinstance(base, Mapping) and isinstance(over, Mapping):
        return merged(base, over)
    if _named(base) and _named(over):
        mine = {item["name"]: item for item in over}
        kept = [merged(item, mine.pop(item["name"], {})) for item in base]
        return [*kept, *mine.values()]
    return over


def _named(value: Any) -> bool:
    return (
        isinstance(value, list) and bool(value) and all(isinstance(item, Mapping) and "name" in item for item in value)
    )


_STEP = re.compile(r"\[(?P<place>[^\]]*)\]|(?P<key>(?:\\.|[^.\[\\])+)")


def with_setting(tree: JSON, setting: str) -> JSON:
    """`tree` with PATH=VALUE written into it. `a.b[0].c`, `a.[name:x].c` and `a\\.b` are paths; VALUE is YAML."""
    path, sign, value = setting.partition("=")
    if not sign or not path:
        raise InvalidOption(f"{setting!r} is not PATH=VALUE")
    steps: list[str | int | tuple[str, str]] = [_step(found) for found in _STEP.finditer(path)]
    if steps and steps[0] == "spec":
        steps = steps[1:]
    written: JSON = _written(deepcopy(tree), steps, _Given(value), path)
    return written


class _Given(str):
    """A value as it was given, to be read as what its place takes: `tag=1.40` is text, `replicaCount=2` a number."""


def _read(value: Any, kind: Any) -> Any:
    """`value` with everything given read, beside the struct it is for."""
    kind = bare_type(kind)
    if isinstance(value, _Given):
        return str(value) if kind is str else _scalar(str(value))
    if isinstance(value, list):
        inner = next(iter(get_args(kind)), Any)
        return [_read(item, inner) for item in value]
    if not isinstance(value, dict):
        return value
    if isinstance(kind, type) and issubclass(kind, msgspec.Struct):
        types = {one.encode_name: one.type for one in msgspec.structs.fields(kind)}
        return {key: _read(item, types.get(key, Any)) for key, item in value.items()}
    inner = get_args(kind)[1] if get_origin(kind) is dict else Any
    return {key: _read(item, inner) for key, item in value.items()}


def _step(found: re.Match[str]) -> str | int | tuple[str, str]:
    place = found["place"]
    if place is None:
        return re.sub(r"\\(.)", r"\1", found["key"])
    key, colon, value = place.partition(":")
    return (key, value) if colon else int(place) if place.isdigit() else place


def _scalar(text: str) -> Any:
    try:
        documents = load(text) if text else []
    except NotYaml as error:
        raise InvalidOption(f"value {text!r}: {error.message}") from error
    return documents[0].value if documents else ""


def _written(node: Any, steps: list[str | int | tuple[str, str]], value: Any, path: str) -> Any:
    if not steps:
        return value
    step, rest = steps[0], steps[1:]
    if isinstance(step, str):
        node = node if isinstance(node, dict) else {}
        return {**node, step: _written(node.get(step), rest, value, path)}
    items = list(node) if isinstance(node, list) else []
    index = _index(items, step, path)
    items[index] = _written(items[index], rest, value, path)
    return items


def _index(items: list[Any], step: int | tuple[str, str], path: str) -> int:
    """Of an item that is there, or of a new one at the end."""
    if isinstance(step, int):
        if step > len(items):
            raise InvalidOption(f"{path}: there are {len(items)} items, [{step}] is not the next one")
        items.extend([{}] if step == len(items) else [])
        return step
    key, value = step
    for index, item in enumerate(items):
        if isinstance(item, dict) and str(item.get(key)) == value:
            return index
    items.append({key: value})
    return len(items) - 1


def _refuse_unknown(tree: Mapping[str, Any]) -> None:
    for found in unknown_fields(tree, _Checked):
        meant = f", did you mean {found.suggestion!r}?" if found.suggestion else ""
        raise InvalidOption(f"{found.path} is not honoured{meant}")
