"""The tool `init-broker`: writes a broker's configuration with passwords and certificates.

Imports `access`, `protocol`, `mqtt` and `tools.shipped_files`.
"""
