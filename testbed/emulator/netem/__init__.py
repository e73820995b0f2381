"""The emulator that is made of the kernel's qdiscs."""
