"""What is said: OpenAI <-> Gemini. Pure: no I/O, no clock, no randomness; ids and times are passed in."""
