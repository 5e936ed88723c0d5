"""Text that leaves a board for a person's eyes, without what could open something."""

from __future__ import annotations

import re
from collections.abc import Iterable

HIDDEN = "***"
_PEM = re.compile(r"-----BEGIN [A-Z ]+-----.*?(?:-----END [A-Z ]+-----|\Z)", re.DOTALL)
# user:password@ in any address; an address without a password keeps its user name hidden as well.
_USER = re.compile(r"(?<=://)[^\s/?#@]*@")
# The fragment of an enrolment token, and what follows a word that names a secret.
_FRAGMENT = re.compile(r"(https?://[^\s#]+)#\S+")
_NAMED = re.compile(
    r"(?i)((?:pass(?:word|phrase|wd)?|secret|token|api[-_]?key|authorization|credential)s?[\"']?\s*(?:[=:]\s*|\s+is\s+))"
    r"(?:bearer\s+|basic\s+)?(?:\"[^\"]*\"|'[^']*'|[^\s,;&\"']+)"
)
_BEARER = re.compile(r"(?i)\b(bearer|basic)\s+[A-Za-z0-9._~+/=-]{6,}")
# Random text: long, in upper and lower case. Digests are hex and stay.
_RANDOM = re.compile(r"(?<![\w-])(?=[\w-]*[A-Z])(?=[\w-]*[a-z])[A-Za-z0-9_-]{32,}={0,2}")


def redact(text: str, known: Iterable[str] = ()) -> str:
    """Put `***` where a secret stands.

    Args:
        text: One or more lines.
        known: Secrets that this process knows, whatever they look like.
    """
    for secret in sorted(known, key=len, reverse=True):
        if len(secret) >= 4:
            text = text.replace(secret, HIDDEN)
    text = _PEM.sub(HIDDEN, text)
    text = _USER.sub(f"{HIDDEN}@", text)
    text = _FRAGMENT.sub(rf"\1#{HIDDEN}", text)
    text = _NAMED.sub(rf"\1{HIDDEN}", text)
    text = _BEARER.sub(rf"\1 {HIDDEN}", text)
    return _RANDOM.sub(HIDDEN, text)
