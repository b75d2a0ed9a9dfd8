"""Parts of the bridge that make everything true again after a loss.

Imports the bridge's committer, clock and values, `store`, `protocol` and `rules`.
"""
