"""The faults, and the seeded schedule in which they come. Each is real: a signal, a dead server, a network, a disk."""

from __future__ import annotations

import random
import signal
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

import psutil

from tests.chaos.hosts import Host, send
from tests.chaos.machines import Machines
from tests.chaos.place import Place
from tests.chaos.relay import TO_CLIENT, TO_SERVER

PATIENCE_SECONDS = 8.0

# What a fault begins, and what ends it; None: it could not be begun (nobody to kill, say).
End = Callable[[], None]
Begin = Callable[["Scene"], "End | None"]


@dataclass(slots=True)
class Scene:
    """What a fault works on: one host, drawn for it, and the database and the machines that all hosts share."""

    place: Place
    host: Host
    machines: Machines | None
    dice: random.Random


@dataclass(frozen=True, slots=True)
class Kind:
    """One kind of fault. Faults that share a `claim` never overlap: two of them would be one, or could not be undone.

    `claim` is "server", "machines", or "network", "clock", "power", "freeze" of the host. `lasts`: shortest and longest
    seconds.
    """

    name: str
    weight: float
    begin: Begin
    claim: str = ""
    lasts: tuple[float, float] = (0.0, 0.0)


@dataclass(frozen=True, slots=True)
class Planned:
    """One fault of the schedule: so long after the one before, of this kind, on this host."""

    pause: float
    kind: Kind
    host: int
    seconds: float
    seed: int


def nothing() -> None:
    """The end of what is over at once."""


def _one_of(dice: random.Random, processes: Sequence[psutil.Process], number: signal.Signals) -> psutil.Process | None:
    if not processes:
        return None
    chosen = dice.choice(sorted(processes, key=lambda process: process.pid))
    return chosen if send(chosen, number) else None


def kill(who: Callable[[Host], Sequence[psutil.Process]]) -> Begin:
    def begin(scene: Scene) -> End | None:
        return nothing if _one_of(scene.dice, who(scene.host), signal.SIGKILL) else None

    return begin


def freeze(who: Callable[[Host], Sequence[psutil.Process]]) -> Begin:
    def begin(scene: Scene) -> End | None:
        frozen = _one_of(scene.dice, who(scene.host), signal.SIGSTOP)
        if frozen is None:
            return None

        def end() -> None:
            send(frozen, signal.SIGCONT)

        return end

    return begin


def freeze_with_warden(number: signal.Signals) -> Begin:
    """Freeze a worker, and freeze or kill the warden that is there to stop what it runs."""

    def begin(scene: Scene) -> End | None:
        worker = _one_of(scene.dice, scene.host.workers(), signal.SIGSTOP)
        if worker is None:
            return None
        wardens = [warden for warden in scene.host.wardens() if warden.ppid() == worker.pid]
        hit = [warden for warden in wardens if send(warden, number)]

        def end() -> None:
            for process in [*hit, worker]:
                send(process, signal.SIGCONT)

        return end

    return begin


def crash_host(scene: Scene) -> End | None:
    scene.host.is_up = False
    scene.host.kill_everything()

    def end() -> None:
        scene.host.is_up = True

    return end


def stop_cluster(scene: Scene) -> End | None:
    scene.host.tell_to_stop()
    return nothing


def server_signal(number: signal.Signals) -> Begin:
    def begin(scene: Scene) -> End | None:
        scene.place.restart_server(number)
        return nothing

    return begin


def kill_backend(scene: Scene) -> End | None:
    return nothing if scene.place.kill_backend(scene.dice) else None


def break_connections(scene: Scene) -> End | None:
    return nothing if scene.place.break_connections(scene.dice.choice([0.3, 0.6, 1.0])) else None


def cut(scene: Scene) -> End | None:
    scene.host.relay.cut()
    return nothing


def hold(*ways: str) -> Begin:
    def begin(scene: Scene) -> End | None:
        scene.host.relay.hold(*ways)
        break_at_end = scene.dice.random() < 0.3

        def end() -> None:
            if break_at_end:
                scene.host.relay.cut()
            scene.host.relay.heal()

        return end

    return begin


def slow_down(scene: Scene) -> End | None:
    scene.host.relay.slow_down(scene.dice.choice([0.01, 0.05, 0.2]))
    return scene.host.relay.heal


