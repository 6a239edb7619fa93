"""The gRPC server: requests checked at the edge, errors mapped once, health that is true."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from typing import Any

import grpc
from google.protobuf.message import Message
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection
from opentelemetry.trace import SpanKind, Tracer

from lungmesh.mesh.blobs import BlobMissing
from lungmesh.mesh.contract import validate
from lungmesh.mesh.errors import BadInput, MeshError, Refused, SettingsError, Unavailable
from lungmesh.mesh.settings import TlsSettings
from lungmesh.mesh.telemetry import Metrics, exemplar, span_failed, trace_of
from lungmesh.mesh.tls import server_credentials

log = logging.getLogger(__name__)

_MAX_BYTES = 64 * 1024 * 1024
_OPTIONS = (
    ("grpc.max_receive_message_length", _MAX_BYTES),
    ("grpc.max_send_message_length", _MAX_BYTES),
)
_STATUS: tuple[tuple[type[Exception], grpc.StatusCode], ...] = (
    (BadInput, grpc.StatusCode.INVALID_ARGUMENT),
    (BlobMissing, grpc.StatusCode.NOT_FOUND),
    (Unavailable, grpc.StatusCode.UNAVAILABLE),
    (Refused, grpc.StatusCode.FAILED_PRECONDITION),
)


def status_of(error: Exception) -> tuple[grpc.StatusCode, str]:
    """Return the gRPC status and the sentence for an error; a bug of ours tells no details."""
    for kind, code in _STATUS:
        if isinstance(error, kind):
            return code, str(error)
    if isinstance(error, MeshError):
        return grpc.StatusCode.INTERNAL, str(error)
    return grpc.StatusCode.INTERNAL, "the service met an unexpected error; its log names it"


class EdgeInterceptor(grpc.aio.ServerInterceptor):  # type: ignore[misc]
    """Validates, traces, meters, and turns the error tree into gRPC status, for every call."""

    def __init__(self, metrics: Metrics, tracer: Tracer) -> None:
        self._metrics = metrics
        self._tracer = tracer
        # Set when the server stops: answers without end (watching) must not hold it up.
        self.closing = asyncio.Event()

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[Any]],
        details: grpc.HandlerCallDetails,
    ) -> Any:
        """Wrap the call's handler."""
        handler = await continuation(details)
        if handler is None or details.method.startswith("/grpc."):
            return handler
        headers = {
            name: value.encode() if isinstance(value, str) else value
            for name, value in details.invocation_metadata or ()
        }
        call = _Call(self._metrics, self._tracer, details.method, headers, self.closing)
        arguments = {
            "request_deserializer": handler.request_deserializer,
            "response_serializer": handler.response_serializer,
        }
        if handler.request_streaming and handler.response_streaming:
            return grpc.stream_stream_rpc_method_handler(
                call.streamed(handler.stream_stream), **arguments
            )
        if handler.request_streaming:
            return grpc.stream_unary_rpc_method_handler(
                call.single(handler.stream_unary), **arguments
            )
        if handler.response_streaming:
            return grpc.unary_stream_rpc_method_handler(
                call.streamed(handler.unary_stream), **arguments
            )
        return grpc.unary_unary_rpc_method_handler(call.single(handler.unary_unary), **arguments)


class _Call:
    """One call on its way through the edge."""

    def __init__(
        self,
        metrics: Metrics,
        tracer: Tracer,
        method: str,
        headers: dict[str, bytes],
        closing: asyncio.Event,
    ) -> None:
        self._metrics = metrics
        self._tracer = tracer
        self._method = method
        self._headers = headers
        self._closing = closing

    def single(self, behaviour: Callable[..., Any]) -> Callable[..., Any]:
        """Wrap a method that answers once."""

        async def wrapped(request: Any, context: Any) -> Any:
            async with _Measured(self, context):
                return await behaviour(self._checked(request), context)

        return wrapped

    def streamed(self, behaviour: Callable[..., Any]) -> Callable[..., Any]:
        """Wrap a method that answers with a stream."""

        async def wrapped(request: Any, context: Any) -> AsyncIterator[Any]:
            async with _Measured(self, context):
                answers = behaviour(self._checked(request), context)
                async for answer in _until(self._closing, answers):
                    yield answer

        return wrapped

    def _checked(self, request: Any) -> Any:
        if isinstance(request, Message):
            validate(request)
            return request
        return self._each_checked(request)

    @staticmethod
    async def _each_checked(requests: AsyncIterator[Message]) -> AsyncIterator[Message]:
        async for request in requests:
            validate(request)
            yield request


