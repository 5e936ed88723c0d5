"""How fast this board is: `edgekit-device bench`, measured with the parts that `run` is made of, in children."""
