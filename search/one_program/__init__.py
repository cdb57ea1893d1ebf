"""What a user does with one program: export it, train its weights, generate text with them."""

__all__ = ["export_block", "generate_text", "train_weights"]
