"""``POST transcription_sessions``: the retired API's way to a token, served by the current one."""

from dataclasses import replace
from typing import Final

from extauthz.decision import Decision, RequestFacts
from extauthz.endpoints.clientsecrets import ClientSecrets
from extauthz.transcriptionbody import parse_transcription_request, transcription_answer
from ringback.contract import TRANSCRIPTION_SESSIONS_PATHS


class TranscriptionSessions:
    """Mints tokens for sessions that transcribe.

    Args:
        client_secrets: Admits callers and mints.
    """

    name: Final = "transcription_sessions"

    def __init__(self, client_secrets: ClientSecrets) -> None:
        self._client_secrets = client_secrets

    def serves(self, request: RequestFacts) -> bool:
        """Tell whether a request is for this endpoint."""
        return request.method == "POST" and request.path in TRANSCRIPTION_SESSIONS_PATHS

    async def decide(self, request: RequestFacts) -> Decision:
        """Return the answer with the token, or why there is none."""
        answer = await self._client_secrets.mint(request, parse_transcription_request)
        if answer.status == 200:
            return replace(answer, body=transcription_answer(answer.body))
        return answer
