"""What is well on this host and what is not: facts are read at the edge, findings follow from them."""
