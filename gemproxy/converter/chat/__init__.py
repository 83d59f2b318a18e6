"""OpenAI's chat requests and answers."""
