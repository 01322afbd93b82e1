"""The session that a provider is asked for: the caller's, the operator's, and names resolved.

Operators say per deployment what callers get by default (``session_defaults``) and what they get in
any case (``session``). Neither is a lock: a client can change its session once the call is up, but
for what is in a session lock, which callkeeper holds from then on.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Final

from extauthz.deployments import Deployment
from extauthz.mintbody import TRANSCRIPTION, MintRequest
from ringback.sessionlock import NO_LOCK, SessionLock

# What a transcription session has (OpenAI: RealtimeTranscriptionSessionCreateRequestGA).
_TRANSCRIPTION_MEMBERS: Final = frozenset({"audio", "include"})


def session_for(
    request: MintRequest,
    deployment: Deployment,
    further: Mapping[str, Sequence[Deployment]],
    lock: SessionLock = NO_LOCK,
) -> dict[str, Any]:
    """Return the session object, in the current API's shape, for one deployment.

    Args:
        request: What the caller asks for.
        deployment: Which mints.
        further: What serves the other models that the caller names, by name.
        lock: What the session has to be.
    """
    session = dict(request.session)
    if (name := request.transcription_model) is not None:
        upstream_name = _upstream_name(name, request, deployment, further)
        session = merge(session, _transcription(upstream_name))
    if request.session_type != TRANSCRIPTION:
        session = merge(deployment.session_defaults, session)
        session = lock.held(merge(session, deployment.session))
        own = {"type": request.session_type, "model": deployment.upstream_model}
        return {"type": request.session_type, **session, **own}
    session = merge(_for_transcription(deployment.session_defaults), session)
    session = merge(session, _for_transcription(deployment.session))
    named = request.transcription_model or request.model or ""
    model = _upstream_name(named, request, deployment, further)
    return {"type": TRANSCRIPTION, **merge(session, _transcription(model))}


def merge(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    """Return two objects as one, of which the second wins.

    Objects are merged member by member, unless they name different ``type``: their other members
    then mean different things. Whatever else, also a list and null, is replaced as a whole.
    """
    merged = dict(below)
    for name, value in above.items():
        old = merged.get(name)
        if isinstance(value, Mapping) and isinstance(old, Mapping) and _same_type(old, value):
            merged[name] = merge(old, value)
        else:
            merged[name] = value
    return merged


def _same_type(old: Mapping[str, Any], new: Mapping[str, Any]) -> bool:
    return "type" not in old or "type" not in new or old["type"] == new["type"]


def _upstream_name(
    name: str,
    request: MintRequest,
    deployment: Deployment,
    further: Mapping[str, Sequence[Deployment]],
) -> str:
    """Return what a deployment's provider calls a model.

    At Azure that is the name of a deployment of the same resource; so the same origin goes first,
    and then the same provider. A name that no group serves is the provider's own already.
    """
    if name == request.model:
        return deployment.upstream_model
    served = further.get(name, ())
    here = [d for d in served if d.origin == deployment.origin]
    near = [d for d in served if d.provider == deployment.provider]
    return next((d.upstream_model for d in (*here, *near)), name)


def _transcription(model: str) -> dict[str, Any]:
    return {"audio": {"input": {"transcription": {"model": model}}}}


def _for_transcription(session: Mapping[str, Any]) -> dict[str, Any]:
    """Return of an operator's session what a transcription session has, too."""
    kept = {name: value for name, value in session.items() if name in _TRANSCRIPTION_MEMBERS}
    if isinstance(audio := kept.get("audio"), Mapping):
        kept["audio"] = {name: value for name, value in audio.items() if name == "input"}
    return kept
