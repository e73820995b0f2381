"""Every impairment of a link, each declared once."""
