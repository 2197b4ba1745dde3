"""The front end of the pages that show images: style and script, without a build step.

page.css      what all pages share: colors for light and dark, tiles, tables, figures, controls
theme.js      the switch between light and dark
page.py       a self-contained page: style, script and data in one HTML file, under a strict policy
"""

__all__: list[str] = []
