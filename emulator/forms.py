"""Bodies of ``POST calls``: an SDP offer, alone or in a form with a session."""

from aiohttp import BodyPartReader, web

from emulator import errors, shapes
from emulator.sessions import Dialect

_TAKES_FORMS = frozenset({Dialect.OPENAI, Dialect.AZURE_DATED})


async def read_offer(request: web.Request, dialect: Dialect) -> tuple[bytes, shapes.Session | None]:
    """Return the offer, and the session of a form that has one.

    Raises:
        ApiError: 400 for another kind of body than the dialect takes, and for a broken form.
    """
    if request.content_type == "application/sdp":
        return await request.read(), None
    takes_forms = dialect in _TAKES_FORMS
    if not takes_forms or request.content_type != "multipart/form-data":
        accepted = "'application/sdp' requests"
        if takes_forms:
            accepted += " and 'multipart/form-data' requests"
        raise errors.unsupported_content_type(request.content_type, accepted)
    parts = await _read_form(request)
    if "sdp" not in parts:
        raise errors.missing_parameter("sdp")
    session = shapes.parse_json_object(parts["session"]) if "session" in parts else None
    return parts["sdp"], session


async def _read_form(request: web.Request) -> dict[str, bytes]:
    parts: dict[str, bytes] = {}
    try:
        async for part in await request.multipart():
            if not isinstance(part, BodyPartReader) or part.name not in {"sdp", "session"}:
                raise errors.unknown_parameter(getattr(part, "name", None) or "(part)")
            parts[part.name] = bytes(await part.read())
    except ValueError as exc:
        # What aiohttp makes of a missing boundary and of broken parts.
        raise errors.invalid_form() from exc
    return parts
