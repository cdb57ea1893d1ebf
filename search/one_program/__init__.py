"""Work with one program: check it without training, and export it."""

__all__ = [
    "check_program",
    "export_block",
]
