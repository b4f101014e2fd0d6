"""A job's workers as actors of a Ray cluster: one on this machine, or the one Ray is told of."""

from __future__ import annotations

import pickle
from concurrent.futures import Future
from importlib import import_module
from itertools import cycle
from typing import Any

from tersely.errors import require
from tersely.middleware.batch_workers import Work, Workers
from tersely.middleware.files import Block, Made


class RayWorkers(Workers):
    """Actors that load the models once each. Ray starts one that died anew.

    The machines need this package and what the pipeline loads. Rows are read and written here.
    """

    def __init__(self, work: Work, count: int, gpus: float) -> None:
        require("ray", extra="ray")
        super().__init__(work, count)
        self.ray: Any = import_module("ray")
        self.deaths = (self.ray.exceptions.RayActorError,)
        self.mine = not self.ray.is_initialized()
        if self.mine:
            self.ray.init(include_dashboard=False, log_to_driver=False)
        self.kind = self.ray.remote(_Worker).options(
            num_cpus=1, num_gpus=gpus, max_restarts=-1, max_task_retries=0
        )
        self.actors = [self.kind.remote(self.told) for _ in range(count)]
        self.turns = cycle(self.actors)
        self.careful: Any = None

    def close(self) -> None:
        """End the actors, and Ray where it was started for them."""
        for actor in filter(None, (*self.actors, self.careful)):
            self.ray.kill(actor)
        self.actors, self.careful = [], None
        if self.mine:
            self.ray.shutdown()

    def _sent(self, block: Block) -> Future[Made]:
        future: Future[Made] = next(self.turns).treat.remote(block).future()
        return future

    def _sent_alone(self, row: Block) -> Future[Made]:
        """To an actor that does nothing else, so that no other row's death is taken for its own."""
        self.careful = self.careful or self.kind.remote(self.told)
        future: Future[Made] = self.careful.treat.remote(row).future()
        return future

    def _buried(self) -> None:
        """The others live, and Ray starts the dead one anew; until then it refuses rows."""
        if self.careful is not None:
            self.ray.kill(self.careful)
            self.careful = None


class _Worker:
    """What lives in another process."""

    def __init__(self, told: bytes) -> None:
        self.work: Work = pickle.loads(told)

    def treat(self, block: Block) -> Made:
        return self.work(block)
