"""The attempts of one request."""
