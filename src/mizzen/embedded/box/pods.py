"""What init knows about the Pods' processes: who runs, who ended how, and what the node has not collected yet."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import msgspec

from mizzen.embedded.box import proc, sandbox, spawn
from mizzen.embedded.box.addresses import second_address
from mizzen.embedded.box.messages import Exit, Inventory, Message, Process, Request, Running, Sandbox, close_all


class Refused(Exception):
    """A request that cannot be met: `reason` for the machine, the message for people."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason


@dataclass(slots=True)
class Entry:
    """A process and the descriptors kept for a node that comes back."""

    running: Running
    kept: list[int]
    root: int | None = None
    """The mount namespace of a process with a root of its own: whatever is left in there ends with it.

    A descriptor, not an inode number: the number of a namespace that is gone is given to the next one at once.
    """
    first: int = 0
    """Pid 1 of the pid namespace that is this process's own: the kernel ends everything in there with it."""

    def end_leftovers(self) -> None:
        """Kill what the process left behind, and let go of its root."""
        self.end()
        if self.root is not None:
            if not self.first:
                proc.kill_all_in(self.root)
            os.close(self.root)
            self.root = None

    def close(self, stream: str) -> None:
        """Let go of one kept descriptor, so that the process sees the end of its input. Nothing if it is gone."""
        if stream in self.running.kept:
            os.close(self.kept.pop(self.running.kept.index(stream)))
            left = [name for name in self.running.kept if name != stream]
            self.running = msgspec.structs.replace(self.running, kept=left)

    def end(self) -> None:
        """Kill everything in the pid namespace, if it is its own."""
        if self.first:
            os.kill(self.first, signal.SIGKILL)


