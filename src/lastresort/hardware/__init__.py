"""What this machine and a model's shape allow, known without loading weights."""
