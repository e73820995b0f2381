"""The container engine of this machine: images, containers, and their removal."""
