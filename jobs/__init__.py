"""The commands: parse, build one plan, run it, report."""
