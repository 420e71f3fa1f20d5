"""The institution's Flower `ClientApp`: each trip to its stage, every failure to a refusal."""

import logging
from collections.abc import Callable
from functools import partial
from typing import Any

from flwr.app import Context, Message
from flwr.clientapp import ClientApp

from client import offers, stages
from client.config import institution_of
from client.memory import Memory
from client.stages import Institution
from common import messages as wire
from common.errors import FedpruneError, PolicyError
from common.trail.folding import Folding
from common.trail.interface import refusals_noted
from common.versions import OtherProtocolError

log = logging.getLogger("fedprune.client")

Stage = Callable[[Institution, Memory, Any], tuple[Memory, wire.WireMessage]]


def _update(
    institution: Institution, memory: Memory, request: wire.UpdateRequest
) -> tuple[Memory, wire.UpdateReply]:
    # torch and Opacus cost seconds, and stock Flower starts a process for every message.
    from client.update import update  # noqa: PLC0415

    return update(institution, memory, request)


def build_app(institution_for: Callable[[Context], Institution]) -> ClientApp:
    """Return the app of the institution that ``institution_for`` finds for a node."""
    client = ClientApp()
    # A server that is refused over and over must not fill this institution's disk by it.
    folding = Folding()

    def serve(request_type: type[wire.WireMessage], stage: Stage) -> Callable[..., Message]:
        def handle(message: Message, context: Context) -> Message:
            reply: wire.WireMessage
            try:
                institution = institution_for(context)
                with refusals_noted(folding.onto(institution.trail), request_type.kind):
                    request = request_type.from_record(message.content)
                    memory, reply = stage(institution, Memory.load(context.state), request)
                memory.save(context.state)
            except OtherProtocolError as error:
                said = error.speaker.against("the server", "this institution")
                log.warning("refused %s: %s", request_type.kind, said)
                reply = wire.Foreign(institution.name)
            except PolicyError as error:
                log.warning("refused %s: %s", request_type.kind, error)
                reply = wire.Refusal(error.reason)
            except FedpruneError as error:
                # Its text holds no record, but is for this institution alone.
                log.error("%s failed: %s", request_type.kind, error)
                reply = wire.Refusal("failed")
            except Exception as error:
                # An exception's text may hold a record: neither the log nor the server gets it.
                log.error("%s failed: %s", request_type.kind, type(error).__name__)
                log.debug("%s failed", request_type.kind, exc_info=error)
                reply = wire.Refusal("failed")
            return Message(reply.to_record(), reply_to=message)

        return handle

    client.query("join")(serve(wire.JoinRequest, stages.join))
    client.query("advertise")(serve(wire.AdvertiseRequest, stages.advertise))
    client.query("sign")(serve(wire.SignRequest, stages.sign))
    client.query("offer")(serve(wire.OfferRequest, partial(offers.offer, folding)))
    client.query("deliver")(serve(wire.DeliverRequest, offers.deliver))
    client.train("update")(serve(wire.UpdateRequest, _update))
    client.train("unmask")(serve(wire.UnmaskRequest, stages.unmask))
    return client


app = build_app(institution_of)
