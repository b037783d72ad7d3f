"""One run of a container, from its start to its end: streams, log, probes, hooks, orderly stop."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import signal
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from mizzen.embedded.box.messages import Exit, Process, Running
from mizzen.embedded.images import Image
from mizzen.embedded.node.execution import run_briefly
from mizzen.embedded.node.facts import ContainerFacts
from mizzen.embedded.node.init_client import InitError
from mizzen.embedded.node.logfiles import LogFile
from mizzen.embedded.node.parts import Parts
from mizzen.embedded.node.probes import Kind, Outcome, Verdict, next_delay, schedule
from mizzen.embedded.node.stdio import Stdio
from mizzen.kube.api import JSON

log = logging.getLogger(__name__)

_HOOK_LIMIT = 30.0
_QUIET = 1.0
"""Seconds after its start during which a container that does not answer yet is no news."""
_LAST_WORDS = 2.0
"""Seconds to wait for the rest of the output of a container that has ended."""


@dataclass(slots=True)
class Live:
    """`report` hears of `post_started`, `started` and `ready` (see ContainerFacts) whenever one of them changes."""

    parts: Parts
    pod: JSON
    container: JSON
    process: Process
    image: Image | None
    address: str
    running: Running
    stdio: Stdio
    log: LogFile
    exited: asyncio.Future[Exit]
    report: Callable[..., None]
    unhealthy: Callable[[str], None]
    """Told when liveness or startup has failed for good."""
    _tasks: list[asyncio.Task[None]] = field(default_factory=list)
    _input_ended: bool = False

    @property
    def started_at(self) -> float:
        return self.running.started_at

    def begin(self, known: ContainerFacts) -> None:
        """Read its output and follow its health from here on."""
        self.stdio.pump_into(self.log)
        self._tasks.append(asyncio.create_task(self._follow(known)))

    def hook(self, name: str) -> JSON | None:
        """What the container's `lifecycle` says of `postStart` or `preStop`."""
        return (self.container.get("lifecycle") or {}).get(name) or None

    async def end(self) -> None:
        """After its exit: no more probes; the rest of the output is read."""
        self.stop_probes()
        await self.stdio.drained(_LAST_WORDS)
        self.stdio.close()
        self.log.close()

    def let_go(self) -> None:
        """Look after it no longer, and leave it running: init keeps the other ends of its streams."""
        self.stop_probes()
        self.stdio.close()
        self.log.close()

    async def end_input(self) -> None:
        """Its standard input ends, for us and for init, which keeps it for a node that comes back."""
        if self.exited.done() or self._input_ended:
            return
        self._input_ended = True
        await self.stdio.end_input()
        with contextlib.suppress(InitError):  # it has ended meanwhile
            await self.parts.init.close_stream(self.process.id, "stdin")

    def stop_probes(self) -> None:
        for task in self._tasks:
            task.cancel()
        self._tasks.clear()

    async def run(self, argv: Sequence[str], limit: float) -> tuple[int, str]:
        return await run_briefly(self.parts, self.process, self.image, argv, limit)

    async def stop(self, deadline: Callable[[], float]) -> None:
        """preStop, SIGTERM, and SIGKILL once `deadline()` (epoch seconds, may come nearer) has passed."""
        if self.hook("preStop") and not self.exited.done():
            await self._until(asyncio.ensure_future(self._hook("preStop")), deadline)
        await self._signal(signal.SIGTERM)
        if not await self._until(self.exited, deadline):
            await self._signal(signal.SIGKILL)
            await asyncio.shield(self.exited)

    async def _until(self, future: asyncio.Future[Any], deadline: Callable[[], float]) -> bool:
        """Wait for the future, the process's end or the deadline; True if the future is done."""
        while not future.done() and not self.exited.done():
            left = deadline() - time.time()
            if left <= 0:
                break
            await asyncio.wait((future, self.exited), timeout=min(left, 1.0), return_when=asyncio.FIRST_COMPLETED)
        return future.done()

    async def _signal(self, number: int) -> None:
        try:
            await self.parts.init.signal(self.process.id, number)
        except InitError as error:
            log.warning("cannot signal %s: %s", self.process.id, error.message)

    async def _follow(self, known: ContainerFacts) -> None:
        if not known.post_started:
            if not await self._hook("postStart"):
                self.unhealthy("FailedPostStartHook")
                return
            self.report(post_started=True)
        if not known.started:
            if not await self._start_up():
                self.unhealthy("startup")
                return
            self.report(started=True)
        if "readinessProbe" not in self.container:
            self.report(ready=True)
        else:
            self._tasks.append(asyncio.create_task(self._readiness(ready=known.ready)))
        if "livenessProbe" in self.container:
            self._tasks.append(asyncio.create_task(self._liveness()))

    async def _start_up(self) -> bool:
        probe = self.container.get("startupProbe")
        if not probe:
            return True
        verdict = Verdict(schedule(probe), initial=None)
        await self._initial_delay(probe)
        return await self._next_change("startup", probe, verdict)

    async def _readiness(self, *, ready: bool) -> None:
        probe = self.container["readinessProbe"]
        verdict = Verdict(schedule(probe), initial=ready or None)
        await self._initial_delay(probe)
        while True:
            self.report(ready=await self._next_change("readiness", probe, verdict))
            await asyncio.sleep(schedule(probe).period)

    async def _liveness(self) -> None:
        probe = self.container["livenessProbe"]
        await self._initial_delay(probe)
        await self._next_change("liveness", probe, Verdict(schedule(probe), initial=True))
        self.unhealthy("liveness")

    async def _initial_delay(self, probe: JSON) -> None:
        await asyncio.sleep(max(0.0, schedule(probe).delay - self._age()))

    async def _next_change(self, kind: Kind, probe: JSON, verdict: Verdict) -> bool:
        """Probe until the verdict is another than before.

        A young container is asked more often than its period; failures then count once per period, or a slow start
        would use up its `failureThreshold` too soon. Successes that are to be several come once per period.
        """
        plan, before, counts_from = schedule(probe), verdict.value, 0.0
        while True:
            outcome = await self.parts.prober.attempt(probe, self.container, self.address, self.run)
            now = time.monotonic()
            if outcome.ok or now >= counts_from:
                verdict.take(outcome.ok)
            if not outcome.ok and now >= counts_from:
                counts_from = now + plan.period
                self._note(kind, outcome)
            if verdict.value is not None and verdict.value != before:
                return verdict.value
            await asyncio.sleep(next_delay(kind, plan, self._age(), verdict.value is True or outcome.ok))

    def _age(self) -> float:
        return time.time() - self.started_at

    def _note(self, kind: Kind, outcome: Outcome) -> None:
        if self._age() < _QUIET:
            return
        message = f"{kind.capitalize()} probe failed: {outcome.message}"
        self.parts.recorder.warning(self.pod, "Unhealthy", message, self.container["name"])

    async def _hook(self, name: str) -> bool:
        """True when it went well, or there is none. A failed hook is an event."""
        hook = self.hook(name)
        failure = await self._hook_failure(hook) if hook else ""
        if failure:
            reason = "FailedPostStartHook" if name == "postStart" else "FailedPreStopHook"
            self.parts.recorder.warning(self.pod, reason, f"{name} hook failed: {failure}", self.container["name"])
        return not failure

    async def _hook_failure(self, hook: JSON) -> str:
        if sleep := hook.get("sleep"):
            await asyncio.sleep(float(sleep["seconds"]))
            return ""
        if action := hook.get("exec"):
            try:
                code, output = await self.run(action.get("command") or [], 3600.0)
            except TimeoutError:
                return "timed out"
            return f"exit code {code}: {output.strip()}" if code else ""
        probe = {**hook, "timeoutSeconds": _HOOK_LIMIT}
        outcome = await self.parts.prober.attempt(probe, self.container, self.address, self.run)
        # Unlike a probe, a hook has done its part once it was answered.
        return "" if outcome.ok or outcome.answered else outcome.message or "failed"
