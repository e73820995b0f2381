"""What a value may be, once."""
