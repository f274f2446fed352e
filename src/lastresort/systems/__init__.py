"""A system answers inputs. The same object is measured, gated, saved, loaded, chatted with and served."""
