"""Glue for frameworks that own the loop: Hugging Face, Lightning, accelerate. Each module imports its own."""
