"""What the injector is told: mesh settings, chart values and its own policy, as the ConfigMaps hold them.

ConfigMap `istio` (key `mesh`) and ConfigMap `istio-sidecar-injector` (keys `config` and `values`), Istio's formats:
https://istio.io/latest/docs/setup/additional-setup/sidecar-injection/
"""

from __future__ import annotations

from typing import Any

from msgspec import field

from mizzen import __version__
from mizzen.api.base import Model
from mizzen.api.documents import parse_settings
from mizzen.api.mesh import MeshConfig

ISTIO_NAMESPACE = "istio-system"


class Probe(Model):
    enabled: bool = True
    failure_threshold: int = 600


def _default_resources() -> dict[str, Any]:
    return {"requests": {"cpu": "100m", "memory": "128Mi"}, "limits": {"cpu": "2000m", "memory": "1024Mi"}}


class ProxyValues(Model):
    """`values.global.proxy`"""

    image: str = "proxyv2"
    cluster_domain: str = "cluster.local"
    resources: dict[str, Any] = field(default_factory=_default_resources)
    log_level: str = "warning"
    component_log_level: str = "misc:error"
    include_ip_ranges: str = field(default="*", name="includeIPRanges")
    exclude_ip_ranges: str = field(default="", name="excludeIPRanges")
    include_inbound_ports: str = "*"
    exclude_inbound_ports: str = ""
    include_outbound_ports: str = ""
    exclude_outbound_ports: str = ""
    status_port: int = 15020
    hold_application_until_proxy_starts: bool = False
    readiness_initial_delay_seconds: int = 0
    readiness_period_seconds: int = 15
    readiness_failure_threshold: int = 4
    startup_probe: Probe = Probe()
    privileged: bool = False
    capture: str = "uid"
    """How the proxy's own traffic is known: by `uid`, or by packet `mark` where no second uid exists."""


class GlobalValues(Model):
    """`values.global`"""

    hub: str = "docker.io/istio"
    tag: str = __version__
    istio_namespace: str = ISTIO_NAMESPACE
    image_pull_policy: str = ""
    image_pull_secrets: tuple[str, ...] = ()
    network: str = ""
    mesh_id: str = field(default="", name="meshID")
    ca_address: str = ""
    multi_cluster: dict[str, Any] = field(default_factory=dict)
    logging: dict[str, Any] = field(default_factory=dict)
    proxy: ProxyValues = ProxyValues()


class InjectorValues(Model):
    """`values.sidecarInjectorWebhook`"""

    rewrite_app_http_probe: bool = field(default=True, name="rewriteAppHTTPProbe")
    enable_namespaces_by_default: bool = False


class Values(Model):
    """The chart values that injection reads (key `values`, JSON)."""

    global_: GlobalValues = field(default=GlobalValues(), name="global")
    sidecar_injector_webhook: InjectorValues = InjectorValues()
    revision: str = ""


class Policy(Model):
    """The injector's own settings (key `config`, YAML)."""

    policy: str = "enabled"
    never_inject_selector: tuple[dict[str, Any], ...] = ()
    always_inject_selector: tuple[dict[str, Any], ...] = ()
    injected_annotations: dict[str, str] = field(default_factory=dict)
    native_sidecars: bool = True
    """Whether the proxy is a restartable init container (Kubernetes ≥ 1.33)."""


class Settings(Model):
    mesh: MeshConfig = MeshConfig()
    proxy_config: dict[str, Any] = field(default_factory=dict)
    """`meshConfig.defaultConfig` as written: only that travels to proxies."""
    values: Values = Values()
    policy: Policy = Policy()

    @property
    def revision(self) -> str:
        return self.values.revision or "default"


def read_settings(mesh: str, values: str, policy: str) -> Settings:
    """From the three ConfigMap entries. Raises api.decode.Undecodable."""
    written = parse_settings(mesh, dict[str, Any])
    return Settings(
        mesh=parse_settings(mesh, MeshConfig),
        proxy_config=written.get("defaultConfig") or {},
        values=parse_settings(values, Values),
        policy=parse_settings(policy, Policy),
    )
