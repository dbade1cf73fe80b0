"""Two controllers as processes, a real API server, and hosts that both reach."""