async def _until(closing: asyncio.Event, answers: AsyncIterator[Any]) -> AsyncIterator[Any]:
    """Pass answers on; raises Unavailable once the server stops."""
    stopped = asyncio.ensure_future(closing.wait())
    answer: asyncio.Future[Any] = stopped
    try:
        while True:
            answer = asyncio.ensure_future(anext(answers))
            await asyncio.wait({answer, stopped}, return_when=asyncio.FIRST_COMPLETED)
            if not answer.done():
                raise Unavailable("the service is stopping: call again")
            try:
                one = answer.result()
            except StopAsyncIteration:
                return
            yield one
    finally:
        stopped.cancel()
        answer.cancel()


class _Measured:
    """Time, trace and status of a call."""

    def __init__(self, call: _Call, context: Any) -> None:
        self._call = call
        self._context = context
        self._span = call._tracer.start_as_current_span(
            call._method.lstrip("/"),
            context=trace_of(call._headers),
            kind=SpanKind.SERVER,
            attributes={"rpc.system": "grpc", "rpc.method": call._method},
            record_exception=False,
            set_status_on_exception=False,
        )

    async def __aenter__(self) -> None:
        self._started = time.perf_counter()
        self._span.__enter__()

    async def __aexit__(self, kind: Any, error: BaseException | None, stack: Any) -> None:
        method = self._call._method
        seconds = time.perf_counter() - self._started
        self._call._metrics.call_seconds.labels(method).observe(seconds, exemplar())
        if isinstance(error, Exception):
            span_failed(error)
        self._span.__exit__(kind, error, stack)
        # A status that the servicer chose itself (abort) passes as it is.
        if not isinstance(error, Exception) or isinstance(error, grpc.aio.AbortError):
            code = self._context.code() or grpc.StatusCode.OK
            name = code.name if isinstance(code, grpc.StatusCode) else str(code)
            self._call._metrics.calls.labels(method, name).inc()
            return
        code, sentence = status_of(error)
        self._call._metrics.calls.labels(method, code.name).inc()
        if code is grpc.StatusCode.INTERNAL:
            log.error("%s failed", method, exc_info=error)
        await self._context.abort(code, sentence)


class GrpcServer:
    """A grpc.aio server with health and reflection."""

    def __init__(self, metrics: Metrics, tracer: Tracer) -> None:
        self._edge = EdgeInterceptor(metrics, tracer)
        self.server = grpc.aio.server(interceptors=[self._edge], options=_OPTIONS)
        self._health = health.aio.HealthServicer()
        self._names: list[str] = []
        health_pb2_grpc.add_HealthServicer_to_server(self._health, self.server)

    async def start(
        self,
        address: str,
        register: Callable[[grpc.aio.Server], Sequence[str]],
        tls: TlsSettings | None = None,
    ) -> int:
        """Start with the service's servicers, NOT_SERVING yet; return the bound port.

        Raises SettingsError when the port is taken or a TLS file cannot be read.
        """
        self._names = ["", *register(self.server)]
        await self.set_serving(False)
        names = (*self._names[1:], health.SERVICE_NAME, reflection.SERVICE_NAME)
        reflection.enable_server_reflection(names, self.server)
        try:
            port: int = (
                self.server.add_secure_port(address, server_credentials(tls))
                if tls
                else self.server.add_insecure_port(address)
            )
        except RuntimeError as error:
            raise SettingsError(f"LUNGMESH_GRPC_PORT: {address} cannot be bound") from error
        await self.server.start()
        return port

    async def set_serving(self, serving: bool) -> None:
        """Tell health checkers."""
        status = health_pb2.HealthCheckResponse
        for name in self._names:
            await self._health.set(name, status.SERVING if serving else status.NOT_SERVING)

    async def close(self, grace_seconds: float) -> None:
        """Refuse new calls, end streams without end, and let the other calls in hand finish."""
        await self.set_serving(False)
        self._edge.closing.set()
        await self.server.stop(grace_seconds)
