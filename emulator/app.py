"""The HTTP side: every dialect's routes, and what all their answers have in common."""

import secrets
from typing import Final

from aiohttp import web

from emulator.api import Api
from emulator.call import Call
from emulator.control import add_control_routes
from emulator.counters import Counters
from emulator.entra import EntraId
from emulator.errors import ApiError
from emulator.faults import Faults
from emulator.ice import NoPortError
from emulator.mishaps import Handler
from emulator.options import Options
from emulator.sessions import Calls, Dialect, EphemeralKeys
from emulator.sockets import Sockets, Upgrades

_CORS_HEADERS: Final = {
    "Access-Control-Allow-Origin": "*",
    "Access-Control-Allow-Methods": "POST, GET",
    "Access-Control-Allow-Headers": "authorization, content-type, api-key, x-openai-agents-sdk, "
    "openai-safety-identifier",
    "Access-Control-Expose-Headers": "location, x-request-id",
}
_WITH_SOCKETS: Final = (Dialect.OPENAI, Dialect.AZURE, Dialect.AZURE_DATED)


@web.middleware
async def _answer(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Answer preflights, put refusals into the provider's shape, and mark every response."""
    if request.method == "OPTIONS":
        response: web.StreamResponse = web.Response(status=200)
    else:
        try:
            response = await handler(request)
        except ApiError as exc:
            response = _refuse(exc)
        except NoPortError as exc:
            response = _refuse(ApiError(503, str(exc), kind="server_error"))
        except web.HTTPException as exc:
            message = f"Invalid URL or method ({request.method} {request.path})"
            response = _refuse(ApiError(exc.status, message))
    if not response.prepared:
        response.headers.update(_CORS_HEADERS)
        response.headers["x-request-id"] = f"req_{secrets.token_hex(16)}"
    return response


def _refuse(refused: ApiError) -> web.Response:
    headers = {"Retry-After": "1"} if refused.status == 429 else None
    return web.json_response({"error": refused.error()}, status=refused.status, headers=headers)


def make_app(options: Options, calls: Calls[Call]) -> web.Application:
    """Return the application with all dialects, ``/healthz`` and the ``/emulator`` endpoints."""
    app = web.Application(middlewares=[_answer])
    faults, keys, sockets = Faults(options.faults), EphemeralKeys(), Sockets()
    counters = Counters()
    entra = EntraId(
        is_strict=options.entra or bool(options.entra_tokens), tokens=options.entra_tokens
    )
    entra.add_routes(app.router, faults)
    for dialect in Dialect:
        api = Api(dialect, options, keys, calls, faults, entra, counters)
        api.add_routes(app.router)
        if dialect in _WITH_SOCKETS:
            app.router.add_get(dialect.value, Upgrades(api, sockets).handle)
    add_control_routes(app.router, calls, sockets, faults, counters)
    app.on_shutdown.append(sockets.close)
    return app
