"""Questions of the field, answered on one's own examples: how many a training needs, and from how many on it beats a prompt."""
