"""Who we are: files of credentials, tokens, projects."""
