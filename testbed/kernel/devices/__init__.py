"""TUN and TAP devices, and how the kernel deals with what they are written."""
