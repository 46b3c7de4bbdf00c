"""A Modal on this machine: it accepts an app, keeps what it was asked, and says that functions ended well.

Its protocol is the one of the installed `modal` package; whatever a client asks gets an empty answer of the right
type, with a name where it expects one.
"""

import asyncio
import pickle
import threading
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import Any

from grpclib.const import Handler
from grpclib.server import Server, Stream
from modal_proto import api_grpc, api_pb2


class FakeModal:
    """`asked` holds the name and the request of each call, `codes` what functions are to return; then it is 0."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, Any]] = []
        self.codes: list[int] = []
        self.url = ""

    def requests(self, name: str) -> list[Any]:
        """Those of one kind."""
        return [request for each, request in self.asked if each == name]

    @property
    def called(self) -> list[tuple[str, tuple]]:
        """The functions that were called, with their arguments."""
        of_id = {
            f"fu-{number}": each.function.function_name
            for number, each in enumerate(self.requests("FunctionCreate"), 1)
        }
        sent = self.requests("FunctionMap")
        return [(of_id[each.function_id], pickle.loads(each.pipelined_inputs[0].input.args)[0]) for each in sent]

    def answer(self, name: str, request: Any, reply: Any) -> Any:
        """Fill in the ids that a client goes on with, and results."""
        count = sum(each == name for each, _ in self.asked)
        for field in reply.DESCRIPTOR.fields:
            if field.name.endswith("_id") and field.type == field.TYPE_STRING:
                prefix = {"function_id": "fu", "image_id": "im", "volume_id": "vo", "app_id": "ap", "mount_id": "mo",
                          "secret_id": "st", "environment_id": "en", "function_call_id": "fc"}  # fmt: skip
                setattr(reply, field.name, f"{prefix.get(field.name, 'xx')}-{count}")
        match name:
            case "ClientHello":
                reply.image_builder_version = "2025.06"
            case "EnvironmentGetOrCreate":
                reply.metadata.settings.image_builder_version = "2025.06"
            case "MountPutFile":
                reply.exists = True
            case "ImageGetOrCreate" | "ImageJoinStreaming":
                reply.result.status = api_pb2.GenericResult.GENERIC_STATUS_SUCCESS
            case "FunctionPrecreate" | "FunctionCreate":
                metadata = reply.handle_metadata
                metadata.function_name = request.function_name if name == "FunctionPrecreate" else (
                    request.function.function_name
                )  # fmt: skip
                metadata.function_type = api_pb2.Function.FUNCTION_TYPE_FUNCTION
                metadata.supported_input_formats.append(api_pb2.DATA_FORMAT_PICKLE)
                metadata.supported_output_formats.append(api_pb2.DATA_FORMAT_PICKLE)
                if name == "FunctionCreate":
                    reply.function_data.ranked_functions.add().function.CopyFrom(request.function)
            case "FunctionMap":
                reply.pipelined_inputs.add(input_id="in-1")
            case "FunctionGetOutputs":
                output = reply.outputs.add(data_format=api_pb2.DATA_FORMAT_PICKLE)
                output.result.status = api_pb2.GenericResult.GENERIC_STATUS_SUCCESS
                output.result.data = pickle.dumps(self.codes.pop(0) if self.codes else 0)
        return reply


def handler(modal: FakeModal, name: str, reply_type: type) -> Callable[[Stream], Awaitable[None]]:
    async def handle(stream: Stream) -> None:
        request = await stream.recv_message()
        modal.asked.append((name, request))
        if name == "AppGetLogs":
            await asyncio.sleep(0.05)
            await stream.send_message(api_pb2.TaskLogsBatch(app_done=True, entry_id="1"))
            return
        await stream.send_message(modal.answer(name, request, reply_type()))

    return handle


class Everything:
    """Every call of the protocol."""

    def __init__(self, modal: FakeModal) -> None:
        self.modal = modal

    def __mapping__(self) -> dict[str, Handler]:
        methods = {
            name: lambda self, stream: None for name in vars(api_grpc.ModalClientBase) if not name.startswith("_")
        }
        base = type("Base", (api_grpc.ModalClientBase,), methods)()
        return {
            path: Handler(
                handler(self.modal, path.rpartition("/")[2], each.reply_type),
                each.cardinality, each.request_type, each.reply_type,
            )
            for path, each in base.__mapping__().items()
        }  # fmt: skip


@contextmanager
def serve() -> Iterator[FakeModal]:
    """The server, in a thread, until the block ends."""
    modal, loop, ready = FakeModal(), asyncio.new_event_loop(), threading.Event()

    async def begin() -> Server:
        server = Server([Everything(modal)])
        await server.start("127.0.0.1", 0)
        modal.url = f"http://127.0.0.1:{server._server.sockets[0].getsockname()[1]}"
        return server

    server = None

    def work() -> None:
        nonlocal server
        asyncio.set_event_loop(loop)
        server = loop.run_until_complete(begin())
        ready.set()
        loop.run_forever()

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    ready.wait(10)
    try:
        yield modal
    finally:
        server.close()
        loop.call_soon_threadsafe(loop.stop)
        thread.join(5)
