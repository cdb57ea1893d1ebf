"""Text of the user: which files of a folder are read, their formats, and where long documents are cut."""

__all__ = ["cutting", "documents", "formats", "text_files"]
