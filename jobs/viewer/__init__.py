"""The front end of the pages that show images: style and script, without a build step.

page.css      what all pages share: colors for light and dark, tiles, tables, figures, controls
viewer.css    the viewer's controls, cards and dialog
report.js     the report's page: a viewer of what the page itself holds (embedded.js)
training.css  the charts, the slider and the tables of a training run
steps.js      the page of a training run: a slider over the steps of its sheets
gallery.js    the gallery's page: a viewer of what a server answers (remote.js)
viewer.js     the viewer: a grid of images from a source, with a selection and a dialog
toolbar.js    search, filters, orders and pages
grid.js       the card of an image, and of an error
compare.js    two images over each other, and the slider between them
dialog.js     one image at full size, with its row's values and commands
commands.js   commands to copy
theme.js      the switch between light and dark
dom.js        elements, and text from data
page.py       a self-contained page: style, script and data in one HTML file, under a strict policy
commands.py   the commands that a page offers
visible.py    text from data with escapes for characters that can't be seen
"""

__all__: list[str] = []
