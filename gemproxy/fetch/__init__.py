"""What a request names by its URL."""
