"""Small generated worlds whose true p(y | x) is known: what a model's claims are checked against.

ball.py      a moving ball: the next frame from one frame, with an unknown velocity
facades.py   layouts of house fronts, and photos of them
shapes.py    colored shapes from labels, captions and outlines
shirts.py    shirts of two colors from their luminance
stripes.py   striped quadrants from the directions of their stripes
two_sets.py  two unpaired sets of colored discs

``docs/chapter.md`` says what is trained on each, and what is claimed.
"""

__all__: list[str] = []
