"""Programs that run inside a lab, and what they may do."""
