"""The server: who takes part, the one round loop, the state between rounds and its checkpoint."""