def fill_disk(scene: Scene) -> End | None:
    scene.place.fill_disk()
    return scene.place.empty_disk


def jump_clock(scene: Scene) -> End | None:
    clock = scene.host.clock
    if clock is None:
        return None
    clock.jump_to(scene.dice.choice([-1, 1]) * scene.dice.choice([2.0, 30.0, 3600.0, 86_400.0, 40 * 86_400.0]))
    return lambda: clock.jump_to(0.0)


def on_machines(begin: Callable[[Machines, random.Random], End | None]) -> Begin:
    return lambda scene: begin(scene.machines, scene.dice) if scene.machines else None


def kill_on_machine(who: Callable[[Machines], Sequence[psutil.Process]]) -> Begin:
    return on_machines(lambda machines, dice: nothing if _one_of(dice, who(machines), signal.SIGKILL) else None)


def cut_machines(machines: Machines, dice: random.Random) -> End | None:
    machines.relay.cut()
    return nothing


def hold_machines(machines: Machines, dice: random.Random) -> End | None:
    machines.relay.hold(*dice.choice([(TO_SERVER, TO_CLIENT), (TO_SERVER,), (TO_CLIENT,)]))
    break_at_end = dice.random() < 0.5

    def end() -> None:
        if break_at_end:
            machines.relay.cut()
        machines.relay.heal()

    return end


def slow_machines(machines: Machines, dice: random.Random) -> End | None:
    machines.relay.slow_down(dice.choice([0.01, 0.05, 0.2]))
    return machines.relay.heal


def crash_machines(machines: Machines, dice: random.Random) -> End | None:
    machines.crash()
    return machines.start


def of_machines(lease_seconds: float) -> list[Kind]:
    """Return the kinds of fault that come between workers and machines."""
    short, long = (0.2, lease_seconds / 3), (lease_seconds + 1, lease_seconds + 3)
    return [
        Kind("machines: kill -9 of a running command", 5, kill_on_machine(Machines.commands)),
        Kind("machines: kill -9 of a process of a guard", 5, kill_on_machine(Machines.guards)),
        Kind("machines: connections cut", 6, on_machines(cut_machines)),
        Kind("machines: network held, shorter than a lease", 4, on_machines(hold_machines), "machines", short),
        Kind("machines: network held, longer than a lease", 4, on_machines(hold_machines), "machines", long),
        Kind("machines: slow network", 4, on_machines(slow_machines), "machines", (2.0, 8.0)),
        Kind("machines: sshd gone for a while", 4, on_machines(crash_machines), "machines", (0.5, 4.0)),
    ]


def kinds(lease_seconds: float, *, has_machines: bool) -> list[Kind]:
    """Return every kind of fault for a lease of this length."""
    short, long = (0.2, lease_seconds / 3), (lease_seconds + 1, lease_seconds + 3)
    return [
        Kind("kill -9 of a worker", 14, kill(Host.workers)),
        Kind("kill -9 of a warden", 5, kill(Host.wardens)),
        Kind("kill -9 of the sentinel", 3, kill(Host.sentinels)),
        Kind("kill -9 of another process of django-q2", 4, kill(Host.helpers)),
        Kind("kill -9 of the worker command", 3, kill(lambda host: host.tree()[:1])),
        Kind("kill -9 of a running command", 6, kill(Host.commands)),
        Kind("power cut of a host", 3, crash_host, "power", (0.5, 3.0)),
        Kind("orderly stop of a host", 3, stop_cluster),
        Kind("worker frozen, shorter than a lease", 6, freeze(Host.workers), "freeze", short),
        Kind("worker frozen, longer than a lease", 6, freeze(Host.workers), "freeze", long),
        Kind("worker and its warden frozen", 3, freeze_with_warden(signal.SIGSTOP), "freeze", long),
        Kind("worker frozen, its warden killed", 3, freeze_with_warden(signal.SIGKILL), "freeze", long),
        Kind("process of django-q2 frozen", 3, freeze(Host.helpers), "freeze", long),
        Kind("server restarted (fast)", 2, server_signal(signal.SIGINT), "server"),
        Kind("server crashed (immediate)", 2, server_signal(signal.SIGQUIT), "server"),
        Kind("kill -9 of a server process", 2, kill_backend, "server"),
        Kind("connections ended by the server", 6, break_connections),
        Kind("connections cut", 6, cut),
        Kind("network held, shorter than a lease", 3, hold(TO_SERVER, TO_CLIENT), "network", short),
        Kind("network held, longer than a lease", 3, hold(TO_SERVER, TO_CLIENT), "network", long),
        Kind("nothing reaches the server", 3, hold(TO_SERVER), "network", (1.0, long[1])),
        Kind("nothing comes back from the server", 3, hold(TO_CLIENT), "network", (1.0, long[1])),
        Kind("slow network", 5, slow_down, "network", (2.0, 8.0)),
        Kind("disk of the output full", 4, fill_disk, "server", (2.0, 5.0)),
        Kind("wall clock jumps", 6, jump_clock, "clock", (1.0, 10.0)),
        *(of_machines(lease_seconds) if has_machines else ()),
    ]


