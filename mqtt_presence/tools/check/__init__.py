"""The tool `check`: connects to a broker as a bridge and as a client, and tries its behaviour.

Imports the rooms from `bridge` downwards, and `tools.shipped_files`.
"""
