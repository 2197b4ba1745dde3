"""The data: storage, images, shards, and the Ray Data wiring over them."""
