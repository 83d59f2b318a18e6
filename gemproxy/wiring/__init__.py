"""A configuration in, the wired rooms out."""
