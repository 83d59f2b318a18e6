"""gemproxy: the OpenAI API in front of Google's Gemini.

Read in this order: ``wiring/build`` -> ``server/handlers/operation`` (one request) -> ``dispatch/dispatcher`` (its
attempts) -> ``converter/events`` and ``converter/transcoder`` (what is said) -> ``pool/rotator`` (who serves).
"""

__version__ = "0.1.0"
