"""The long-lived process that answers a run's messages by the code that is installed here.

Flower's own starts a process for every message and runs the archive that came from the server.
This one takes message and context from the local SuperNode and leaves the archive alone. It
reads the table once, before it asks for work.
"""

import logging
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import httpx
from flwr.app import Context, Error, Message
from flwr.clientapp import ClientApp
from flwr.common.constant import ErrorCode, SubStatus
from flwr.common.serde import message_to_proto
from flwr.proto.runtime_pb2 import AcquireTaskRequest
from flwr.supercore.constant import TaskType
from flwr.supercore.heartbeat import HeartbeatSender, make_task_heartbeat_fn_http
from flwr.supercore.inflatable.inflatable_utils import pull_and_inflate_object_from_tree
from flwr.supercore.interceptors import (
    RuntimeTokenHttpInterceptor,
    RuntimeVersionHttpInterceptor,
    SuperExecAuthHttpInterceptor,
)
from flwr.supercore.protobuf.client import ProtobufClientInterceptor
from flwr.supercore.runtime import RuntimeHttpClient
from flwr.supernode.runtime.run_clientapp import pull_task_input, push_message, push_task_output

from client.app import build_app
from client.budget import note_budget
from client.config import load_institution
from client.consent import KEYS, PIN, PLAN, ROSTER
from client.health import READY
from client.stages import Institution
from common.console import log_to_file
from common.errors import FedpruneError
from common.processes import Presence
from common.timings import Timings
from common.waiting import Pause, look_again_after

log = logging.getLogger("fedprune.client")

FIRST_PAUSE, LONGEST_PAUSE = 0.02, 0.5
"""Between questions to the SuperNode beside it: a message waits for this at most."""

AGAIN_SECONDS = 60.0
"""Between attempts to open what could not be opened and has not changed."""


class Approved:
    """The institution of a ``client.toml``, opened again whenever what it was opened by changes.

    So `approve`, `leave` and whatever else is done to the files count from the next message on.
    While it cannot be opened, for want of an approved plan or of anything else, every message is
    refused.
    """

    def __init__(self, path: Path) -> None:
        """Open nothing yet."""
        self._path = path
        self._files = (path, *(path.with_name(name) for name in (PIN, PLAN, ROSTER, KEYS)))
        self._opened: tuple[tuple[int, ...], Institution] | None = None

    def __call__(self, _: Context | None = None) -> Institution:
        """Return the institution; raise what keeps it from being opened."""
        changed = self.changed
        if self._opened is None or self._opened[0] != changed:
            self._opened = None
            self._opened = (changed, load_institution(self._path))
        return self._opened[1]

    @property
    def changed(self) -> tuple[int, ...]:
        """When each of its files changed last, in nanoseconds; 0 for one that is not there."""
        return tuple(file.stat().st_mtime_ns if file.exists() else 0 for file in self._files)


