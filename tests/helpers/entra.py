"""What Entra ID and the metadata service of a virtual machine answer, good or bad.

Shapes: POST /TENANT/oauth2/v2.0/token of the Microsoft identity platform, and GET
/metadata/identity/oauth2/token of Azure's instance metadata service.
"""

import json
import time
from typing import Final

from helpers.recording import JSON, Reply

TOKEN: Final = "eyJ0eXAiOiJKV1QifQ.eyJhdWQiOiJhenVyZSJ9.c2lnbmF0dXJl"
SCOPE: Final = "https://cognitiveservices.azure.com/.default"
RESOURCE: Final = "https://cognitiveservices.azure.com"


def login_reply(token: str = TOKEN, lifetime_s: int = 3600) -> Reply:
    """Return Entra ID's answer to a client secret or an assertion."""
    content = {
        "token_type": "Bearer",
        "expires_in": lifetime_s,
        "ext_expires_in": lifetime_s,
        "access_token": token,
    }
    return Reply(200, (JSON,), json.dumps(content).encode())


def identity_reply(token: str = TOKEN, lifetime_s: int = 86400) -> Reply:
    """Return the metadata service's answer, whose numbers are texts."""
    now = int(time.time())
    content = {
        "access_token": token,
        "client_id": "11111111-2222-3333-4444-555555555555",
        "expires_in": str(lifetime_s),
        "expires_on": str(now + lifetime_s),
        "ext_expires_in": str(lifetime_s),
        "not_before": str(now),
        "resource": RESOURCE,
        "token_type": "Bearer",
    }
    return Reply(200, (JSON,), json.dumps(content).encode())


def login_refusal(code: int = 7000215, quoted: str = "client-secret-marker") -> Reply:
    """Return Entra ID's refusal of a client secret, here with the secret itself."""
    content = {
        "error": "invalid_client",
        "error_description": f"AADSTS{code}: Invalid client secret provided: {quoted}.",
        "error_codes": [code],
        "correlation_id": "22222222-3333-4444-5555-666666666666",
    }
    return Reply(401, (JSON,), json.dumps(content).encode())
