"""A job's workers as actors of a Ray cluster: one on this machine, or the one Ray is told of."""

from __future__ import annotations

from concurrent.futures import Future
from importlib import import_module
from typing import Any
from weakref import WeakKeyDictionary

from tersely.errors import ConfigError, require
from tersely.middleware.batch_workers import Work, Workers, opened
from tersely.middleware.files import Block, Made

TOGETHER = 10
"""So many seconds the workers have to begin together; later ones join in."""

PATIENCE = 600
"""So many seconds a cluster has to find room for one worker."""


class RayWorkers(Workers):
    """Actors that load the models once each. Another one takes the place of one that died.

    The machines need this package and what the pipeline loads. Rows are read and written here.
    Where there is room for fewer actors than wanted, those do the work.
    """

    def __init__(self, work: Work, count: int, gpus: float) -> None:
        require("ray", extra="ray")
        super().__init__(work, count)
        self.ray: Any = import_module("ray")
        told = self.ray.exceptions
        self.deaths = (  # of the actor, or of the machine that held what it made
            told.RayActorError, told.ObjectLostError, told.OutOfMemoryError,
            told.WorkerCrashedError, told.NodeDiedError,
        )  # fmt: skip
        self.mine = not self.ray.is_initialized()
        if self.mine:
            self.ray.init(include_dashboard=False, log_to_driver=False)
        self.kind = self.ray.remote(_Worker).options(num_cpus=1, num_gpus=gpus, max_restarts=0)
        self.actors = [self.kind.remote(self.told) for _ in range(count)]
        self.begun = [actor.ready.remote() for actor in self.actors]
        self.turn = self.newest = 0
        self.owners: WeakKeyDictionary[Future[Any], Any] = WeakKeyDictionary()
        self.ray.wait(self.begun, num_returns=count, timeout=TOGETHER)

    def close(self) -> None:
        """End the actors, and Ray where it was started for them."""
        for actor in self.actors:
            self.ray.kill(actor)
        self.actors = []
        if self.mine:
            self.ray.shutdown()

    def _sent(self, block: Block) -> Future[Made]:
        ready = self._ready()
        self.turn += 1
        return self._given(ready[self.turn % len(ready)], block)

    def _sent_alone(self, row: Block) -> Future[Made]:
        """To the newest actor, which nobody gave anything else."""
        ready = self._ready()
        newest = self.actors[self.newest]
        return self._given(newest if newest in ready else ready[0], row)

    def _given(self, actor: Any, block: Block) -> Future[Made]:
        future: Future[Made] = actor.treat.remote(block).future()
        self.owners[future] = actor
        return future

    def _ready(self) -> list[Any]:
        """The actors that have begun. Raises ConfigError when there is no room for any."""
        done, _ = self.ray.wait(self.begun, num_returns=self.count, timeout=0)
        if not done:
            done, _ = self.ray.wait(self.begun, timeout=PATIENCE)
        if not done:
            has = self.ray.available_resources()
            room = ", ".join(f"{has.get(name, 0):g} {name}" for name in ("CPU", "GPU"))
            raise ConfigError(f"the Ray cluster has no room for a worker: {room} are free")
        return [
            actor for actor, begun in zip(self.actors, self.begun, strict=True) if begun in done
        ]

    def _greeted(self) -> Future[None]:
        actor = self._ready()[0]
        future: Future[None] = actor.ready.remote().future()
        self.owners[future] = actor
        return future

    def _again(self, block: Block, future: Future[Made]) -> Future[Made]:
        """The others live and go on with what they have."""
        lives = self.owners.get(future) in self.actors
        failed = future.done() and future.exception() is not None
        return future if lives and not failed else self._sent(block)

    def _buried(self, future: Future[Any]) -> None:
        """Put a new actor in the place of the one that had this work, where that still stands."""
        dead = self.owners.get(future)
        if dead in self.actors:
            at = self.newest = self.actors.index(dead)
            self.ray.kill(dead)  # gives back what it held, whatever befell it
            self.actors[at] = self.kind.remote(self.told)
            self.begun[at] = self.actors[at].ready.remote()


class _Worker:
    """What lives in another process."""

    def __init__(self, told: bytes) -> None:
        self.work = opened(told)

    def ready(self) -> None:
        """Do nothing, which an actor can that began at all."""

    def treat(self, block: Block) -> Made:
        if isinstance(self.work, str):
            raise ConfigError(self.work)
        return self.work(block)
