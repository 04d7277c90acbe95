"""Check the text of an error."""

from __future__ import annotations

from worker_agent.protocol.errors import MutiTaskError


def sentence(error: MutiTaskError, *secrets: str) -> str:
    """Check that the error's text is one line without a password, and return it."""
    text = str(error)
    assert text and "\n" not in text and text == text.strip()
    assert not any(secret in text for secret in secrets)
    assert "Errno" not in text and "Traceback" not in text
    return text
