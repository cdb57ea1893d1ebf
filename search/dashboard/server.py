"""The web server of the dashboard. Only this module imports a web framework.

The server answers only GET and HEAD. It refuses requests whose Host header is a foreign name. Otherwise another site
could point its own name at this machine, and its pages could read the runs (DNS rebinding). A numeric address is safe,
because a browser sends it only if the user opened that address.
"""

from __future__ import annotations

import errno
import logging
import socket
from collections.abc import Callable, Mapping
from ipaddress import ip_address
from typing import Any

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.datastructures import MutableHeaders
from starlette.exceptions import HTTPException
from starlette.requests import Request as WebRequest
from starlette.responses import PlainTextResponse
from starlette.responses import Response as WebResponse
from starlette.routing import Route as WebRoute
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from ...primitives.errors import PrimerSearchError, UsageError
from ...system.signals import ends_at_interruption
from .rendering import error_page, static_file
from .requests import NotFoundError, Request, Response, Route
from .routes import all_routes
from .served_run import ServedRun

__all__ = ["DEFAULT_PORT", "create_app", "listen", "serve"]

DEFAULT_PORT = 8421
_PORTS_TRIED = 20

_HEADERS = {
    # Plotly sets inline styles, which are therefore allowed. Scripts may come only from files of this server.
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; "
    "img-src 'self' data:; connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
}


def create_app(runs: Mapping[str, ServedRun], names: frozenset[str] = frozenset()) -> ASGIApp:
    """Return the web application.

    Args:
        runs: runs to show, by key.
        names: further names by which browsers may call this machine.
    """

    async def static(web: WebRequest) -> WebResponse:
        response = static_file(web.path_params["name"])
        if response is None:
            raise HTTPException(404)
        return _web_response(response)

    async def failed(web: WebRequest, error: Exception) -> WebResponse:
        status = error.status_code if isinstance(error, HTTPException) else 500
        sentence = {
            404: "this page does not exist: choose one above",
            405: "the dashboard only shows runs, so it answers only GET requests",
        }.get(
            status,
            "the page could not be created, which is a bug in primer-search; see the terminal of the dashboard",
        )
        return _web_response(error_page(_request(web, runs), status, sentence))

    routes = [WebRoute(route.path, _endpoint(route, runs), methods=["GET"]) for route in all_routes()]
    application = Starlette(
        routes=[WebRoute("/static/{name}", static, methods=["GET"]), *routes],
        exception_handlers={HTTPException: failed, 500: failed},  # pyright: ignore[reportArgumentType]
    )
    application.router.redirect_slashes = False
    return _Guard(application, names | {"localhost", socket.gethostname().lower()})


def listen(host: str, port: int | None) -> socket.socket:
    """Bind the server's socket.

    Args:
        host: address or name to bind to.
        port: port; None for the default port, or the next free one.

    Raises:
        UsageError: the port is taken, or the address is not one of this machine.
    """
    ports = [port] if port is not None else [*range(DEFAULT_PORT, DEFAULT_PORT + _PORTS_TRIED), 0]
    try:
        family, _, _, _, address = socket.getaddrinfo(host, 0, type=socket.SOCK_STREAM)[0]
    except OSError as error:
        raise UsageError(f"--host {host} is not an address of this machine: try 127.0.0.1") from error
    for place, number in enumerate(ports):
        bound = socket.socket(family, socket.SOCK_STREAM)
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            bound.bind((address[0], number, *address[2:]))
            bound.listen(64)
        except OSError as error:
            bound.close()
            if error.errno == errno.EADDRINUSE and place + 1 < len(ports):
                continue
            if error.errno == errno.EADDRINUSE:
                raise UsageError(f"port {number} is taken by another program: choose another with --port") from error
            if error.errno == errno.EACCES:
                raise UsageError(f"port {number} needs administrator rights: choose one above 1023") from error
            raise UsageError(f"--host {host} is not an address of this machine: try 127.0.0.1") from error
        return bound
    raise AssertionError("port 0 is always free")


def serve(application: ASGIApp, bound: socket.socket) -> None:
    """Answer requests until Ctrl-C or a termination signal, then close the socket."""
    import uvicorn

    config = uvicorn.Config(
        application, log_level="warning", access_log=False, server_header=False, timeout_graceful_shutdown=1
    )
    with bound, ends_at_interruption():  # uvicorn raises the signal again once it has shut down
        uvicorn.Server(config).run(sockets=[bound])


def _endpoint(route: Route, runs: Mapping[str, ServedRun]) -> Callable[[WebRequest], Any]:
    async def endpoint(web: WebRequest) -> WebResponse:
        request = _request(web, runs)
        return _web_response(await run_in_threadpool(_answer, route, request))

    return endpoint


def _answer(route: Route, request: Request) -> Response:
    """Return the response of the view, or a page with its error."""
    try:
        return route.view(request)
    except NotFoundError as error:
        return error_page(request, 404, str(error))
    except UsageError as error:
        return error_page(request, 400, str(error))
    except PrimerSearchError as error:
        logging.getLogger("uvicorn.error").warning("%s: %s", request.path, error)
        return error_page(request, 503, str(error))


def _request(web: WebRequest, runs: Mapping[str, ServedRun]) -> Request:
    return Request(runs, web.url.path, {**web.path_params}, dict(web.query_params))


def _web_response(response: Response) -> WebResponse:
    return WebResponse(response.body, response.status, {**response.headers}, response.content_type)


class _Guard:
    """Refuses foreign Host headers and adds the security headers to every response."""

    def __init__(self, application: ASGIApp, names: frozenset[str]):
        self._application = application
        self._names = names

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._application(scope, receive, send)
            return

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                headers.setdefault("Cache-Control", "no-store")
                headers.update(_HEADERS)
            await send(message)

        host = dict(scope["headers"]).get(b"host", b"").decode("latin-1")
        if not _is_own_name(host, self._names):
            refusal = PlainTextResponse(
                "the dashboard answers only at its own address: open the address that it printed\n", 421
            )
            await refusal(scope, receive, send_with_headers)
            return
        await self._application(scope, receive, send_with_headers)


def _is_own_name(host: str, names: frozenset[str]) -> bool:
    """Return whether a Host header is a numeric address or one of the names, with any port.

    >>> _is_own_name("127.0.0.1:8421", frozenset()), _is_own_name("[::1]:8421", frozenset())
    (True, True)
    >>> _is_own_name("evil.example:8421", frozenset({"localhost"}))
    False
    """
    name = host[1:].partition("]")[0] if host.startswith("[") else host.partition(":")[0]
    try:
        ip_address(name)
    except ValueError:
        return name.lower() in names
    return True
