"""The images of results as files: `job` does all, `chunks` some draws files, `selected` the images of some keys."""
