"""Work with one program: export it, and generate text with its weights."""

__all__ = ["export_block", "generate_text"]
