"""Transfer learning on a folder of photos: what to hold out, what to feed, one loop that outlives kill -9."""
