"""Gemini's side of a conversation, whatever API stands in front."""
