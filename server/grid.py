"""The ServerApp's way to SuperLink, on which no reply waits for another.

A reply is announced before what is in it has been uploaded. Flower's grid then waits for the rest,
three minutes if its sender has died or is hostile, and meanwhile hands out none of those that have
come: their time runs out, and one institution costs the round of all. One that cannot be read ends
the run there; here it is an absence.
"""

import logging
from collections.abc import Callable, Iterable
from concurrent.futures import Future, ThreadPoolExecutor, wait
from copy import copy
from typing import Any

import httpx
from flwr.app import Error, Message, Metadata
from flwr.app.message import make_message
from flwr.common.constant import ErrorCode
from flwr.proto.message_pb2 import PullObjectRequest, PullObjectResponse
from flwr.proto.runtime_pb2 import PullAppMessagesRequest, PullAppMessagesResponse
from flwr.supercore.constant import SYSTEM_MESSAGE_TYPE
from flwr.supercore.run import RunNotRunningException
from flwr.supercore.runtime import RuntimeHttpClient
from flwr.superlink.grid import HttpGrid

log = logging.getLogger("fedprune.server")

UPLOADS = 64
"""Replies that may be on their way at once; others wait for one of them."""

LOOK_SECONDS = 0.05
"""Given to what has been announced before the others are handed out."""


class _Announced:
    """A client that has one announcement to give, and fetches for it while it is ``asked`` for."""

    def __init__(
        self,
        client: RuntimeHttpClient,
        announced: PullAppMessagesResponse,
        asked: Callable[[], bool],
    ) -> None:
        self._client, self._announced, self._asked = client, announced, asked
        self.ConfirmMessageReceived = client.ConfirmMessageReceived

    def PullMessages(self, _: PullAppMessagesRequest) -> PullAppMessagesResponse:  # noqa: N802
        return self._announced

    def PullObject(self, request: PullObjectRequest) -> PullObjectResponse:  # noqa: N802
        # "Not found" ends Flower's attempts.
        return self._client.PullObject(request) if self._asked() else PullObjectResponse()


def unreadable(node: int, run: int, name: str) -> Message:
    """Return the error in place of a reply to ``name`` that nobody can read."""
    metadata = Metadata(run, "", node, node, name, "", 0.0, 0.0, SYSTEM_MESSAGE_TYPE)
    return make_message(metadata, error=Error(ErrorCode.MESSAGE_UNAVAILABLE, "unreadable"))


class PatientGrid(HttpGrid):
    """Flower's grid, which fetches each reply in a thread of its own for as long as it is asked."""

    def __init__(self, address: str, root_certificates: bytes | None, *, token: str) -> None:
        """Connect to SuperLink over TLS with the first call."""
        super().__init__(address, root_certificates=root_certificates, token=token)
        self._threads = ThreadPoolExecutor(UPLOADS)
        self._asked: frozenset[str] = frozenset()
        self._fetched: dict[str, Future[Iterable[Message]]] = {}

    def pull_messages(self, message_ids: Iterable[str]) -> list[Message]:
        """Return the replies to ``message_ids`` that are whole; what nobody asks for is let go."""
        self._asked = frozenset(message_ids)
        for one in self._fetched.keys() - self._asked:
            del self._fetched[one]
        if missing := self._asked - self._fetched.keys():
            self._fetch(missing)
        done, _ = wait(self._fetched.values(), LOOK_SECONDS)
        ended = [one for one, fetched in self._fetched.items() if fetched in done]
        return [message for one in ended for message in self._fetched.pop(one).result()]

    def _fetch(self, asked: Iterable[str]) -> None:
        """Begin to fetch what is announced: SuperLink hands each announcement out once."""
        answer = self._runtime_client.PullMessages(PullAppMessagesRequest(message_ids=asked))
        pairs = zip(answer.messages_list, answer.message_object_trees, strict=True)
        for message, tree in pairs:
            name = message.metadata.reply_to_message_id
            alone = PullAppMessagesResponse(messages_list=[message], message_object_trees=[tree])
            self._fetched[name] = self._threads.submit(self._fetch_one, name, alone)

    def _fetch_one(self, name: str, announced: PullAppMessagesResponse) -> Iterable[Message]:
        alone: Any = copy(self)
        alone._client = _Announced(self._runtime_client, announced, lambda: name in self._asked)
        try:
            found = list(HttpGrid.pull_messages(alone, [name]))
        except (RunNotRunningException, httpx.HTTPError):
            raise
        except Exception as error:
            # SuperLink looks at the head of what an institution sends, and at nothing within.
            found = []
            log.debug("a reply cannot be read: %s", type(error).__name__)
        # Whose reply it is, too, is what its sender says.
        if [one.metadata.reply_to_message_id for one in found] == [name]:
            return found
        return [unreadable(self.node.node_id, self.run.run_id, name)]

    def close(self) -> None:
        """Let go of all that is on its way, and of the connection."""
        self._asked = frozenset()
        self._fetched.clear()
        self._threads.shutdown(wait=False, cancel_futures=True)
        super().close()
