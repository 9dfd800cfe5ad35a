"""Tables: one recipe with a matrix of settings, run without doing the same work twice, with the statistics beside."""
