"""Another kernel for one command: User-Mode Linux."""
