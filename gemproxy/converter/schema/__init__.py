"""JSON Schema, as far as Gemini takes it."""
