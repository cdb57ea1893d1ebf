"""Text to batches: sources, splits, tokenizer, the prepared dataset on disk, and batches drawn from it."""

__all__ = [
    "batches",
    "corpus",
    "dataset",
    "dataset_builder",
    "dataset_transfer",
    "near_duplicates",
    "preprocessing_jobs",
    "splits",
    "text_sources",
    "tfds_builder",
    "tfds_process",
    "tfds_sets",
    "token_sources",
    "tokenizer",
    "user_text",
    "user_tokenizers",
]