class Watch:
    """Opens the institution before a message asks for it, and tells whether that went well.

    Called in place of ``sleep``. What cannot be opened is tried again when its files have
    changed, and else once a minute: it may be a database that is away.
    """

    def __init__(
        self,
        approved: Approved,
        presence: Presence,
        sleep: Callable[[float], None] = time.sleep,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Look at once."""
        self._approved, self._presence = approved, presence
        self._sleep, self._clock = sleep, clock
        self._ready, self._due = False, 0.0
        self._seen: tuple[int, ...] | None = None
        self._look()

    def __call__(self, seconds: float) -> None:
        """Sleep, and look if there is a reason to."""
        self._sleep(seconds)
        try:
            changed = self._approved.changed != self._seen
        except OSError:
            changed = self._ready
        if changed or (not self._ready and self._clock() >= self._due):
            self._look()

    def _look(self) -> None:
        self._due = self._clock() + AGAIN_SECONDS
        self._seen = None
        try:
            self._seen = self._approved.changed
            rows = self._approved().splits
        except (FedpruneError, OSError) as error:
            self._ready = False
            log.warning("every message is refused until this is mended: %s", error)
        else:
            self._ready = True
            log.info("ready: %d rows to train on", len(rows.train))
        self._presence.tell(present=self._ready)


class Executor:
    """Takes tasks from the SuperNode at ``address`` and performs them by ``client``."""

    def __init__(
        self,
        address: str,
        secret: bytes,
        client: ClientApp,
        timings: Timings | None = None,
        answered: Callable[[], None] = lambda: None,
    ) -> None:
        """``secret`` is what the SuperNode was started with, so that no other process may ask.

        ``timings`` is told how long an answer took; ``answered`` is called after each.
        """
        self._address, self._secret, self._app = address, secret, client
        self._timings, self._answered = timings or Timings(), answered

    def run(self, sleep: Callable[[float], None] = time.sleep) -> None:
        """Perform tasks until the process ends."""
        pause = Pause(FIRST_PAUSE, LONGEST_PAUSE)
        wanted = AcquireTaskRequest(supported_task_types=[TaskType.CLIENT_APP])
        signed = SuperExecAuthHttpInterceptor(
            master_secret=self._secret, protected_methods={"/flwr.proto.Runtime/AcquireTask"}
        )
        with self._client(signed) as node:
            while True:
                try:
                    if token := node.AcquireTask(wanted).token:
                        self.perform(token)
                        pause.over()
                        continue
                except httpx.TransportError:
                    log.debug("the SuperNode does not answer")
                except httpx.HTTPStatusError as error:
                    # As when the run was stopped meanwhile: the table stays loaded.
                    log.warning("the SuperNode said %d", error.response.status_code)
                sleep(pause.next())

    def perform(self, token: str) -> None:
        """Answer the message of a task."""
        with self._client(RuntimeTokenHttpInterceptor(token)) as node:
            heartbeat = HeartbeatSender(make_task_heartbeat_fn_http(node))
            heartbeat.start()
            try:
                message, context, _, _ = pull_task_input(node)
                push_message(node, self.answer(message, context), context)
                push_task_output(node, context, SubStatus.COMPLETED, "")
                self._answered()
            finally:
                if heartbeat.is_running:
                    heartbeat.stop()

    def answer(self, message: Message, context: Context) -> Message:
        """Return the app's reply, or an error that says nothing about why."""
        self._timings.moved(received=message_to_proto(message).ByteSize())
        with self._timings.timed(message.metadata.message_type.rpartition(".")[2]):
            reply = self._reply(message, context)
            self._timings.moved(sent=message_to_proto(reply).ByteSize())
        return reply

    def _reply(self, message: Message, context: Context) -> Message:
        try:
            return self._app(message=message, context=context)
        except Exception as error:
            # A message no stage is for. The text of an exception would travel to the server.
            log.error("a message was not understood: %s", type(error).__name__)
            refused = Error(ErrorCode.CLIENT_APP_RAISED_EXCEPTION, "refused")
            return Message(refused, reply_to=message)

    def _client(self, interceptor: ProtobufClientInterceptor) -> RuntimeHttpClient:
        return RuntimeHttpClient.from_server_address(
            server_address=self._address,
            insecure=True,
            root_certificates=None,
            interceptors=[
                RuntimeVersionHttpInterceptor(component_name="fedprune-client"),
                interceptor,
            ],
        )


def main(file: str, address: str, secret: str) -> None:
    """Serve the institution of ``file``, a ``client.toml``."""
    look_again_after(pull_and_inflate_object_from_tree, FIRST_PAUSE)
    log_to_file()
    # torch and Opacus cost seconds, which no round shall wait for.
    import client.update  # noqa: F401, PLC0415

    approved, state = Approved(Path(file)), Path(secret).parent
    watch = Watch(approved, Presence(state / READY))
    app, noted = build_app(approved), partial(note_budget, approved, state)
    noted()
    Executor(address, Path(secret).read_bytes(), app, Timings(state), noted).run(watch)


if __name__ == "__main__":
    main(*sys.argv[1:])
