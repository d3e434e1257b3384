"""How people sign in: sessions, throttled attempts."""
