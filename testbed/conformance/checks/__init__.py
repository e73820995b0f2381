"""One problem of RFC 2525 a module."""
