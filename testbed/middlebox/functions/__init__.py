"""The middlebox functions: every module in here is loaded and registers its own."""
