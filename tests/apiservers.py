"""The API server and its controllers as a process, without a node."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from pathlib import Path

from mizzen.embedded.apiserver.pki_files import Pki, kubeconfig


class ApiServer:
    """Serving once made. `kubeconfig` is the administrator's."""

    def __init__(self, folder: Path, *arguments: str) -> None:
        self.folder, self.arguments = folder, arguments
        self.kubeconfig = folder / "kubeconfig"
        self.pki = Pki(folder / "state" / "pki")
        self._start()

    def _start(self, port: int = 0) -> None:
        told = self.folder / "port"
        told.unlink(missing_ok=True)
        command = [sys.executable, "-m", "mizzen.embedded.apiserver", "--state", str(self.folder / "state")]
        with (self.folder / "log").open("ab") as log:
            self.process = subprocess.Popen(
                [*command, "--port", str(port), "--port-file", str(told), *self.arguments], stderr=log
            )
        deadline = time.monotonic() + 30
        while not told.exists():
            assert time.monotonic() < deadline and self.process.poll() is None, self.log()
            time.sleep(0.02)
        self.server = f"https://127.0.0.1:{told.read_text()}"
        self.kubeconfig.write_text(kubeconfig(self.pki, self.server))

    def log(self) -> str:
        return (self.folder / "log").read_text()

    def restart(self) -> None:
        """On the same port and state."""
        port = int(self.server.rpartition(":")[2])
        self.stop()
        self._start(port)

    def stop(self) -> None:
        self.process.send_signal(signal.SIGTERM)
        try:
            assert self.process.wait(15) == 0, self.log()
        finally:
            self.process.kill()
            self.process.wait()
