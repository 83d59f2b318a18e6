"""Client protocols that nobody ships: what the seam between APIs and all else must carry."""
