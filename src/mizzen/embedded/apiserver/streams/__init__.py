"""exec, attach and port-forward: what clients speak, translated to what the node speaks."""

from mizzen.embedded.apiserver.streams.port_forward import serve_portforward
from mizzen.embedded.apiserver.streams.remote_command import serve_exec

__all__ = ["serve_exec", "serve_portforward"]
