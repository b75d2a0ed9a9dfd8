"""MQTT itself, in both versions: packets as bytes, codes in words. Of ours it may import `errors` alone."""
