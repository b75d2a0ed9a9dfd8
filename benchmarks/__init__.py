"""Measurements of the bridge against references, in one run (`make bench`); see docs/performance.md."""
