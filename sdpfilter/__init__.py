"""The ext_proc service: checks and filters offers and answers."""
