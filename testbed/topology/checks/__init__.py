"""What a topology must satisfy beyond its single values."""
