"""Small generated worlds whose true p(y | x) is known: what a model's claims are checked against."""

__all__: list[str] = []
