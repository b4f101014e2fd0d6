"""A server of ours on this machine, in a thread, as clients see it."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import uvicorn

from tersely.middleware.cli_serve import base_url, listening
from tersely.middleware.serve import app


@contextmanager
def serving(backend: Any, **settings: Any) -> Iterator[str]:
    """The base URL of a server over a backend."""
    with listening("127.0.0.1", 0) as place:
        config = uvicorn.Config(
            app(backend, **settings), lifespan="off", ws="none", log_level="critical"
        )
        server = uvicorn.Server(config)
        thread = threading.Thread(target=server.run, kwargs={"sockets": [place]})
        thread.start()
        until(lambda: server.started)
        try:
            yield base_url(place)
        finally:
            server.should_exit = True
            thread.join()


def until(holds: Callable[[], Any], seconds: float = 20.0) -> None:
    """Wait for something that happens in another thread."""
    end = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.005)
