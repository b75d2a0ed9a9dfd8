"""The bridge: from the broker's messages to committed records, statuses and events. Imports `adapters`, `store`, `access`, `protocol`, `mqtt`, `rules`."""