def schedule(
    seed: int, hosts: int, pause_seconds: float, lease_seconds: float, *, has_machines: bool
) -> Iterator[Planned]:
    """Yield faults without end: each kind once in some order, then by weight, with exponential pauses."""
    dice = random.Random(f"faults {seed}")
    known = kinds(lease_seconds, has_machines=has_machines)
    first = dice.sample(known, len(known))
    weights = [kind.weight for kind in known]
    while True:
        kind = first.pop() if first else dice.choices(known, weights)[0]
        pause = min(dice.expovariate(1 / pause_seconds), 4 * pause_seconds)
        yield Planned(pause, kind, dice.randrange(hosts), dice.uniform(*kind.lasts), dice.getrandbits(32))


@dataclass(slots=True)
class UnderWay:
    ends_at: float
    claim: tuple[str, str]
    end: End
    name: str


@dataclass(slots=True)
class Injector:
    """Carries the schedule out. `turn` is called again and again; `stop_all` ends what is under way.

    A fault that cannot be begun is tried again for PATIENCE_SECONDS while the schedule goes on, then it is left out.
    """

    place: Place
    hosts: Sequence[Host]
    machines: Machines | None
    planned: Iterator[Planned]
    injected: Counter[str] = field(default_factory=Counter)
    left_out: Counter[str] = field(default_factory=Counter)
    under_way: list[UnderWay] = field(default_factory=list)
    _waiting: list[tuple[float, Planned]] = field(default_factory=list)  # with when they are given up
    _next: Planned | None = None
    _due: float = 0.0

    def turn(self, now: float) -> None:
        """End what is over, and begin what is due. `now`: monotonic seconds."""
        self.end_what_is_over(now)
        if self._next is None:
            self._next = next(self.planned)
            self._due = now + self._next.pause
        if now >= self._due:
            self._waiting.append((now + PATIENCE_SECONDS, self._next))
            self._next = None
        still: list[tuple[float, Planned]] = []
        for give_up_at, planned in self._waiting:
            if self._begin(planned, now):
                self.injected[planned.kind.name] += 1
            elif now < give_up_at:
                still.append((give_up_at, planned))
            else:
                self.left_out[planned.kind.name] += 1
        self._waiting = still

    def _begin(self, planned: Planned, now: float) -> bool:
        kind, host = planned.kind, self.hosts[planned.host]
        claim = (kind.claim, "" if kind.claim in ("server", "machines") else host.name)
        if not host.is_up or (kind.claim and any(one.claim == claim for one in self.under_way)):
            return False
        end = kind.begin(Scene(self.place, host, self.machines, random.Random(planned.seed)))
        if end is None:
            return False
        if end is not nothing:
            self.under_way.append(UnderWay(now + planned.seconds, claim, end, kind.name))
        return True

    def end_what_is_over(self, now: float) -> None:
        over = [one for one in self.under_way if one.ends_at <= now]
        self.under_way = [one for one in self.under_way if one.ends_at > now]
        for one in over:
            one.end()

    def stop_all(self) -> None:
        """End what is under way, and forget what waits."""
        self._waiting.clear()
        self.end_what_is_over(float("inf"))
