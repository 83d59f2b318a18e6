"""Where it goes: one dialect a file. Pure: ``ask`` writes a request, ``decode`` reads a frame, ``judge`` a refusal."""
