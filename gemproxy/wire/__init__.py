"""The two wire formats as msgspec Structs. Nothing here decides anything; only msgspec is imported."""