@dataclass(slots=True)
class PodProcesses:
    """`tell` is called with every event; requests come through `answer`."""

    place: spawn.Place
    tell: Callable[[Message], None]
    ipv6: bool = False
    """Pods have a second address."""
    addresses: sandbox.Addresses = field(default_factory=sandbox.Addresses)
    sandboxes: dict[str, Sandbox] = field(default_factory=dict)
    entries: dict[str, Entry] = field(default_factory=dict)
    _ports: int = 0
    _ended: set[str] = field(default_factory=set)
    """Sandboxes whose pause process has ended."""

    def answer(self, request: Request, descriptors: Sequence[int]) -> tuple[Message, Sequence[int]]:
        """Do what the node asks. Raises Refused, StartError or OSError. The descriptors stay the caller's."""
        match request.op:
            case "list":
                return Message(seq=request.seq, inventory=self._inventory()), ()
            case "create_sandbox":
                return Message(seq=request.seq, sandbox=self._create(request)), ()
            case "remove_sandbox":
                self._remove(request.id)
            case "run":
                return Message(seq=request.seq, process=self._run(request.process, descriptors)), ()
            case "signal":
                self._signal(request.id, request.signal)
            case "forget":
                self._forget(request.id)
            case "adopt":
                entry = self._entry(request.id)
                return Message(seq=request.seq, process=entry.running), entry.kept
            case "close":
                self._entry(request.id).close(request.stream)
        return Message(seq=request.seq), ()

    def reaped(self, pid: int, status: int) -> bool:
        """Note that `pid` ended. False if it is no process of a Pod."""
        return self._main_ended(pid, status) or self._first_ended(pid) or self._pause_ended(pid)

    def _main_ended(self, pid: int, status: int) -> bool:
        for entry in self.entries.values():
            if entry.running.pid == pid and not entry.running.exit:
                entry.end_leftovers()
                entry.running = msgspec.structs.replace(entry.running, exit=_exit(status, entry.running.meta))
                self.tell(Message(event="exited", id=entry.running.id, process=entry.running))
                self._bury(entry.running.sandbox)
                return True
        return False

    def _first_ended(self, pid: int) -> bool:
        """From now on the number may be somebody else's."""
        for entry in self.entries.values():
            if entry.first == pid:
                entry.first = 0
                return True
        return False

    def _pause_ended(self, pid: int) -> bool:
        """The kernel ends what shares the Pod's pid namespace, and we what has one of its own."""
        for found in self.sandboxes.values():
            if found.pid == pid:
                self._ended.add(found.id)
                for entry in self._living(found.id):
                    entry.end()
                self._bury(found.id)
                return True
        return False

    def _bury(self, name: str) -> None:
        """Forget a Pod's namespaces once they are over and nothing runs there any more."""
        if name in self._ended and not self._living(name):
            self._ended.discard(name)
            self.addresses.give_back(self.sandboxes.pop(name).address)
            self.tell(Message(event="sandbox_gone", id=name))

    def _living(self, sandbox: str) -> list[Entry]:
        running = (entry for entry in self.entries.values() if not entry.running.exit)
        return [entry for entry in running if entry.running.sandbox == sandbox]

    def _inventory(self) -> Inventory:
        return Inventory(
            sandboxes=list(self.sandboxes.values()), processes=[entry.running for entry in self.entries.values()]
        )

    def _create(self, request: Request) -> Sandbox:
        if request.id in self.sandboxes:
            return self.sandboxes[request.id]
        address = self.addresses.take()
        self._ports += 1
        try:
            pid = sandbox.create(request.hostname, address, f"pod{self._ports}", request.sysctls, ipv6=self.ipv6)
        except BaseException:
            self.addresses.give_back(address)
            raise
        second = second_address(address) if self.ipv6 else ""
        made = Sandbox(
            id=request.id,
            pid=pid,
            address=address,
            second_address=second,
            created_at=time.time(),
            meta=request.meta,
        )
        self.sandboxes[request.id] = made
        return made

    def _remove(self, name: str) -> None:
        """Every process of the Pod ends with its pause process. `sandbox_gone` follows once all are reaped."""
        if name not in self.sandboxes:
            raise Refused("NotFound", f"there is no sandbox {name}")
        if name not in self._ended:
            os.kill(self.sandboxes[name].pid, signal.SIGKILL)

    def _run(self, process: Process | None, descriptors: Sequence[int]) -> Running:
        if process is None:
            raise Refused("Invalid", "run without a process")
        if process.id in self.entries:
            raise Refused("AlreadyExists", f"{process.id} is known already")
        home = self.sandboxes.get(process.sandbox)
        if home is None:
            raise Refused("NotFound", f"there is no sandbox {process.sandbox}")
        if len(descriptors) < 3:
            raise Refused("Invalid", f"{process.id}: stdin, stdout and stderr must come with the request")
        joined = self._alive(process.join).pid if process.join else 0
        beside = self._alive(process.beside).pid if process.beside and not joined else 0
        started = spawn.start(process, self.place, home.pid, joined, beside, descriptors)
        running = Running(
            id=process.id,
            sandbox=process.sandbox,
            pid=started.pid,
            start_time=proc.start_time(started.pid),
            started_at=time.time(),
            meta=process.meta,
            kept=process.kept,
        )
        kept = [os.dup(descriptor) for descriptor in descriptors[3:]]
        self.entries[process.id] = Entry(running, kept, started.root, started.first)
        return running

    def _signal(self, name: str, number: int) -> None:
        """Unreaped children keep their pid, so it cannot have become someone else's."""
        entry = self._entry(name)
        if not entry.running.exit:
            os.kill(entry.running.pid, number)

    def _forget(self, name: str) -> None:
        entry = self._entry(name)
        if not entry.running.exit:
            raise Refused("Conflict", f"{name} is still running")
        close_all(entry.kept)
        del self.entries[name]

    def _entry(self, name: str) -> Entry:
        if name not in self.entries:
            raise Refused("NotFound", f"there is no process {name}")
        return self.entries[name]

    def _alive(self, name: str) -> Running:
        running = self._entry(name).running
        if running.exit:
            raise Refused("Conflict", f"{name} has ended")
        return running


def _exit(status: int, meta: dict[str, object]) -> Exit:
    code = os.waitstatus_to_exitcode(status)
    number = -code if code < 0 else 0
    killed_for_memory = number == signal.SIGKILL and _out_of_memory(str(meta.get("oom_file", "")))
    return Exit(code=128 + number if number else code, signal=number, oom=killed_for_memory, at=time.time())


def _out_of_memory(file: str) -> bool:
    """`oom_kill N` in cgroup v2's memory.events or v1's memory.oom_control."""
    try:
        lines = Path(file).read_text().splitlines() if file else []
    except OSError:
        return False  # the cgroup is gone: nobody can tell any more
    return any(line.startswith("oom_kill ") and line.split()[1] != "0" for line in lines)
