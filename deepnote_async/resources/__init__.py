"""What the API offers: each method names one operation, checks its arguments and builds its path and body."""
