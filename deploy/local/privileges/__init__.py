"""What each process of the stack is given: environment variables, and its user of MongoDB."""
