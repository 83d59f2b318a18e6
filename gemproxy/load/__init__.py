"""No client hurts another: the memory that requests may take together, and how and where the heavy ones are served."""
