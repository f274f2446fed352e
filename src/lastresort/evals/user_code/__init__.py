"""Python that the user wrote, in a process of its own with limits of time, memory and processes."""
