"""What this machine can do, and what mends it."""
