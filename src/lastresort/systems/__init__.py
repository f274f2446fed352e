"""What answers an input: composed, saved, loaded; the one object that is measured, gated, chatted with and served."""
