"""What is measured beside the bridge; each is a program: `python -m benchmarks.subjects.NAME PORT DIRECTORY`."""
