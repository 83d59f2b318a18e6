"""OpenAI's Responses API: requests, items and the events of a stream. Pure."""
