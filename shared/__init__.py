"""What every service needs: the messages between them and the wiring under them."""
