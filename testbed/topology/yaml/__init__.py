"""Text in, model out."""
