"""What each process of the stack is given: its environment variables, its passwords, and its user of MongoDB."""
