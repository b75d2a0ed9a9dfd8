"""What is measured beside the bridge, each a program: `python -m benchmarks.subjects.NAME PORT DIRECTORY`."""
