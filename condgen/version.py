"""The version of condgen, which checkpoints and plans hold."""

__all__ = ["__version__"]

__version__ = "0.2.0"
