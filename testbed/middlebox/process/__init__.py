"""The process that carries packets through functions."""
