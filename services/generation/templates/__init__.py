"""The template language of prompts, and `.prompt` files."""
