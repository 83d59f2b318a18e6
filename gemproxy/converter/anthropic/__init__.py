"""Anthropic's Messages API: requests, blocks and the events of a stream. Pure."""
