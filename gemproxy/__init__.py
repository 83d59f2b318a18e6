"""gemproxy: the OpenAI API in front of Google's Gemini.

Read in this order: ``server/app`` (wiring) -> ``server/chat`` (one request) -> ``dispatch`` (attempts) ->
``converter/events`` and ``converter/transcoder`` (what is said) -> ``pool/rotator`` (who serves).
"""

__version__ = "0.1.0"
