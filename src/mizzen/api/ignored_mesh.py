"""Settings of the mesh that are legal in Istio and have no effect here yet. Whoever writes one is told."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

_REASONS: Mapping[str, tuple[str, ...]] = {
    "metrics, traces and access-log services are not served yet": (
        *("enableEnvoyAccessLogService", "enableTracing", "defaultProviders"),
        *("inboundClusterStatName", "outboundClusterStatName", "defaultConfig.tracing"),
        *("defaultConfig.tracingServiceName", "defaultConfig.envoyAccessLogService"),
        *("defaultConfig.envoyMetricsService", "defaultConfig.statsdUdpAddress", "defaultConfig.statsCompression"),
        *("defaultConfig.extraStatTags", "defaultConfig.statNameLength", "defaultConfig.fileFlushInterval"),
        "defaultConfig.fileFlushMinSizeKb",
    ),
    "certificates come from istiod or by SDS, and no other roots are trusted": (
        *("caCertificates", "ca", "defaultConfig.caCertificatesPem"),
        *("defaultConfig.controlPlaneAuthPolicy", "defaultConfig.privateKeyProvider"),
    ),
    "endpoints are not chosen by locality yet": ("localityLbSetting", "zoneAwareLbSetting"),
    "this setting is not served yet": (
        *("discoverySelectors", "configSources", "proxyHttpPort", "serviceSettings", "serviceScopeConfigs"),
        *("serviceEntryVisibility", "hboneIdleTimeout", "defaultTrafficPolicy.outlierDetection"),
        *("defaultConfig.proxyAdminPort", "defaultConfig.serviceCluster", "defaultConfig.configPath"),
        *("defaultConfig.binaryPath", "defaultConfig.proxyHeaders", "defaultConfig.customConfigFile"),
        *("defaultConfig.proxyBootstrapTemplatePath", "defaultConfig.connectionSettings"),
    ),
}
LEDGER: Mapping[str, str] = {path: reason for reason, paths in _REASONS.items() for path in paths}
"""Path below `meshConfig`, and why."""

ISTIOD_VARIABLES = frozenset(
    ("CITADEL_SELF_SIGNED_CA_CERT_TTL", "CITADEL_SELF_SIGNED_CA_RSA_KEY_SIZE", "PILOT_JWT_PUB_KEY_REFRESH_INTERVAL")
)
"""Of `values.pilot.env`, what istiod reads."""


def without_effect(mesh_config: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Path and reason of everything written that has no effect."""
    for path, reason in LEDGER.items():
        found: Any = mesh_config
        for step in path.split("."):
            found = found.get(step) if isinstance(found, Mapping) else None
        if found is not None:
            yield path, reason
