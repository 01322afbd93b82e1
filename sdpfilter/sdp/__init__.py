"""A lossless model of session descriptions (RFC 8866): pure, no I/O, no rules of ours."""
