"""What is said, by every client protocol and by Gemini. Pure: no I/O, no clock, no chance; ids and times come in."""
