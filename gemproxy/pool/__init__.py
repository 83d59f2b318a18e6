"""Who serves: the rotator decides (pure), tokens and state are its edges. Knows nothing of OpenAI."""
