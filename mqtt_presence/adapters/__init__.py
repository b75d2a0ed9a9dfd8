"""Other people's topics, read: brokers' reports and device fleets. Imports `protocol`, `mqtt`, `rules`."""
