"""What calls to models used and cost, and the budgets that bound it (docs/architecture/usage.md)."""
