"""What the demo's two servers have in common: one process on a port of this machine."""

from __future__ import annotations

from types import TracebackType

from typing_extensions import Self

from ls_backend.demo.processes import Progress, ServerProcess, silent

HOST = "127.0.0.1"


def local_url(port: int) -> str:
    """Address of a server on this machine, without a slash at the end."""
    return f"http://{HOST}:{port}"


class LocalServer:
    """A server that can be started, waited for and stopped; as a context manager it runs inside the block.

    Args:
        port: where it listens.
        process: how it is run.
        start_timeout_s: how long it may take until it answers.
    """

    def __init__(self, port: int, process: ServerProcess, start_timeout_s: float) -> None:
        self.port = port
        self.process = process
        self._start_timeout_s = start_timeout_s

    @property
    def url(self) -> str:
        """Address without a slash at the end."""
        return local_url(self.port)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def start(self, on_progress: Progress = silent) -> None:
        """Start it and wait until it answers.

        Raises:
            DemoError: it ended or did not answer in time; the message shows the end of its log.
        """
        self.launch()
        try:
            self.wait(on_progress)
        except BaseException:
            self.stop()
            raise

    def launch(self) -> None:
        """Start it without waiting.

        Raises:
            DemoError: the program cannot be started.
        """
        self.process.start()

    def wait(self, on_progress: Progress = silent) -> None:
        """Wait until it answers; see `start`."""
        self.process.wait_until_healthy(self._start_timeout_s, on_progress)

    def stop(self) -> None:
        """Stop it and everything it started."""
        self.process.stop()
