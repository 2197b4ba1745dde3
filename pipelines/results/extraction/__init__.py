"""The images of results as files: `job` does all of it, `chunks` some draws files."""
