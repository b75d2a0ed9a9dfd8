"""Many users on real sockets: a seeded plan, what must come of it, and the edge that carries it out."""
