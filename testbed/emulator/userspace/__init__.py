"""The emulator that is a process of ours."""
