"""Parts of the bridge that make everything true again after a loss. Imports `store`, `protocol`, `rules` and the bridge's own values."""
