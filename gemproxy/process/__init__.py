"""One process from its start to its end: sockets, signals, the log."""
