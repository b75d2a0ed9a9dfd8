"""Device profiles: fleets of devices that publish their own availability, described in TOML.

`profile` has the words of a profile; `profile_files` loads and checks them; `shipped/` holds the shipped
ones. `fleet` turns one profile's messages into events; `sparkplug` and `homie5` add what no words describe.
`device_adapter` joins the fleets behind the adapter port. Imports `protocol`, `mqtt` and `rules`.
"""
