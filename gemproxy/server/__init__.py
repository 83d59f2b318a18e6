"""The door: HTTP in, HTTP out. No decisions about content or credentials are made here."""
