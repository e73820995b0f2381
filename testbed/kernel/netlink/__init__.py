"""Netlink: requests, answers, and what they say of links, routes and qdiscs."""
