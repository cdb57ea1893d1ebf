"""Text of the user: which files of a folder are read, in which formats, and how long documents are cut."""

__all__ = ["cutting", "documents", "formats", "text_files"]
